"""``napari-seg score --objects``: how well objects are found."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from napari_seg.cli.pairs import Pair, shown, spatial_parts
from napari_seg.cli.report import Report, note, table
from napari_seg.errors import ImageError, InputError

if TYPE_CHECKING:
    from napari_seg.scoring.object_scores import ObjectScores

__all__ = ["report_objects"]

_RATIOS = ("pq", "sq", "rq", "ap50")
_COUNTS = ("true_positives", "false_positives", "false_negatives")


def report_objects(pairs: list[Pair]) -> Report:
    """Score the objects of all pairs together: counts first, ratios last.

    Raises
    ------
    InputError
        If a pair cannot be read or compared.
    """
    scores = reduce(add, (_score(pair) for pair in pairs))
    told = scores.to_dict()
    # All objects are of one class, so there is one row.
    values = {key: told[key][0] for key in (*_RATIOS, *_COUNTS)}
    matched, found, missed = (values[key] for key in _COUNTS)
    if matched + max(found, missed) <= len(pairs):
        note(
            "hardly a file holds more than one object; if these are masks of classes, "
            "leave out --objects, or number their objects, as predict --instances does."
        )
    ratios = (scores.pq, scores.sq, scores.rq, scores.ap)
    row = [
        *(shown(float(ratio[0])) for ratio in ratios),
        *(str(values[key]) for key in _COUNTS),
    ]
    text = table([("PQ", "SQ", "RQ", "AP50", "TP", "FP", "FN"), row])
    return Report(text, {**values, "files": len(pairs)})


def _score(pair: Pair) -> ObjectScores:
    """Score each plane, or each stack, of two files, and add them up."""
    from napari_seg.cli.files import read_picture
    from napari_seg.scoring.objects import score_objects
    from napari_seg.scoring.overlap import check_object_masks

    found, expected = (read_picture(path, colours=False) for path in pair)
    try:
        if found.rgb or expected.rgb:
            raise ImageError(
                "There are colours, and ids of objects are one number for each pixel; "
                "save them as TIFF of 16 or 32 bits."
            )
        check_object_masks(prediction=found.data, truth=expected.data)
        parts = spatial_parts(found, expected)
        return reduce(add, (score_objects(*part) for part in parts))
    except InputError as error:
        raise type(error)(f"{pair[0]} against {pair[1]}: {error}") from error
