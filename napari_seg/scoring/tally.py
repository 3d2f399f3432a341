"""How many pixels there are of each pair of values.

The one counting device of the project: a full recount, the live score and the ledger
of corrections all keep their sums in a :class:`Tally`.  It counts *every* pixel,
also unknown ones and ids that no class has yet; what is scored is decided when the
sums are read.  So adding a class needs no recount.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_CLASSES", "UNKNOWN", "Tally", "as_ids"]

UNKNOWN = 255
"""The label of a pixel that nobody vouches for: never trained on, never scored."""

MAX_CLASSES = UNKNOWN
"""Class ids run from 0 to 254, so that no class is called :data:`UNKNOWN`."""


def as_ids(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return integer labels as uint8; what is no class id becomes `UNKNOWN`.

    A uint8 array is returned as it is, without a copy.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    known = (values >= 0) & (values < UNKNOWN)
    return np.where(known, values, UNKNOWN).astype(np.uint8)


class Tally:
    """Counts of pairs (row, column), kept up to date by moving pixels.

    Parameters
    ----------
    rows : int
        Number of row values; columns are uint8 values and have 256.

    Attributes
    ----------
    counts : ndarray of int64, shape (rows, 256)
        Pixels per pair.  Exact up to 2**63.
    """

    def __init__(self, rows: int = 256) -> None:
        self.counts: NDArray[np.int64] = np.zeros((rows, 256), np.int64)

    def add(self, rows: NDArray[Any], columns: NDArray[np.uint8]) -> None:
        """Count the pixels in.  Cost follows their number."""
        self._count(np.add.at, rows, columns)

    def remove(self, rows: NDArray[Any], columns: NDArray[np.uint8]) -> None:
        """Count the pixels out."""
        self._count(np.subtract.at, rows, columns)

    def _count(
        self,
        operation: Callable[..., None],
        rows: NDArray[Any],
        columns: NDArray[np.uint8],
    ) -> None:
        # ufunc.at is as fast as bincount here, and makes no array of all pairs.
        pairs = rows.astype(np.intp)
        pairs <<= 8
        pairs |= columns
        operation(self.counts.reshape(-1), pairs.reshape(-1), 1)
