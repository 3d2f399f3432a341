"""Confusion matrix, IoU and Dice of one mask against another.

Sums first, ratios last: confusion matrices of tiles, strokes and images add up,
scores do not.  A class that is absent from both masks has no score (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.errors import LabelsError
from napari_seg.scoring.regions import as_box, split
from napari_seg.scoring.tally import MAX_CLASSES, UNKNOWN, Tally, as_ids

__all__ = [
    "UNKNOWN",
    "Scores",
    "as_array",
    "check_n_classes",
    "confusion_matrix",
    "mean_present",
    "plain_number",
    "score",
    "scored_block",
    "strict_ids",
]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores that one confusion matrix holds.

    Attributes
    ----------
    confusion : ndarray of int64, shape (K, K)
        Pixels; rows are the truth, columns the prediction.

    Notes
    -----
    With TP, FP and FN of a class, IoU = TP / (TP + FP + FN) (Jaccard 1912) and
    Dice = 2 TP / (2 TP + FP + FN) (Dice 1945, equal to the F1 score).
    """

    confusion: NDArray[np.int64]

    def __add__(self, other: Scores) -> Scores:
        """Return the scores of the pixels of both."""
        return Scores(self.confusion + other.confusion)

    @cached_property
    def _hits_and_sizes(self) -> list[tuple[int, int]]:
        """Per class: pixels in both, and those in the truth plus in the prediction.

        In plain numbers, as all that follows: it runs for every dab of the brush, on a
        handful of classes.
        """
        sizes = self.confusion.sum(0) + self.confusion.sum(1)
        hits = self.confusion.diagonal().tolist()
        return list(zip(hits, sizes.tolist(), strict=True))

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, (K,), NaN where absent from both."""
        found = self._hits_and_sizes
        return np.array([hit / (size - hit) if size else nan for hit, size in found])

    @cached_property
    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient per class, (K,), NaN where absent from both."""
        found = self._hits_and_sizes
        return np.array([2 * hit / size if size else nan for hit, size in found])

    @cached_property
    def mean_iou(self) -> float:
        """Mean IoU over the classes present; NaN without any."""
        return mean_present(self.iou)

    @cached_property
    def mean_dice(self) -> float:
        """Mean Dice over the classes present; NaN without any."""
        return mean_present(self.dice)

    @cached_property
    def pixel_accuracy(self) -> float:
        """Part of the scored pixels that agree; NaN without any."""
        hits = sum(hit for hit, _ in self._hits_and_sizes)
        return hits / self.pixels if self.pixels else nan

    @cached_property
    def pixels(self) -> int:
        """Number of scored pixels."""
        return int(self.confusion.sum())

    @cached_property
    def truth_pixels(self) -> NDArray[np.int64]:
        """Scored pixels per class of the truth, (K,)."""
        sizes: NDArray[np.int64] = self.confusion.sum(axis=1)
        return sizes

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and lists, None where there is no score.

        The keys are those of ``napari-seg score --json``.
        """
        return {
            "iou": [plain_number(value) for value in self.iou],
            "dice": [plain_number(value) for value in self.dice],
            "mean_iou": plain_number(self.mean_iou),
            "mean_dice": plain_number(self.mean_dice),
            "pixel_accuracy": plain_number(self.pixel_accuracy),
            "confusion": self.confusion.tolist(),
            "pixels": self.pixels,
        }


def mean_present(values: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN; NaN without any."""
    present = [value for value in values.tolist() if not isnan(value)]
    return sum(present) / len(present) if present else nan


def plain_number(value: float) -> float | None:
    """Return a score for JSON: None instead of NaN."""
    return None if isnan(value) else float(value)


def score(
    prediction: ArrayLike,
    truth: ArrayLike,
    n_classes: int | None = None,
    ignore: int = UNKNOWN,
) -> Scores:
    """Score a prediction against the truth.

    Parameters
    ----------
    prediction, truth : array of int or bool, same shape
        Class ids 0..K-1.
    n_classes : int, optional
        Number of classes K; by default one more than the largest id in either.
    ignore : int, default 255
        Pixels with this id in `truth` are left out.  Unknown pixels (255) are left
        out wherever they are, in `prediction` too.

    Returns
    -------
    Scores

    Raises
    ------
    LabelsError
        If shapes differ, a dtype is not integer, or an id is not below `n_classes`.
    """
    return Scores(confusion_matrix(prediction, truth, n_classes, ignore))


def confusion_matrix(
    prediction: ArrayLike,
    truth: ArrayLike,
    n_classes: int | None = None,
    ignore: int = UNKNOWN,
) -> NDArray[np.int64]:
    """Count the pixels of each pair of classes.

    Parameters and errors are those of :func:`score`.  Arrays that compute or read
    only what is sliced (dask, zarr, memory maps) are read piece by piece.

    Returns
    -------
    ndarray of int64, shape (K, K)
        Rows are the truth, columns the prediction.
    """
    found, expected = as_array(prediction), as_array(truth)
    if found.shape != expected.shape:
        raise LabelsError(
            f"The prediction has shape {found.shape}, the truth {expected.shape}; "
            "both must have the same shape to be compared."
        )
    _check_integer("prediction", found.dtype)
    _check_integer("truth", expected.dtype)
    if n_classes is not None:
        check_n_classes(n_classes)
    tally = Tally()
    for piece in split(as_box(None, found.shape)):
        rows = strict_ids("truth", np.asarray(expected[piece]), ignore)
        columns = strict_ids("prediction", np.asarray(found[piece]), UNKNOWN)
        tally.add(rows, columns)
    return _strict_block(tally.counts, n_classes, ignore)


def as_array(values: Any) -> Any:
    """Return `values`, as a numpy array unless it can be sliced like one."""
    if all(hasattr(values, name) for name in ("shape", "dtype", "__getitem__")):
        return np.atleast_1d(values) if values.shape == () else values
    return np.atleast_1d(np.asarray(values))


def _check_integer(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biu":
        raise LabelsError(
            f"The {name} has dtype {dtype}; class ids must be integers. Convert it, "
            "for example with astype('uint8')."
        )


def strict_ids(name: str, values: NDArray[Any], ignore: int) -> NDArray[np.uint8]:
    """Return uint8 ids; refuse what `as_ids` would silently call unknown."""
    if values.dtype not in (np.uint8, np.bool_):
        wrong = (values < 0) | (values > UNKNOWN)
        wrong &= values != ignore
        if wrong.any():
            raise LabelsError(
                f"The {name} holds the id {values[wrong][0]}; class ids can be 0 to "
                f"{MAX_CLASSES - 1}, and {UNKNOWN} where the class is unknown. An "
                "instance mask is scored by score_objects, or as classes with mask > 0."
            )
    return as_ids(values)


def check_n_classes(n_classes: int) -> int:
    """Return `n_classes`, or raise LabelsError unless it is 1 to 255."""
    if not 1 <= n_classes <= MAX_CLASSES:
        raise LabelsError(f"n_classes is {n_classes}; it can be 1 to {MAX_CLASSES}.")
    return n_classes


def scored_block(
    counts: NDArray[np.int64], n_classes: int, ignore: int = UNKNOWN
) -> NDArray[np.int64]:
    """Return the confusion matrix that a table of all pairs holds.

    Parameters
    ----------
    counts : ndarray of int64, shape (L, 256)
        Pixels per pair of truth (rows) and prediction (columns).
    n_classes : int
        Pairs with an id of `n_classes` or more, as `UNKNOWN` is, are left out.
    ignore : int
        Id of the truth that is left out, too.
    """
    block = counts[:n_classes, :n_classes].copy()
    if 0 <= ignore < n_classes:
        block[ignore] = 0
    return block


def _strict_block(
    counts: NDArray[np.int64], n_classes: int | None, ignore: int
) -> NDArray[np.int64]:
    truth_ids = _ids_in(counts.sum(axis=1), leave_out=(UNKNOWN, ignore))
    found_ids = _ids_in(counts.sum(axis=0), leave_out=(UNKNOWN,))
    if n_classes is None:
        n_classes = 1 + max([*truth_ids, *found_ids], default=0)
    for name, ids in (("prediction", found_ids), ("truth", truth_ids)):
        foreign = [i for i in ids if i >= n_classes]
        if foreign:
            raise LabelsError(
                f"The {name} holds the ids {foreign}, but there are {n_classes} "
                f"classes (0 to {n_classes - 1}); raise n_classes to "
                f"{max(foreign) + 1}, or mark these pixels as unknown ({UNKNOWN})."
            )
    return scored_block(counts, n_classes, ignore)


def _ids_in(totals: NDArray[np.int64], leave_out: Sequence[int]) -> list[int]:
    return [int(i) for i in np.flatnonzero(totals) if i not in leave_out]
