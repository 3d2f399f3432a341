"""One object becomes several: at its waist, or along a line that a person draws."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.draw import line
from skimage.measure import label
from skimage.segmentation import watershed

from napari_seg.objects.follow import spread
from napari_seg.objects.summits import summits

__all__ = ["cut_along", "cut_at_waist", "drawn_pixels", "largest_first"]

#: Least rise of the lower bump above the waist, in pixels of distance to the border:
#: below it there are no bumps but those of the pixels' corners.
_RISE = 0.1
_HALVINGS = 12
_SIDES = ndimage.generate_binary_structure(2, 1)


def cut_at_waist(mask: NDArray[np.bool_]) -> NDArray[np.int32] | None:
    """Cut an object in two at its most likely waist.

    The seeds are the two maxima of the distance to the border between which it falls
    most, measured from the lower one (its dynamic: Grimaud 1992): the threshold that
    `split_by_shape` fixes is lowered until there are two.

    Parameters
    ----------
    mask : (Y, X) ndarray of bool
        The object.

    Returns
    -------
    (Y, X) ndarray of int32 or None
        1 for the larger part, 2 for the other one, 0 elsewhere; None if the object
        has no waist.
    """
    inside = np.pad(mask, 1)
    distance = ndimage.distance_transform_edt(inside).round(6)
    low, high = _RISE, float(distance.max())
    seeds = _bumps(distance, low)
    if seeds.max() < 2:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _bumps(distance, middle)
        if found.max() < 2:
            high = middle
        else:
            low, seeds = middle, found
    if seeds.max() > 2:
        # Bumps of the same height: those of the two that are largest.
        heights = ndimage.maximum(distance, seeds, range(1, seeds.max() + 1))
        first, second = np.argsort(-np.asarray(heights), kind="stable")[:2] + 1
        seeds = np.where(seeds == first, 1, np.where(seeds == second, 2, 0))
    parts = _flooded(distance, seeds, inside)[1:-1, 1:-1]
    return largest_first(np.where(mask, parts, 0))


def _bumps(distance: NDArray[np.float64], rise: float) -> NDArray[np.int32]:
    """Return the maxima that rise above the saddle to a higher one, numbered."""
    components = label(distance > 0, connectivity=2)
    peaks = summits(distance, lambda height: (height - rise).round(6), components)
    numbers: NDArray[np.int32] = label(peaks, connectivity=2).astype(np.int32)
    return numbers


def _flooded(
    distance: NDArray[np.float64], seeds: NDArray[Any], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    flooded: NDArray[np.int32] = watershed(
        -distance, seeds.astype(np.int32), mask=mask, connectivity=2
    )
    return flooded


def cut_along(
    mask: NDArray[np.bool_], path: NDArray[np.bool_]
) -> NDArray[np.int32] | None:
    """Cut an object along a line.

    Parameters
    ----------
    mask : (Y, X) ndarray of bool
        The object.
    path : (Y, X) ndarray of bool
        Pixels of the line, as :func:`drawn_pixels` returns them.

    Returns
    -------
    (Y, X) ndarray of int32 or None
        1 for the largest part, 2 for the next …, 0 elsewhere.  None if the line does
        not divide the object.
    """
    before = label(mask, connectivity=2).max()
    parts = label(mask & ~path, connectivity=2).astype(np.int32)
    if parts.max() <= before:
        return None
    return largest_first(np.where(mask, spread(parts, mask), 0))


def drawn_pixels(
    points: ArrayLike, corner: Sequence[int], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the pixels of a line through points, without gaps at corners.

    Parameters
    ----------
    points : array of float, (N, 2)
        Y and X.
    corner : (y, x)
        Of the window that is looked at.
    shape : (height, width)
        Of the window.
    """
    drawn = np.zeros(shape, bool)
    at = np.rint(np.asarray(points, float)).astype(int) - np.asarray(corner)
    for (y0, x0), (y1, x1) in pairwise(at):
        rows, columns = line(y0, x0, y1, x1)
        seen = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        drawn[rows[seen], columns[seen]] = True
    # Diagonal neighbours are connected, and would slip through.
    widened: NDArray[np.bool_] = ndimage.binary_dilation(drawn, _SIDES)
    return widened


def largest_first(parts: NDArray[Any]) -> NDArray[np.int32]:
    """Return the parts with other numbers, the largest one with 1."""
    sizes = np.bincount(parts.ravel())[1:]
    rank = np.zeros(len(sizes) + 1, np.int32)
    rank[np.argsort(-sizes, kind="stable") + 1] = np.arange(1, len(sizes) + 1)
    ranked: NDArray[np.int32] = rank[parts]
    return ranked
