"""What the score table says of objects: a number, and what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import NamedTuple

from qtpy.QtWidgets import QCheckBox

from napari_seg.scoring.confusion import mean_present
from napari_seg.scoring.object_scores import ObjectScores
from napari_seg.workspace.words import quantity

__all__ = ["OBJECT_COLUMNS", "ObjectCell", "object_cells", "object_check"]

#: Columns and their meaning.
OBJECT_COLUMNS = {
    "PQ": "Panoptic quality: SQ, the mean IoU of the objects that match (IoU above "
    "0.5), times RQ, the F1 score of objects.",
    "AP": "At an IoU of 0.5: matches / (matches + invented + missed objects). It is "
    "not COCO's AP, which needs objects ranked by confidence.",
}


class ObjectCell(NamedTuple):
    """One cell.

    Attributes
    ----------
    text : str
        What it shows.
    share : float
        Length of the bar behind it, 0 to 1; NaN for none.
    meaning : str
        Its tooltip.
    """

    text: str
    share: float
    meaning: str


def object_check() -> QCheckBox:
    """Return the switch for the columns of objects."""
    check = QCheckBox("Objects (PQ, AP)")
    check.setObjectName("score_objects_check")
    check.setAccessibleName("Score objects, too")
    check.setProperty(
        "hint",
        "Count objects, too: whether each was found, missed, merged or invented. In "
        "the prediction and in the mask alike, connected pixels of a countable class "
        "are one object; touching ones are not told apart. Takes memory and a moment.",
    )
    return check


def object_cells(
    names: Sequence[str],
    countable: Sequence[bool],
    scores: ObjectScores | None,
    reason: str,
    *,
    counting: bool,
) -> list[tuple[ObjectCell, ObjectCell]]:
    """Return PQ and AP for each class, and for the mean.

    Parameters
    ----------
    names, countable : sequence
        Of the classes.
    scores : ObjectScores or None
        What there is to show.
    reason : str
        Why there is nothing.
    counting : bool
        Whether there will be something soon.
    """
    if scores is None or len(scores.pq) != len(names):
        nothing = ObjectCell("…" if counting else "–", nan, reason)
        cells = [(nothing, nothing)] * len(names)
        mean = (nothing, nothing)
    else:
        cells = [_class_cells(scores, i) for i in range(len(names))]
        means = [mean_present(each) for each in (scores.sq, scores.rq)]
        words = f"Over the classes with objects: {_parts(*means)}"
        mean = _pair(scores.mean_pq, scores.mean_ap, words)
    for class_id, name in enumerate(names):
        if not countable[class_id]:
            cells[class_id] = (ObjectCell("–", nan, _uncounted(class_id, name)),) * 2
    return [*cells, mean]


def _class_cells(scores: ObjectScores, class_id: int) -> tuple[ObjectCell, ObjectCell]:
    counts = scores.counts
    words = (
        f"{_parts(scores.sq[class_id], scores.rq[class_id])}\n"
        f"{quantity(int(counts.true_positives[class_id]))} objects match, "
        f"{quantity(int(counts.false_positives[class_id]))} only the model has, "
        f"{quantity(int(counts.false_negatives[class_id]))} it missed."
    )
    return _pair(float(scores.pq[class_id]), float(scores.ap[class_id]), words)


def _pair(pq: float, ap: float, words: str) -> tuple[ObjectCell, ObjectCell]:
    if isnan(pq):
        nothing = "There are no objects to count here, in neither mask."
        return (ObjectCell("–", nan, nothing),) * 2
    return ObjectCell(f"{pq:.3f}", pq, words), ObjectCell(f"{ap:.3f}", ap, words)


def _parts(sq: float, rq: float) -> str:
    return f"SQ {sq:.3f} (mean IoU of matches), RQ {rq:.3f} (F1 of objects)"


def _uncounted(class_id: int, name: str) -> str:
    if not class_id:
        return "The background has no objects."
    return f"{name} is not countable: click on # in the list of classes to change that."
