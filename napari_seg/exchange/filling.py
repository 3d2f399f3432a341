"""Polygons of any program → pixels: those whose centres lie inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError

__all__ = ["Filled", "as_ring", "fill"]

#: Rows, columns, and which of their pixels are inside.
Filled: TypeAlias = tuple[slice, slice, NDArray[np.bool_]]

#: Of the border with the middles of rows; 1 GB is needed for these.
_MOST_CROSSINGS = 2**25
_FARTHEST = 2.0**31


def as_ring(points: Any) -> NDArray[np.float64]:
    """Return the corners of a polygon of another program, (N, 2), x before y.

    Raises
    ------
    InputError
        If these are no three points or more, or not finite.
    """
    try:
        ring = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        ring = np.empty(0)
    if ring.ndim != 2 or ring.shape[1] not in (2, 3) or len(ring) < 3:
        raise InputError(
            "A polygon is no list of three points or more, each with x and y; save the "
            "file anew."
        )
    if not (np.abs(ring) < _FARTHEST).all():
        raise InputError(
            "A polygon has corners that are no numbers, or so far away that no image "
            "reaches there; save the file anew."
        )
    return ring[:, :2]


def fill(
    rings: Sequence[NDArray[Any]], shape: tuple[int, int], name: str
) -> Filled | None:
    """Return the pixels inside of rings, by the even-odd rule: holes are left out.

    Parameters
    ----------
    rings : sequence of ndarray, shape (N, 2)
        Corners, x and y in pixels; the upper left corner of the image is (0, 0).
    shape : tuple of int
        Height and width of the image; what lies outside is cut off.
    name : str
        What to call the polygon in messages.

    Returns
    -------
    tuple of slice, slice and ndarray of bool, or None
        Rows, columns and their pixels; None if no centre of a pixel is inside.

    Raises
    ------
    InputError
        If all of it lies outside of the image, or it is too large to be one object.
    """
    start = np.concatenate(rings).astype(np.float64)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    (left, top), (right, bottom) = start.min(axis=0), start.max(axis=0)
    height, width = shape
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise InputError(
            f"{name} lies outside of the image of {height} × {width} pixels, at x "
            f"{left:g} to {right:g}, y {top:g} to {bottom:g}; give the image that the "
            "file belongs to."
        )
    rows = slice(_centre(top, height), _centre(bottom, height))
    columns = slice(_centre(left, width), _centre(right, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    y, x = _crossings(start, end.astype(np.float64), rows, name)
    column = np.clip(np.ceil(x - 0.5), columns.start, columns.stop).astype(np.int64)
    length = columns.stop - columns.start + 1
    crossed = np.zeros((rows.stop - rows.start, length), np.uint8)
    np.add.at(crossed.ravel(), (y - rows.start) * length + column - columns.start, 1)
    np.bitwise_xor.accumulate(crossed & 1, axis=1, out=crossed)
    inside = crossed[:, :-1].astype(bool)
    return (rows, columns, inside) if inside.any() else None


def _centre(edge: float, length: int) -> int:
    """Return the first pixel of an axis whose centre is not before `edge`."""
    return int(np.clip(np.ceil(edge - 0.5), 0, length))


def _crossings(
    start: NDArray[np.float64], end: NDArray[np.float64], rows: slice, name: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return rows, and where lines from `start` to `end` cross their middles."""
    low = np.minimum(start[:, 1], end[:, 1])
    high = np.maximum(start[:, 1], end[:, 1])
    first, stop = (
        np.clip(np.ceil(y - 0.5), rows.start, rows.stop).astype(np.int64)
        for y in (low, high)
    )
    count = stop - first
    if int(count.sum()) > _MOST_CROSSINGS:
        raise InputError(
            f"{name} has a border of more than {_MOST_CROSSINGS:,} pixels; simplify "
            "it, or cut the image into parts."
        )
    line = np.repeat(np.arange(len(count)), count)
    passed = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
    y = first[line] + passed
    rise = end[line, 1] - start[line, 1]
    along = (y + 0.5 - start[line, 1]) / rise
    return y, start[line, 0] + along * (end[line, 0] - start[line, 0])
