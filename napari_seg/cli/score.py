"""``napari-seg score``: IoU and Dice of masks against the truth, and of outlines."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import product
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_seg.cli.arguments import add_json
from napari_seg.cli.report import Report, note, table
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.cli.files import Picture
    from napari_seg.scoring.boundary import BoundaryScores
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
    parser.add_argument(
        "--boundary",
        type=float,
        metavar="TOLERANCE",
        help="also score the outlines, by boundary IoU and normalized surface "
        "distance: how far they may lie apart, in pixels or in the unit of "
        "--pixel-size",
    )
    parser.add_argument(
        "--pixel-size",
        type=_sizes,
        metavar="SIZE",
        help="for --boundary, such as 0.65 (micrometres), or 2,0.65,0.65 for Z,Y,X",
    )
    add_json(parser)


def _sizes(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(size) for size in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pixel size; give a number such as 0.65, or one for each "
            "axis such as 2,0.65,0.65"
        ) from None


def run(given: argparse.Namespace) -> Report:
    """Score all pairs together: sums first, ratios last."""
    from napari_seg.scoring.confusion import Scores

    if given.pixel_size is not None and given.boundary is None:
        raise InputError("--pixel-size goes with --boundary; give a tolerance, too.")
    pairs = _pairs(given.prediction, given.truth)
    measured = [_measure(pair, given) for pair in pairs]
    scores = Scores(_sum(counts for counts, _ in measured))
    outlines = [outline for _, outline in measured if outline is not None]
    total = reduce(add, outlines) if outlines else None
    if scores.pixels == 0:
        note(
            "no pixel is known in the truth, where 255 means unknown; a mask of 0 and "
            "255 becomes one of 0 and 1 by mask > 0."
        )
    more = {"pixel_size": given.pixel_size, **total.to_dict()} if total else {}
    values = {**scores.to_dict(), **more, "files": len(pairs)}
    return Report(_text(scores, total), values)


def _pairs(prediction: Path, truth: Path) -> list[Pair]:
    from napari_seg.cli.labelled import pair_by_name
    from napari_seg.folders import bare_name, images_in, is_zarr

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


def _measure(
    pair: Pair, given: argparse.Namespace
) -> tuple[Any, BoundaryScores | None]:
    """Return the confusion matrix of two files and, if asked, what outlines sum to."""
    from napari_seg.cli.files import read_picture
    from napari_seg.scoring.confusion import confusion_matrix

    found, expected = (read_picture(path, colours=False) for path in pair)
    try:
        counts = confusion_matrix(
            found.data, expected.data, given.classes, given.ignore
        )
        if given.boundary is None:
            return counts, None
        return counts, _outlines(found, expected, len(counts), given)
    except InputError as error:
        message = str(error).replace("n_classes", "--classes")
        raise type(error)(f"{pair[0]} against {pair[1]}: {message}") from error


def _outlines(
    found: Picture, expected: Picture, n_classes: int, given: argparse.Namespace
) -> BoundaryScores:
    """Score the outlines of each plane, or of each stack, and add them up."""
    from napari_seg.scoring.boundary import boundary_scores

    ndim = len(expected.data.shape)
    axes = expected.axes or found.axes or "TZYX".rjust(ndim, "Q")[-ndim:]
    parts = zip(_spatial(found.data, axes), _spatial(expected.data, axes), strict=True)
    return reduce(
        add,
        (
            boundary_scores(
                *part, given.boundary, n_classes, given.ignore, spacing=given.pixel_size
            )
            for part in parts
        ),
    )


def _spatial(data: Any, axes: str) -> Iterator[Any]:
    """Yield the planes, or stacks along Z, of an array with these axes."""
    steps: list[Iterable[Any]] = [
        (slice(None),) if letter in "ZYX" else range(length)
        for letter, length in zip(axes, data.shape, strict=True)
    ]
    for place in product(*steps):
        yield np.asarray(data[place])


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


def _text(scores: Scores, outlines: BoundaryScores | None) -> str:
    columns = {"IoU": scores.iou, "Dice": scores.dice}
    means = [scores.mean_iou, scores.mean_dice]
    if outlines is not None:
        columns |= {"boundary IoU": outlines.boundary_iou, "NSD": outlines.nsd}
        means += [outlines.mean_boundary_iou, outlines.mean_nsd]
    rows = [
        (str(number), *map(_shown, values), str(pixels))
        for number, (*values, pixels) in enumerate(
            zip(*columns.values(), scores.truth_pixels, strict=True)
        )
    ]
    mean = ("mean", *map(_shown, means), str(scores.pixels))
    return table([("class", *columns, "pixels"), *rows, mean])


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"
