"""``napari-seg score``: IoU and Dice of masks against the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_seg.cli.arguments import add_json
from napari_seg.cli.report import Report, note, table
from napari_seg.errors import InputError, LabelsError

if TYPE_CHECKING:
    from napari_seg.scoring.confusion import Scores

__all__ = ["add_arguments", "run"]

Pair = tuple[Path, Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("prediction", type=Path, help="mask, or folder of masks")
    parser.add_argument(
        "truth",
        type=Path,
        help="mask, or folder of masks; files pair by name, a_mask.tif with a.tif",
    )
    parser.add_argument(
        "--classes",
        type=int,
        metavar="K",
        help="number of classes (default: up to the largest id)",
    )
    parser.add_argument(
        "--ignore",
        type=int,
        default=255,
        metavar="ID",
        help="id of the truth that is left out (default: 255); 255 always is",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """Score all pairs together: sums first, ratios last."""
    from napari_seg.scoring.confusion import Scores

    pairs = _pairs(given.prediction, given.truth)
    counts = [_confusion(pair, given.classes, given.ignore) for pair in pairs]
    scores = Scores(_sum(counts))
    if scores.pixels == 0:
        note(
            "no pixel is known in the truth, where 255 means unknown; a mask of 0 and "
            "255 becomes one of 0 and 1 by mask > 0."
        )
    return Report(_text(scores), {**scores.to_dict(), "files": len(pairs)})


def _pairs(prediction: Path, truth: Path) -> list[Pair]:
    from napari_seg.cli.files import bare_name, images_in, is_zarr
    from napari_seg.cli.labelled import pair_by_name

    for path in (prediction, truth):
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.")
    folders = [path.is_dir() and not is_zarr(path) for path in (prediction, truth)]
    if folders[0] != folders[1]:
        raise InputError("Give two files or two folders, the prediction first.")
    if not folders[0]:
        return [(prediction, truth)]
    others = ("_confidence", "_instances")
    masks = [
        path for path in images_in(prediction) if not bare_name(path).endswith(others)
    ]
    return pair_by_name(masks, images_in(truth), "truth")


def _confusion(pair: Pair, n_classes: int | None, ignore: int) -> Any:
    from napari_seg.cli.files import read_picture
    from napari_seg.scoring.confusion import confusion_matrix

    found, expected = (read_picture(path, colours=False).data for path in pair)
    try:
        return confusion_matrix(found, expected, n_classes, ignore)
    except LabelsError as error:
        message = str(error).replace("n_classes", "--classes")
        raise LabelsError(f"{pair[0]} against {pair[1]}: {message}") from error


def _sum(counts: Iterable[Any]) -> Any:
    """Add confusion matrices; each has as many classes as its own files."""
    total = np.zeros((1, 1), np.int64)
    for matrix in counts:
        size = max(len(total), len(matrix))
        grown = np.zeros((size, size), np.int64)
        for part in (total, matrix):
            grown[: len(part), : len(part)] += part
        total = grown
    return total


def _text(scores: Scores) -> str:
    rows = [
        (str(number), _shown(iou), _shown(dice), str(pixels))
        for number, (iou, dice, pixels) in enumerate(
            zip(scores.iou, scores.dice, scores.truth_pixels, strict=True)
        )
    ]
    mean = ("mean", _shown(scores.mean_iou), _shown(scores.mean_dice))
    return table(
        [("class", "IoU", "Dice", "pixels"), *rows, (*mean, str(scores.pixels))]
    )


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"
