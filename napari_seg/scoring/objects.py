"""Object ids × object ids → scores: one array of objects against another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from napari_seg.errors import LabelsError
from napari_seg.scoring.confusion import as_array, check_n_classes, strict_ids
from napari_seg.scoring.matching import Matching
from napari_seg.scoring.object_scores import ObjectCounts, ObjectScores
from napari_seg.scoring.overlap import (
    Overlaps,
    as_object_ids,
    check_object_masks,
    count_overlaps,
    merge_overlaps,
    no_classes,
)
from napari_seg.scoring.regions import Box, as_box, split
from napari_seg.scoring.sides import Rules
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["check_n_rows", "largest_class", "score_objects"]


def score_objects(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    prediction_labels: ArrayLike | None = None,
    truth_labels: ArrayLike | None = None,
    n_classes: int | None = None,
    ignore: int = UNKNOWN,
    threshold: float = 0.5,
) -> ObjectScores:
    """Score predicted objects against the true ones.

    With both class masks an object has the class that most of its pixels have (of
    several the one with the smallest id), and only objects of one class can match.
    Otherwise all objects are of one class, and a single class mask only tells where
    pixels are unknown.

    Unknown pixels are handled as void ones are by Kirillov et al. (Sec. 4.2): they
    are left out of objects, overlaps and unions, and an object without a match of
    which a larger part than `threshold` is unknown counts nothing.  Here this goes
    both ways, so that true objects mostly where nothing was predicted are no misses.

    Parameters
    ----------
    prediction, truth : array of int or bool, same shape
        Object ids of any axes, 0 for none.  Pixels of one id are one object, whether
        they touch or not, so time steps with ids of their own are scored one by one
        and added.  Arrays that read what is sliced (dask, zarr) are read in pieces.
    prediction_labels, truth_labels : array of int or bool, same shape, optional
        Class ids 0..K-1; 255 is unknown, in either.
    n_classes : int, optional
        Number of classes K, with both class masks only; by default one more than the
        largest class id in either.
    ignore : int, default 255
        Class id of `truth_labels` that is unknown, too.
    threshold : float, default 0.5
        IoU above which two objects match; 0.5 to below 1.

    Returns
    -------
    ObjectScores
        With one row for each class, the background included, which mostly has no
        objects; or with one row of all objects.

    Raises
    ------
    LabelsError
        If shapes differ, a dtype is not integer, or an id is out of range.
    InputError
        If `threshold` is.
    """
    classes = (prediction_labels, truth_labels)
    by_class = all(given is not None for given in classes)
    check_n_rows(n_classes, by_class)
    found, expected = as_array(prediction), as_array(truth)
    masks = {"prediction": found, "truth": expected}
    for name, given in zip(("prediction", "truth"), classes, strict=True):
        key = f"{name}_labels"
        masks[key] = no_classes(found.shape) if given is None else as_array(given)
    check_object_masks(**masks)
    overlaps = _count(masks, ignore)
    if by_class:
        n_classes = _checked_classes(overlaps, n_classes, ignore)
    matching = Matching(Rules.of(n_classes, ignore, threshold))
    matching.move(overlaps)
    matching.settle()
    return ObjectScores(ObjectCounts.of(matching))


def check_n_rows(n_classes: int | None, by_class: bool) -> None:
    """Raise LabelsError unless a number of classes fits what masks there are."""
    if n_classes is None:
        return
    if not by_class:
        raise LabelsError(
            "n_classes goes with the class masks of both; without them all objects "
            "are of one class. Give both, or leave n_classes out."
        )
    check_n_classes(n_classes)


def largest_class(overlaps: Overlaps, ignore: int) -> int:
    """Return the largest class id in a table; 0 where all are unknown."""
    found = overlaps.predicted_label[overlaps.predicted_label != UNKNOWN]
    true = overlaps.true_label
    true = true[(true != UNKNOWN) & (true != ignore)]
    return max(int(labels.max(initial=0)) for labels in (found, true))


def _count(masks: Mapping[str, Any], ignore: int) -> Overlaps:
    found, expected, found_labels, expected_labels = masks.values()

    def table(piece: Box) -> Overlaps:
        return count_overlaps(
            as_object_ids(np.asarray(found[piece])),
            as_object_ids(np.asarray(expected[piece])),
            strict_ids("prediction", np.asarray(found_labels[piece]), UNKNOWN),
            strict_ids("truth", np.asarray(expected_labels[piece]), ignore),
        )

    pieces = split(as_box(None, found.shape))
    return merge_overlaps(table(piece) for piece in pieces)


def _checked_classes(overlaps: Overlaps, n_classes: int | None, ignore: int) -> int:
    """Return the number of classes, or refuse ids that it does not allow."""
    largest = largest_class(overlaps, ignore)
    if n_classes is None:
        return largest + 1
    if largest >= n_classes:
        raise LabelsError(
            f"The class masks hold the id {largest}, but there are {n_classes} classes "
            f"(0 to {n_classes - 1}); raise n_classes to {largest + 1}, or mark these "
            f"pixels as unknown ({UNKNOWN})."
        )
    return n_classes
