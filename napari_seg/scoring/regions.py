"""Boxes: rectangular parts of an n-dimensional array, as tuples of slices.

A box has one slice of step 1 per axis, with both ends inside the array.  Work on
large boxes is done piece by piece (:func:`split`), so that no temporary array is as
large as the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from types import EllipsisType
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError

__all__ = [
    "PIECE",
    "Box",
    "Region",
    "as_box",
    "box_shape",
    "changed_box",
    "grown",
    "hull",
    "intersection",
    "pixels",
    "relative",
    "split",
    "union",
    "wider",
]

Box: TypeAlias = tuple[slice, ...]
Index: TypeAlias = int | slice | EllipsisType
Region: TypeAlias = Index | tuple[Index, ...] | None

PIECE = 1 << 18
"""Pixels worked on at once: the temporaries of one piece stay in the L2 cache."""


def as_box(region: Region, shape: tuple[int, ...]) -> Box:
    """Return the smallest box that contains what ``array[region]`` selects.

    Parameters
    ----------
    region : int, slice, Ellipsis, a tuple of these, or None
        Read as numpy reads it: negative numbers count from the end, slices are
        clipped to the array, missing axes are whole.  None is the whole array.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    tuple of slice
        One slice of step 1 per axis.

    Raises
    ------
    InputError
        If `region` has too many axes, an index outside of the array, or an entry
        of another kind.
    """
    if region is None:
        return tuple(slice(0, n) for n in shape)
    if isinstance(region, tuple) and _is_box(region, shape):
        return region
    entries = region if isinstance(region, tuple) else (region,)
    given = [entry for entry in entries if entry is not Ellipsis]
    missing = len(shape) - len(given)
    if missing < 0 or len(entries) - len(given) > 1:
        raise InputError(
            f"The region {region!r} does not fit an array of {len(shape)} axes; "
            "give at most one slice per axis."
        )
    at = next((i for i, e in enumerate(entries) if e is Ellipsis), len(given))
    whole: list[Index] = [slice(None)] * missing
    full = [*given[:at], *whole, *given[at:]]
    return tuple(_as_slice(entry, n) for entry, n in zip(full, shape, strict=True))


def _is_box(region: tuple[Any, ...], shape: tuple[int, ...]) -> TypeGuard[Box]:
    # Most regions are; reading them as numpy does would take ten times as long.
    return len(region) == len(shape) and all(
        type(side) is slice
        and side.step is None
        and type(side.start) is int
        and type(side.stop) is int
        and 0 <= side.start <= side.stop <= length
        for side, length in zip(region, shape, strict=True)
    )


def _as_slice(entry: Any, length: int) -> slice:
    if isinstance(entry, slice):
        start, stop, step = entry.indices(length)
        if step == 1:
            return slice(start, max(start, stop))
        taken = range(start, stop, step)
        if not taken:
            return slice(0, 0)
        return slice(min(taken[0], taken[-1]), max(taken[0], taken[-1]) + 1)
    if isinstance(entry, (int, np.integer)) and not isinstance(entry, bool):
        if not -length <= entry < length:
            raise InputError(
                f"The index {entry} lies outside of an axis of {length} pixels."
            )
        start = int(entry) % length
        return slice(start, start + 1)
    raise InputError(
        f"A region cannot hold {entry!r}; give a tuple of slices and integers."
    )


def box_shape(box: Box) -> tuple[int, ...]:
    """Return the shape of the array that `box` selects."""
    return tuple(s.stop - s.start for s in box)


def pixels(box: Box) -> int:
    """Return the number of pixels in `box`."""
    return prod(box_shape(box))


def split(box: Box, limit: int = PIECE) -> Iterator[Box]:
    """Cut `box` into boxes of at most about `limit` pixels, in C order.

    A row along the last axis longer than `limit` is cut, too.  An empty box yields
    nothing.
    """
    size = pixels(box)
    if size == 0:
        return
    if size <= limit:
        yield box
        return
    axis = next(i for i, n in enumerate(box_shape(box)) if n > 1)
    cut = box[axis]
    step = max(1, limit * (cut.stop - cut.start) // size)
    for start in range(cut.start, cut.stop, step):
        part = slice(start, min(start + step, cut.stop))
        yield from split((*box[:axis], part, *box[axis + 1 :]), limit)


def changed_box(changed: NDArray[np.bool_], origin: Box) -> Box | None:
    """Return the smallest box that holds every True pixel, or None without any.

    Parameters
    ----------
    changed : ndarray of bool
        The pixels of the box `origin`.
    origin : tuple of slice
        Where `changed` lies; the result is in the same coordinates.
    """
    if not changed.size:
        return None
    found = []
    for axis, place in enumerate(origin):
        others = tuple(i for i in range(changed.ndim) if i != axis)
        hits = np.flatnonzero(changed.any(axis=others))
        if not len(hits):
            return None
        first, last = int(hits[0]), int(hits[-1])
        found.append(slice(place.start + first, place.start + last + 1))
    return tuple(found)


def union(first: Box | None, second: Box | None) -> Box | None:
    """Return the smallest box that holds both; None is the empty box."""
    if first is None or second is None:
        return first if second is None else second
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )


def hull(boxes: Iterable[Box]) -> Box | None:
    """Return the smallest box that holds all of them, None without any."""
    found: Box | None = None
    for box in boxes:
        found = union(found, box)
    return found


def intersection(first: Box, second: Box) -> Box | None:
    """Return the box that lies in both, or None where they do not meet."""
    both = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return None if any(s.stop <= s.start for s in both) else both


def relative(box: Box, origin: Box) -> Box:
    """Return `box` in the coordinates of the array ``array[origin]``."""
    return tuple(
        slice(s.start - o.start, s.stop - o.start)
        for s, o in zip(box, origin, strict=True)
    )


def grown(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """Return a box with `margin` pixels more on each side, as far as there are any."""
    return tuple(
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(box, shape, strict=True)
    )


def wider(window: Box, mask: NDArray[np.bool_], shape: tuple[int, ...]) -> Box:
    """Return a window twice as far towards each border that the mask in it touches."""
    sides = []
    for axis, side in enumerate(window):
        length = side.stop - side.start
        first, last = (bool(mask.take(at, axis).any()) for at in (0, -1))
        start = max(0, side.start - length) if first else side.start
        stop = min(shape[axis], side.stop + length) if last else side.stop
        sides.append(slice(start, stop))
    return tuple(sides)
