"""Objects merged, split and deleted by a person: what becomes of which pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from napari_seg.objects.cutting import (
    cut_along,
    cut_at_waist,
    drawn_pixels,
    largest_first,
)
from napari_seg.objects.extent import pixels_of
from napari_seg.objects.follow import is_object
from napari_seg.scoring.regions import Box, grown

if TYPE_CHECKING:
    from napari_seg.workspace.numbered import Numbered
    from napari_seg.workspace.steps import Marks

__all__ = [
    "Edit",
    "NotEdited",
    "classes_of_edit",
    "deleted",
    "merged",
    "number_at",
    "split",
]

Place = tuple[int, ...]
"""A pixel of the mask, an index along each axis."""


class NotEdited(Exception):
    """Nothing was done; the message says why, and what would work."""


@dataclass(frozen=True, eq=False)
class Edit:
    """New numbers of pixels.

    Attributes
    ----------
    where : tuple of (N,) ndarray of int
        Indices along each axis.
    numbers : (N,) ndarray of uint32
        What they are to be.
    words : str
        What was done.
    """

    where: tuple[NDArray[np.intp], ...]
    numbers: NDArray[np.uint32]
    words: str


def number_at(ids: NDArray[np.uint32], place: Place) -> int:
    """Return the number of the object at a place, 0 for none."""
    inside = all(0 <= at < length for at, length in zip(place, ids.shape, strict=True))
    return int(ids[place]) if inside else 0


def merged(
    numbered: Numbered, labels: NDArray[np.uint8], places: Sequence[Place]
) -> Edit:
    """Return the edit that makes one object of those at some places.

    Raises
    ------
    NotEdited
        If they are fewer than two, or of different classes.
    """
    ids = numbered.ids
    found: dict[int, Place] = {}
    for place in places:
        found.setdefault(number_at(ids, place), place)
    found.pop(0, None)
    if len(found) < 2:
        raise NotEdited(
            "Only one object was touched: click on two, or drag from one to the other."
        )
    if len({int(labels[place]) for place in found.values()}) > 1:
        raise NotEdited(
            "These objects are of different classes, and an object has one: paint one "
            "of them in the other's class first."
        )
    kept, *others = found
    parts = [_pixels(numbered, number, found[number]) for number in others]
    where = tuple(np.concatenate(each) for each in zip(*parts, strict=True))
    numbers = np.full(len(where[0]), kept, np.uint32)
    names = ", ".join(map(str, others))
    return Edit(where, numbers, f"Object {names} is a part of object {kept} now.")


def deleted(numbered: Numbered, place: Place) -> Edit:
    """Return the edit that takes the object at a place away.

    Raises
    ------
    NotEdited
        If there is none.
    """
    number = _needed(numbered, place)
    where = _pixels(numbered, number, place)
    numbers = np.zeros(len(where[0]), np.uint32)
    return Edit(where, numbers, f"Object {number} is background now.")


def split(numbered: Numbered, path: Sequence[Place] | NDArray[np.float64]) -> Edit:
    """Return the edit that cuts an object.

    Through the slices of a stack the cut goes straight on: each pixel there belongs to
    the part that is next to it, seen from above.

    Parameters
    ----------
    numbered : Numbered
        The objects.
    path : (N, ndim) array of float
        One place: the object there is cut at its waist.  Several, of one plane: the
        object below most of the line through them is cut along it.

    Raises
    ------
    NotEdited
        If there is no object, no waist, or the line does not divide the object.
    """
    points = np.asarray(path, float)
    plane: Place = tuple(int(at) for at in np.rint(points[0, :-2]))
    place = (*plane, *(int(at) for at in np.rint(points[0, -2:])))
    if len(points) > 1:
        place = _below(numbered.ids, plane, points[:, -2:])
    number = _needed(numbered, place)
    where = _pixels(numbered, number, place)
    box = grown(
        tuple(slice(int(at.min()), int(at.max()) + 1) for at in where[-2:]),
        1,
        numbered.ids.shape[-2:],
    )
    mask = numbered.ids[plane][box] == number
    parts = _parts(mask, points[:, -2:], box)
    belongs = _straight_on(parts, where, plane, box)
    new = belongs > 1
    numbers = (numbered.last + belongs[new] - 1).astype(np.uint32)
    names = ", ".join(str(numbered.last + i) for i in range(1, int(parts.max())))
    words = f"Object {number} was cut: the other part is object {names}."
    return Edit(tuple(each[new] for each in where), numbers, words)


def _parts(
    mask: NDArray[np.bool_], points: NDArray[np.float64], box: Box
) -> NDArray[np.int32]:
    """Return the parts of an object, the largest first."""
    corner = [side.start for side in box]
    if len(points) > 1:
        path = drawn_pixels(points, corner, mask.shape)
        cut = cut_along(mask, path)
        if cut is None:
            raise NotEdited(
                "The line does not divide an object: draw it across one, from outside "
                "to outside."
            )
        return cut
    apart, count = label(mask, np.ones((3, 3)))
    if count > 1:
        return largest_first(apart)
    cut = cut_at_waist(mask)
    if cut is None:
        raise NotEdited("This object has no waist: drag a line across it instead.")
    return cut


def _straight_on(
    parts: NDArray[np.int32],
    where: tuple[NDArray[np.intp], ...],
    plane: Place,
    box: Box,
) -> NDArray[np.int64]:
    """Return to which part each pixel of an object belongs, in all of its slices."""
    *_, rows, columns = where
    at = (rows - box[0].start, columns - box[1].start)
    if not plane:
        here: NDArray[np.int64] = parts[at].astype(np.int64)
        return here
    _, nearest = distance_transform_edt(parts == 0, return_indices=True)
    below: NDArray[np.int64] = parts[tuple(nearest)][at].astype(np.int64)
    return below


def _below(ids: NDArray[np.uint32], plane: Place, points: NDArray[np.float64]) -> Place:
    """Return a place in the object over which most of a line lies."""
    shape = ids.shape[-2:]
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, shape)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 2, 0, shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    path = drawn_pixels(points, low, tuple(high - low))
    under = np.where(path, ids[plane][box], 0)
    numbers, counts = np.unique(under[under > 0], return_counts=True)
    if not len(numbers):
        raise NotEdited("There is no object here: draw the line across one.")
    y, x = np.argwhere(under == numbers[counts.argmax()])[0] + low
    return (*plane, int(y), int(x))


def _needed(numbered: Numbered, place: Place) -> int:
    number = number_at(numbered.ids, place)
    if not number:
        raise NotEdited("There is no object here: click on one.")
    return number


def _pixels(
    numbered: Numbered, number: int, place: Place
) -> tuple[NDArray[np.intp], ...]:
    return pixels_of(numbered.ids, number, place, numbered.areas[number])


def classes_of_edit(
    numbered: Numbered, labels: NDArray[np.uint8], marks: Marks, brush: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return what the mask has to be where somebody has changed numbers.

    Parameters
    ----------
    numbered : Numbered
        The objects as they are now.
    labels : ndarray of uint8
        The mask.
    marks : Marks
        Pixels that have other numbers now, and those before.
    brush : int
        The class of what is a new object.

    Returns
    -------
    where : (N,) ndarray of int64
        Places in the flattened mask at which it has to be changed.
    classes : (N,) ndarray of uint8
        The new labels there.
    """
    now = numbered.ids.reshape(-1)[marks.where]
    are = labels.reshape(-1)[marks.where]
    wanted = numbered.recalled(marks.where, marks.before)
    if wanted is None:
        wanted = are.copy()
        wanted[now == 0] = 0
        for number in np.unique(now[now > 0]).tolist():
            kind = _class_of(numbered, labels, number, marks.where, brush)
            wanted[now == number] = kind
    changed = (wanted != are) & (now != marks.before)
    return marks.where[changed], wanted[changed]


def _class_of(
    numbered: Numbered,
    labels: NDArray[np.uint8],
    number: int,
    painted: NDArray[np.int64],
    brush: int,
) -> int:
    """Return the class of an object, by its pixels that nobody has just painted."""
    ids = numbered.ids
    here = painted[ids.reshape(-1)[painted] == number]
    if numbered.areas[number] > len(here):
        point = tuple(int(at) for at in np.unravel_index(here[0], ids.shape))
        where = pixels_of(ids, number, point, numbered.areas[number])
        flat = np.ravel_multi_index(where, ids.shape)
        kept = labels.reshape(-1)[flat[~np.isin(flat, here)]]
        kept = kept[is_object(kept)]
        if len(kept):
            return int(np.bincount(kept).argmax())
    # Parts of what was an object already have their class.
    known = labels.reshape(-1)[here]
    known = known[is_object(known)]
    return int(np.bincount(known).argmax()) if len(known) else brush
