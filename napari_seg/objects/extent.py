"""How far an object reaches, found at a cost that follows the object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from napari_seg.scoring.regions import Box, box_shape, grown, pixels, relative, wider

__all__ = ["LARGEST", "object_parts", "pixels_of"]

#: Pixels of the largest window that is looked at: beyond it, it takes seconds.
LARGEST = 1 << 26
_CONNECTED = np.ones((3, 3), bool)


def object_parts(
    plane: NDArray[np.uint32], number: int, box: Box
) -> tuple[Box, NDArray[np.int32]] | None:
    """Return the connected parts of an object that reach into a box.

    Parameters
    ----------
    plane : (Y, X) ndarray of uint32
        Numbers of objects.
    number : int
        Which object.
    box : tuple of slice
        Where its parts are looked for; they are followed from there.

    Returns
    -------
    (window, parts) or None
        A box around all of them, and in it 1, 2 … for each part, diagonals included,
        0 elsewhere.  Only a part that meets `box` is sure to be there as a whole.
        None if the window would have more than `LARGEST` pixels.
    """
    window = box
    while pixels(window) <= LARGEST:
        parts, _ = label(plane[window] == number, _CONNECTED)
        met = np.unique(parts[relative(box, window)])
        larger = wider(window, np.isin(parts, met[met > 0]), plane.shape)
        if larger == window:
            return window, parts
        window = larger
    return None


def pixels_of(
    ids: NDArray[np.uint32],
    number: int,
    point: tuple[int, ...],
    count: int,
) -> tuple[NDArray[Any], ...]:
    """Return all pixels of an object, wherever its parts are.

    Parameters
    ----------
    ids : (..., Y, X) ndarray of uint32
        Numbers of objects.
    number : int
        Which object.
    point : tuple of int
        One of its pixels: the search begins there.
    count : int
        Pixels that it has: the search ends when all are found.

    Returns
    -------
    tuple of (N,) ndarray of int
        Indices along each axis.
    """
    margin = 32
    box = grown(tuple(slice(p, p + 1) for p in point), margin, ids.shape)
    while True:
        found = np.nonzero(ids[box] == number)
        everything = box_shape(box) == ids.shape
        if len(found[0]) >= count or everything:
            break
        margin *= 2
        box = grown(box, margin, ids.shape)
    return tuple(place + side.start for place, side in zip(found, box, strict=True))
