"""How many pixels each pair of objects shares: the sparse table below object scores.

Of N × M pairs of objects few touch, so the table lists those that do.  It counts
*every* pixel, with the class labels that it has in both masks; what is known, and
which class an object has, is decided when the table is read.  Neighbouring pixels
mostly belong to the same pair: the table is made from the runs of equal pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import LabelsError

__all__ = [
    "Overlaps",
    "as_object_ids",
    "check_object_masks",
    "count_overlaps",
    "merge_overlaps",
    "no_classes",
]

_LARGEST = np.iinfo(np.uint32).max
_NARROW = (np.bool_, np.uint8, np.uint16, np.uint32)


class Overlaps(NamedTuple):
    """Pixels per combination of two object ids and two class labels.

    Attributes
    ----------
    predicted, true : ndarray of uint32, shape (N,)
        Object ids, 0 for none.
    predicted_label, true_label : ndarray of uint8, shape (N,)
        Class labels of these pixels, 255 for unknown.
    pixels : ndarray of int64, shape (N,)
        How many; above 0.
    """

    predicted: NDArray[np.uint32]
    true: NDArray[np.uint32]
    predicted_label: NDArray[np.uint8]
    true_label: NDArray[np.uint8]
    pixels: NDArray[np.int64]


def count_overlaps(
    predicted: NDArray[np.uint32],
    true: NDArray[np.uint32],
    predicted_label: NDArray[np.uint8],
    true_label: NDArray[np.uint8],
) -> Overlaps:
    """Return the table of all pixels of four arrays of the same shape."""
    columns = [
        np.ravel(column) for column in (predicted, true, predicted_label, true_label)
    ]
    size = columns[0].size
    starts = np.zeros(size, bool)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=size)
    return _grouped([column[first] for column in columns], lengths)


def merge_overlaps(tables: Iterable[Overlaps]) -> Overlaps:
    """Return the table of the pixels of all tables."""
    none, no_labels = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    empty = Overlaps(none, none, no_labels, no_labels, np.zeros(0, np.int64))
    columns = [np.concatenate(column) for column in zip(empty, *tables, strict=True)]
    *columns, pixels = columns
    return _grouped(columns, pixels)


def _grouped(columns: Sequence[NDArray[Any]], pixels: NDArray[np.int64]) -> Overlaps:
    """Sum the pixels of equal rows."""
    predicted, true, predicted_label, true_label = columns
    # Ids and labels together have 80 bits, so pairs of ids are numbered first.
    pairs = predicted.astype(np.uint64) << np.uint64(32) | true
    numbers = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    keys = numbers << 16 | predicted_label.astype(np.int64) << 8 | true_label
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    sums = np.zeros(len(first), np.int64)
    np.add.at(sums, group, pixels)
    return Overlaps(
        predicted[first], true[first], predicted_label[first], true_label[first], sums
    )


def as_object_ids(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Return object ids as uint32; such an array is returned without a copy.

    Raises
    ------
    LabelsError
        If an id does not fit into uint32.
    """
    narrow = values.dtype in _NARROW
    if not narrow and values.size and not 0 <= values.min() <= values.max() <= _LARGEST:
        wrong = values.min() if values.min() < 0 else values.max()
        raise LabelsError(
            f"The objects have the id {wrong}; ids can be 1 to {_LARGEST}, and 0 "
            "where there is no object."
        )
    return values.astype(np.uint32, copy=False)


def no_classes(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the class mask of objects without one: read-only, of one byte."""
    return np.broadcast_to(np.uint8(0), shape)


def check_object_masks(**masks: Any) -> None:
    """Refuse arrays, by name, of different shapes or of other than integers.

    Raises
    ------
    LabelsError
        If they do not fit together.
    """
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise LabelsError(f"The shapes differ ({told}); all must be the same.")
    for name, mask in masks.items():
        if mask.dtype.kind not in "biu":
            raise LabelsError(
                f"{name} has dtype {mask.dtype}; ids must be integers. Convert it, for "
                "example with astype('uint32')."
            )
