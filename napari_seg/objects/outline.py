"""What follows from the outline of objects: perimeter and convex hull.

Both come from counts of single pixels and their neighbours, so that the parts of an
object that lie in different blocks add up to the very numbers of the whole object.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HALO",
    "PERIMETER_WEIGHTS",
    "convex_areas",
    "corner_pixels",
    "perimeter_kinds",
]

HALO = 2
"""Pixels around a block that :func:`perimeter_kinds` needs."""

PERIMETER_WEIGHTS = (1.0, sqrt(2), (1 + sqrt(2)) / 2)
"""Length of an outline in a pixel of kind 1, 2 and 3, in pixels."""

# Twice the neighbours across a side, ten times those across a corner, and one for the
# pixel itself: each of these sums is a shape of the outline.
_KINDS = np.zeros(50, np.uint8)
_KINDS[[5, 7, 15, 17, 25, 27]] = 1
_KINDS[[21, 33]] = 2
_KINDS[[13, 23]] = 3

_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_DIAGONALS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def perimeter_kinds(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Sort the pixels of outlines by what they add to the perimeter.

    The estimate is that of Benkrid, Crookes & Benkrid, "Design and FPGA
    implementation of a perimeter estimator" (2000), as `skimage.measure.perimeter`
    computes it with four neighbours; here for all objects at once.

    Parameters
    ----------
    ids : ndarray of int, shape (Y + 4, X + 4)
        Ids of objects with a frame of two pixels around what is asked for.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        Index + 1 into :data:`PERIMETER_WEIGHTS`; 0 adds nothing.
    """
    own = _shifted(ids, (0, 0), 1)
    rim = np.zeros(own.shape, bool)
    for side in _SIDES:
        rim |= _shifted(ids, side, 1) != own
    # From here on the inside of objects counts as nothing.
    outline = np.where(rim, own, 0)
    core = _shifted(outline, (0, 0), 1)
    sums = np.ones(core.shape, np.uint8)
    for weight, neighbours in ((2, _SIDES), (10, _DIAGONALS)):
        for place in neighbours:
            sums += weight * (_shifted(outline, place, 1) == core).astype(np.uint8)
    return np.where(core > 0, _KINDS[sums], np.uint8(0))


def corner_pixels(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the pixels of objects that can be corners of their convex hulls.

    Parameters
    ----------
    ids : ndarray of int, shape (Y + 2, X + 2)
        With a frame of one pixel.

    Returns
    -------
    ndarray of bool, shape (Y, X)
    """
    own = _shifted(ids, (0, 0), 1)
    up, down, left, right = (_shifted(ids, side, 1) != own for side in _SIDES)
    return np.asarray((own > 0) & (up | down) & (left | right))


def convex_areas(
    codes: NDArray[np.int64],
    rows: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count the pixels inside the convex hull of each object.

    As `skimage.morphology.convex_hull_image`: the hull is that of the middles of the
    pixels' sides, and what lies on it is inside.  In halves of pixels these are whole
    numbers, and nothing is rounded.

    Parameters
    ----------
    codes : ndarray of int64, shape (N,)
        Objects, numbered from 0 without gaps.
    rows, left, right : ndarray of int64, shape (N,)
        Rows of the objects with the first and the last column of each; rows in which
        no hull can have a corner may be missing.  Sorted by object, then by row.

    Returns
    -------
    ndarray of int64, shape (objects,)
    """
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = np.append(starts[1:], len(codes))
    top, heights = rows[starts], rows[ends - 1] - rows[starts] + 1
    every = np.repeat(np.arange(len(starts)), heights)
    within = np.arange(len(every)) - np.repeat(np.cumsum(heights) - heights, heights)
    place = every, top[every] + within
    first = _first_inside(codes, rows, left, *place)
    last = -_first_inside(codes, rows, -right, *place)
    return np.bincount(every, last - first + 1).astype(np.int64)


def _first_inside(
    codes: NDArray[np.int64],
    rows: NDArray[np.int64],
    left: NDArray[np.int64],
    code: NDArray[np.int64],
    row: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the first column inside the hull of `code`, in each `row`."""
    y = np.concatenate([2 * rows, 2 * rows - 1, 2 * rows + 1])
    x = np.concatenate([2 * left - 1, 2 * left, 2 * left])
    all_codes = np.tile(codes, 3)
    order = np.lexsort((x, y, all_codes))
    height = int(rows.max()) * 2 + 3
    keys = all_codes[order] * height + y[order] + 1
    leftmost = np.flatnonzero(np.diff(keys, prepend=-1))
    order, keys = order[leftmost], keys[leftmost]
    kept = _envelope(all_codes[order], y[order], x[order])
    keys, y, x = keys[kept], y[order][kept], x[order][kept]
    at = np.searchsorted(keys, code * height + 2 * row + 1, "right") - 1
    dy, dx = y[at + 1] - y[at], x[at + 1] - x[at]
    # Upwards to a whole column.
    return np.asarray(-((-(x[at] * dy + dx * (2 * row - y[at]))) // (2 * dy)))


def _envelope(
    codes: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Return the indices of the points that are corners on the left of each hull.

    A point that is not left of the line between its neighbours is none, whichever
    others go with it: all of them go at once, until there is none.
    """
    kept = np.arange(len(codes))
    while True:
        before, here, after = kept[:-2], kept[1:-1], kept[2:]
        inner = codes[before] == codes[after]
        dy, dx = y[after] - y[before], x[after] - x[before]
        inside = dy * (x[here] - x[before]) >= dx * (y[here] - y[before])
        gone = inner & inside
        if not gone.any():
            return kept
        kept = np.delete(kept, np.flatnonzero(gone) + 1)


def _shifted(
    array: NDArray[np.integer], by: tuple[int, int], frame: int
) -> NDArray[np.integer]:
    """Return the array without its frame, moved by up to the frame's width."""
    height, width = array.shape
    y, x = by
    return array[frame + y : height - frame + y, frame + x : width - frame + x]
