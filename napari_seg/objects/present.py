"""Which numbers occur in an array, and how often.

`np.unique` needs half a second for a million pixels; where numbers are not much larger
than the array, a table of them needs some milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["counted", "merge_sorted", "present"]

_PIECE = 1 << 22
#: Entries of a table that are always affordable, and those for each pixel.
_TABLE, _MORE = 1 << 12, 16


def present(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers above 0 that occur, sorted."""
    highest = int(numbers.max(initial=0))
    if highest > _TABLE + _MORE * numbers.size:
        found = np.unique(numbers).astype(np.int64)
        return found[found > 0]
    occurs = np.zeros(highest + 1, bool)
    occurs[numbers] = True
    occurs[0] = False
    return np.flatnonzero(occurs)


def counted(numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers above 0 that occur, sorted, and how often each does."""
    highest = int(numbers.max(initial=0))
    if highest > _TABLE + _MORE * numbers.size:
        names, found = np.unique(numbers, return_counts=True)
        there = names > 0
        return names[there].astype(np.int64), found[there]
    counts = np.zeros(highest + 1, np.int64)
    flat = numbers.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        counts += np.bincount(flat[start : start + _PIECE], minlength=len(counts))
    counts[0] = 0
    places = np.flatnonzero(counts)
    return places, counts[places]


def merge_sorted(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return what occurs in either of two sorted arrays, once, sorted."""
    if np.array_equal(first, second):
        return first
    # Sorting stably is fast where much is sorted already.
    both = np.sort(np.concatenate([first, second]), kind="stable")
    return both[np.diff(both, prepend=-1) > 0]
