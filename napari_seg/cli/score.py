"""``napari-seg score``: masks against the truth, their outlines, and objects."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_seg.cli.arguments import add_json
from napari_seg.cli.pairs import Pair, mask_pairs, shown, spatial_parts
from napari_seg.cli.report import Report, note, table
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.cli.files import Picture
    from napari_seg.scoring.boundary import BoundaryScores
    from napari_seg.scoring.confusion import Scores

__all__ = ["add_arguments", "run"]

#: More classes than anybody tells apart by hand.
_MANY = 30


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
    parser.add_argument(
        "--objects",
        action="store_true",
        help="the files hold ids of objects, 0 for none, such as predict --instances "
        "writes: panoptic quality (PQ, SQ, RQ) and average precision at an IoU of 0.5",
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
    if given.objects:
        return _run_objects(given)
    pairs = mask_pairs(given.prediction, given.truth)
    measured = [_measure(pair, given) for pair in pairs]
    scores = Scores(_sum(counts for counts, _ in measured))
    outlines = [outline for _, outline in measured if outline is not None]
    total = reduce(add, outlines) if outlines else None
    if len(scores.truth_pixels) > _MANY:
        note(
            f"{len(scores.truth_pixels)} classes are many; if these are numbers of "
            "objects, score them with --objects."
        )
    if scores.pixels == 0:
        note(
            "no pixel is known in the truth, where 255 means unknown; a mask of 0 and "
            "255 becomes one of 0 and 1 by mask > 0."
        )
    more = {"pixel_size": given.pixel_size, **total.to_dict()} if total else {}
    values = {**scores.to_dict(), **more, "files": len(pairs)}
    return Report(_text(scores, total), values)


def _run_objects(given: argparse.Namespace) -> Report:
    from napari_seg.cli.objects import report_objects

    options = {
        "--classes": given.classes,
        "--ignore": given.ignore,
        "--boundary": given.boundary,
        "--pixel-size": given.pixel_size,
    }
    for option, value in options.items():
        if value is not None:
            raise InputError(
                f"{option} is for masks of classes, and with --objects the files hold "
                f"ids of objects; leave out one of the two."
            )
    return report_objects(mask_pairs(given.prediction, given.truth, objects=True))


def _ignored(given: argparse.Namespace) -> int:
    return 255 if given.ignore is None else int(given.ignore)


def _measure(
    pair: Pair, given: argparse.Namespace
) -> tuple[Any, BoundaryScores | None]:
    """Return the confusion matrix of two files and, if asked, what outlines sum to."""
    from napari_seg.cli.files import read_picture
    from napari_seg.scoring.confusion import confusion_matrix

    found, expected = (read_picture(path, colours=False) for path in pair)
    try:
        counts = confusion_matrix(
            found.data, expected.data, given.classes, _ignored(given)
        )
        if given.boundary is None:
            return counts, None
        return counts, _outlines(found, expected, len(counts), given)
    except InputError as error:
        message = str(error).replace("n_classes", "--classes")
        message = message.replace("by score_objects", "with --objects")
        raise type(error)(f"{pair[0]} against {pair[1]}: {message}") from error


def _outlines(
    found: Picture, expected: Picture, n_classes: int, given: argparse.Namespace
) -> BoundaryScores:
    """Score the outlines of each plane, or of each stack, and add them up."""
    from napari_seg.scoring.boundary import boundary_scores

    return reduce(
        add,
        (
            boundary_scores(
                *part,
                given.boundary,
                n_classes,
                _ignored(given),
                spacing=given.pixel_size,
            )
            for part in spatial_parts(found, expected)
        ),
    )


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
        (str(number), *map(shown, values), str(pixels))
        for number, (*values, pixels) in enumerate(
            zip(*columns.values(), scores.truth_pixels, strict=True)
        )
    ]
    mean = ("mean", *map(shown, means), str(scores.pixels))
    return table([("class", *columns, "pixels"), *rows, mean])
