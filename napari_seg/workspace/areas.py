"""Parts of a plane that a user points at, found at a cost that follows the part."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.scoring.regions import (
    Box,
    as_box,
    box_shape,
    changed_box,
    pixels,
    relative,
    split,
    wider,
)

__all__ = ["PIECE", "Area", "find_object", "polygon_areas"]

Area: TypeAlias = tuple[Box, NDArray[np.bool_] | None]
"""A box of the mask, and which of its pixels are meant; None is all of them."""

PIECE = 1 << 20
"""Pixels of a large part that are worked on in one step: about a frame's time."""

_WINDOW = 128
"""Side of the first window in which an object is looked for."""
_LARGEST = 1 << 26
"""Pixels of the largest such window: beyond it, following an object takes seconds."""


def find_object(
    plane: NDArray[np.uint8], point: tuple[int, int]
) -> tuple[Box, NDArray[np.bool_]] | None:
    """Return the connected pixels of one label around a point.

    Parameters
    ----------
    plane : ndarray of uint8, (Y, X)
        The labels.
    point : (y, x)
        A pixel of the object.

    Returns
    -------
    (box, mask) or None
        The smallest box that holds the object, and its pixels, which touch each
        other by sides or corners.  None if its box has more than about 67 million
        pixels.

    Notes
    -----
    The window that is looked at grows until the object no longer touches its border:
    the cost follows the object, never the plane.
    """
    from scipy.ndimage import label

    window = as_box(_around(point), plane.shape)
    while pixels(window) <= _LARGEST:
        start = tuple(p - s.start for p, s in zip(point, window, strict=True))
        same = plane[window] == plane[point]
        numbered, _ = label(same, np.ones((3, 3), np.bool_))
        mask: NDArray[np.bool_] = numbered == numbered[start]
        larger = wider(window, mask, plane.shape)
        if larger == window:
            box = changed_box(mask, window)
            assert box is not None
            return box, mask[relative(box, window)]
        window = larger
    return None


def _around(point: tuple[int, int]) -> Box:
    half = _WINDOW // 2
    return tuple(slice(max(0, p - half), p + half) for p in point)


def polygon_areas(vertices: ArrayLike, shape: tuple[int, int]) -> list[Area]:
    """Return the pixels whose centres lie in a polygon, in bands of rows.

    Parameters
    ----------
    vertices : array of float, (N, 2)
        Y and X of the corners.  Where the polygon crosses itself, what is enclosed
        twice is outside.
    shape : (height, width)
        Of the plane.

    Returns
    -------
    list of (box, mask)
        Only bands in which there are such pixels.
    """
    corners = np.asarray(vertices, float).reshape(-1, 2)
    if len(corners) < 3:
        return []
    ends = np.stack([np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1])
    ends = np.clip(ends, 0, shape).astype(int)
    around = tuple(slice(int(low), int(high)) for low, high in ends.T)
    areas: list[Area] = []
    for band in split(around, PIECE):
        mask = _inside(corners, band)
        box = changed_box(mask, band)
        if box is not None:
            areas.append((box, mask[relative(box, band)]))
    return areas


def _inside(corners: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """Return which pixels of a box lie in a polygon.

    Along a row, each side of the polygon that the row crosses is where inside and
    outside change places.
    """
    rows, columns = box
    height, width = box_shape(box)
    (y0, x0), (y1, x1) = corners.T, np.roll(corners, -1, axis=0).T
    y = np.arange(rows.start, rows.stop)
    row, side = np.nonzero((y0 <= y[:, None]) != (y1 <= y[:, None]))
    along = (y[row] - y0[side]) / (y1 - y0)[side]
    x = np.ceil(x0[side] + along * (x1 - x0)[side]) - columns.start
    changes = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(changes, (row, np.clip(x, 0, width).astype(int)), 1)
    inside = np.bitwise_xor.accumulate(changes, axis=1)[:, :-1]
    return inside.view(np.bool_)
