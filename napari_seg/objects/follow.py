"""Objects keep their numbers while the mask below them is edited.

The rule, for the pixels of an edit and what lies next to them:

- what became background or unknown has no number;
- new pixels of a class take the number of the object of that class that they touch,
  diagonals included; of several, each takes that of the nearest, measured within the
  new pixels; if they touch none, they are a new object;
- of an object that was cut the largest part keeps the number, the others get new ones;
- everything else keeps its number, and none is ever given twice.

Stacks are worked on plane by plane.  What would get a new number in a slice goes on
with the object that it overlaps most in a neighbouring slice, unless that one is in the
slice already.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.ndimage import label as label_mask
from skimage.measure import label
from skimage.segmentation import watershed

from napari_seg.objects.components import BLOCK
from napari_seg.objects.extent import object_parts
from napari_seg.objects.instances import SMALLEST
from napari_seg.objects.present import counted, present
from napari_seg.scoring.regions import (
    Box,
    as_box,
    changed_box,
    grown,
    intersection,
    relative,
    split,
)
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["Renumbered", "follow", "is_object", "reconcile", "spread"]

#: Pixels around an edit that are looked at: specks that were left out as too small
#: lie within, and become a part of what is painted to them.
_AROUND = SMALLEST


@dataclass(frozen=True, eq=False)
class Renumbered:
    """Which pixels have other numbers than before.

    Attributes
    ----------
    where : (N,) ndarray of int64
        Pixels, as places in the flattened array; each once.
    before : (N,) ndarray of uint32
        Their numbers before.
    last : int
        The highest number that was ever given.
    """

    where: NDArray[np.int64]
    before: NDArray[np.uint32]
    last: int


def is_object(
    labels: NDArray[np.uint8], countable: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which pixels of a mask can be a part of an object."""
    known: NDArray[np.bool_] = (labels != 0) & (labels != UNKNOWN)
    return known if countable is None else known & countable[labels]


def follow(
    ids: NDArray[np.uint32],
    labels: NDArray[np.uint8],
    box: Box,
    before: NDArray[np.uint8],
    last: int,
    leading: str = "",
    countable: NDArray[np.bool_] | None = None,
) -> Renumbered:
    """Bring the numbers of objects up to date after an edit of their mask.

    Parameters
    ----------
    ids : (..., Y, X) ndarray of uint32
        Numbers of objects, right for the mask before the edit; written to.
    labels : (..., Y, X) ndarray of uint8
        The mask as it is now: class ids, 0 background, 255 unknown.
    box : tuple of slice
        Where it was edited.
    before : ndarray of uint8, shape of the box
        The mask there before.
    last : int
        The highest number that was ever given.
    leading : str
        Letters of the axes before Y and X.
    countable : (256,) ndarray of bool, optional
        Of which classes there are objects; by default of all but the background.

    Notes
    -----
    The cost follows the box and the objects that lose pixels in it.
    """
    done: list[tuple[NDArray[np.int64], NDArray[np.uint32]]] = []
    for place in product(*(range(side.start, side.stop) for side in box[:-2])):
        at = tuple(i - side.start for i, side in zip(place, box, strict=False))
        now = labels[place][box[-2:]]
        part = changed_box(before[at] != now, box[-2:])
        if part is not None:
            plane = _Plane(ids, labels, place, leading, last, done, countable)
            plane.follow(part, before[at][relative(part, box[-2:])])
            last = plane.last
    where = [np.zeros(0, np.int64), *(each for each, _ in done)]
    old = [np.zeros(0, np.uint32), *(each for _, each in done)]
    return Renumbered(np.concatenate(where), np.concatenate(old), last)


def reconcile(
    ids: NDArray[np.uint32],
    labels: NDArray[np.uint8],
    last: int,
    leading: str = "",
    countable: NDArray[np.bool_] | None = None,
) -> Renumbered:
    """Bring numbers up to date with a mask that was edited without them.

    Specks without a number stay so, as they do when objects are found.

    Parameters
    ----------
    ids, labels, last, leading, countable
        As :func:`follow` takes them.
    """
    found = []
    for box in split(as_box(None, ids.shape), BLOCK**2):
        now = labels[box]
        numbered, known = ids[box] > 0, is_object(now, countable)
        missing = known & ~numbered
        wrong = (numbered & ~known) | missing
        if not wrong.any():
            continue
        before = np.where(numbered & ~known, 1, np.where(missing, 0, now))
        for place in product(*map(range, now.shape[:-2])):
            groups, _ = label_mask(missing[place], np.ones((3, 3)))
            speck = np.bincount(groups.ravel()) < SMALLEST
            kept = speck[groups] & missing[place]
            before[place][kept] = now[place][kept]
        renumbered = follow(
            ids, labels, box, before.astype(np.uint8), last, leading, countable
        )
        found.append(renumbered)
        last = renumbered.last
    if not found:
        return Renumbered(np.zeros(0, np.int64), np.zeros(0, np.uint32), last)
    where = np.concatenate([each.where for each in found])
    where, first = np.unique(where, return_index=True)
    return Renumbered(where, np.concatenate([r.before for r in found])[first], last)


def spread(seeds: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Give each pixel of a mask the nearest seed that it is connected to.

    Parameters
    ----------
    seeds : (Y, X) ndarray of int32
        0 for none.
    mask : (Y, X) ndarray of bool
        Where seeds may spread; seeds lie within.
    """
    # Flooded in the order of the distance: each part stays connected to its seed.
    distance = distance_transform_edt(seeds == 0)
    near: NDArray[Any] = watershed(distance, seeds, mask=mask, connectivity=2)
    return near


@dataclass
class _Plane:
    """A plane of the arrays, in which numbers are written and remembered."""

    ids: NDArray[np.uint32]
    labels: NDArray[np.uint8]
    place: tuple[int, ...]
    leading: str
    last: int
    done: list[tuple[NDArray[np.int64], NDArray[np.uint32]]]
    countable: NDArray[np.bool_] | None

    def follow(self, box: Box, before: NDArray[np.uint8]) -> None:
        """Follow an edit of a box of the plane."""
        plane = self.ids[self.place]
        around = grown(box, _AROUND, plane.shape)
        now, old = self.labels[self.place][around], plane[around].copy()
        changed = np.zeros(now.shape, bool)
        inner = relative(box, around)
        changed[inner] = before != now[inner]
        lost = changed & (old > 0)
        plane[around][lost] = 0
        self._number(around, now, old, changed)
        if lost.any():
            self._look_for_cuts(around, old, lost)
        moved = plane[around] != old
        self._remember(around, moved, old[moved])

    def _look_for_cuts(
        self, around: Box, old: NDArray[np.uint32], lost: NDArray[np.bool_]
    ) -> None:
        """Look at the objects that have lost pixels, each in a box of its own."""
        new = self.ids[self.place][around]
        numbers = _in_parts(old[lost], new)
        if not len(numbers):
            return
        # 1, 2 … for each of them, 0 elsewhere.
        was = np.where(lost, old, new)
        places = np.searchsorted(numbers, was)
        places[places == len(numbers)] = 0
        places = np.where(numbers[places] == was, places + 1, 0)
        for place, span in enumerate(find_objects(places), 1):
            number = int(numbers[place - 1])
            gone = lost[span] & (old[span] == number)
            self._cut(number, _moved(span, around), gone, around)

    def _number(
        self,
        around: Box,
        now: NDArray[np.uint8],
        old: NDArray[np.uint32],
        changed: NDArray[np.bool_],
    ) -> None:
        """Give each pixel that needs a number one."""
        ids = self.ids[self.place][around]
        without = is_object(now, self.countable) & (ids == 0)
        groups = label(np.where(without, now, 0), connectivity=2)
        wanted = present(groups[changed & without])
        if not len(wanted):
            return
        kept = np.zeros(int(groups.max()) + 1, bool)
        kept[wanted] = True
        groups = np.where(kept[groups], groups, 0)
        group, beside = _touching(groups, ids, now)
        touched, first, count = np.unique(group, True, return_counts=True)
        owner = np.zeros(len(kept), np.uint32)
        owner[touched] = beside[first]
        kept[touched] = False
        alone = np.flatnonzero(kept)
        if self._neighbours() or old[groups > 0].any():
            self._number_each(alone, groups, around, old)
        else:
            owner[alone] = self.last + 1 + np.arange(len(alone))
            self.last += len(alone)
        spans = find_objects(groups)
        for each in touched[count > 1]:
            # With a border, in which the objects are.
            span = grown(spans[each - 1], 1, now.shape)
            mask = groups[span] == each
            values = _shared(ids[span], now[span], mask)
            ids[span][mask] = values
        owner[touched[count > 1]] = 0
        owned = owner[groups]
        np.copyto(ids, owned, where=owned > 0)

    def _number_each(
        self,
        alone: NDArray[Any],
        groups: NDArray[Any],
        around: Box,
        old: NDArray[np.uint32],
    ) -> None:
        """Give parts that touch no object a number, each knowing those before it."""
        spans = find_objects(groups)
        for each in alone:
            span = spans[each - 1]
            mask = groups[span] == each
            had = old[span][mask]
            box = _moved(span, around)
            number = self._still(had[had > 0], box, around)
            plane = self.ids[self.place]
            plane[box][mask] = number or self._number_for(box, mask)

    def _still(self, had: NDArray[np.uint32], box: Box, around: Box) -> int:
        """Return the object that got another class as a whole, 0 if there is none."""
        for number in _most_frequent(had):
            left = [self.ids[place][box] for place in self._neighbours()]
            left.append(self.ids[self.place][around])
            if not any((each == number).any() for each in left):
                return number
        return 0

    def _number_for(self, box: Box, mask: NDArray[np.bool_]) -> int:
        """Return the number of a part that touches no object."""
        for number in self._beside(box, mask):
            return number
        self.last += 1
        return self.last

    def _neighbours(self) -> list[tuple[int, ...]]:
        """Return the slices below and above."""
        axis = self.leading.find("Z")
        if axis < 0:
            return []
        steps = (self.place[axis] - 1, self.place[axis] + 1)
        return [
            (*self.place[:axis], at, *self.place[axis + 1 :])
            for at in steps
            if 0 <= at < self.ids.shape[axis]
        ]

    def _beside(self, box: Box, mask: NDArray[np.bool_]) -> list[int]:
        """Return the objects of the next slices that a part can go on with."""
        kind = self.labels[self.place][box][mask][0]
        found = []
        for place in self._neighbours():
            same = mask & (self.labels[place][box] == kind)
            found.append(self.ids[place][box][same])
        if not found:
            return []
        over = np.concatenate(found)
        return [
            number
            for number in _most_frequent(over[over > 0])
            if not self._is_here(number, box)
        ]

    def _is_here(self, number: int, box: Box) -> bool:
        """Whether an object of the next slices is in this one already."""
        here = self.ids[self.place]
        for place in self._neighbours():
            found = object_parts(self.ids[place], number, box)
            # What reaches so far is not looked for.
            if found is None or (here[found[0]] == number).any():
                return True
        return False

    def _cut(self, number: int, box: Box, lost: NDArray[np.bool_], around: Box) -> None:
        """Give the smaller parts of an object that was cut numbers of their own.

        Parameters
        ----------
        number : int
            The object.
        box : tuple of slice
            Where it is, as far as is known.
        lost : ndarray of bool, shape of the box
            Pixels that it has lost.
        around : tuple of slice
            Where changes are remembered anyhow.
        """
        plane = self.ids[self.place]
        found = object_parts(plane, number, grown(box, 1, plane.shape))
        if found is None:
            return
        window, parts = found
        inside = parts > 0
        whole = inside.copy()
        whole[relative(box, window)] |= lost
        # What was in parts before stays one object.
        prior = label(whole, connectivity=2)
        sizes = np.bincount(parts.ravel())
        pairs = np.unique(np.stack([prior[inside], parts[inside]], axis=1), axis=0)
        order = np.lexsort((sizes[pairs[:, 1]], pairs[:, 0]))
        pairs = pairs[order]
        largest = np.append(np.diff(pairs[:, 0]) > 0, True)
        spans = find_objects(parts)
        for part in np.setdiff1d(pairs[:, 1], pairs[largest, 1]):
            part_box = _moved(spans[part - 1], window)
            mask = parts[spans[part - 1]] == part
            plane[part_box][mask] = self._number_for(part_box, mask)
            both = intersection(part_box, around)
            if both != part_box:
                beyond = mask.copy()
                if both is not None:
                    beyond[relative(both, part_box)] = False
                old = np.full(np.count_nonzero(beyond), number, np.uint32)
                self._remember(part_box, beyond, old)

    def _remember(
        self, box: Box, mask: NDArray[np.bool_], old: NDArray[np.uint32]
    ) -> None:
        """Note which pixels have got other numbers, and those before."""
        if not len(old):
            return
        plane = self.ids[self.place]
        rows, columns = np.nonzero(mask)
        rows, columns = rows + box[0].start, columns + box[1].start
        height, width = plane.shape
        start = 0
        for at, length in zip(self.place, self.ids.shape, strict=False):
            start = start * length + at
        where = (start * height + rows) * width + columns
        self.done.append((where.astype(np.int64), old))


def _moved(span: Box, origin: Box) -> Box:
    """Return a box of ``array[origin]`` in the coordinates of the array."""
    return tuple(
        slice(s.start + o.start, s.stop + o.start)
        for s, o in zip(span, origin, strict=True)
    )


def _in_parts(
    numbers: NDArray[np.uint32], ids: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Return which of the objects are in several parts, sorted."""
    parts = label(ids, connectivity=2)
    owner = np.zeros(int(parts.max()) + 1, np.uint32)
    owner[parts] = ids
    found, count = counted(owner)
    both: NDArray[np.uint32] = np.intersect1d(
        present(numbers), found[count > 1], assume_unique=True
    ).astype(np.uint32)
    return both


def _most_frequent(numbers: NDArray[np.uint32]) -> list[int]:
    """Return numbers, those that occur most often first."""
    found, count = counted(numbers)
    order: list[int] = found[np.argsort(-count, kind="stable")].tolist()
    return order


def _touching(
    groups: NDArray[Any], ids: NDArray[np.uint32], classes: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of a group and an object of its class beside it, sorted.

    Returns
    -------
    groups, objects : (N,) ndarray of int64
        Each pair once.
    """
    height, width = groups.shape
    found = []
    for down, right in product((-1, 0, 1), repeat=2):
        here = (_side(-down, height), _side(-right, width))
        there = (_side(down, height), _side(right, width))
        meet = (groups[here] > 0) & (ids[there] > 0)
        meet &= classes[here] == classes[there]
        group, number = groups[here][meet], ids[there][meet]
        found.append(group.astype(np.int64) << 32 | number)
    pairs = np.sort(np.concatenate(found))
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs >> 32, pairs & 0xFFFFFFFF


def _side(shift: int, length: int) -> slice:
    return slice(max(0, shift), length + min(0, shift))


def _shared(
    ids: NDArray[np.uint32], classes: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Return for each pixel of the mask the nearest object of its class."""
    there = (ids > 0) & (classes == classes[mask][0]) & ~mask
    numbers = present(ids[there]).astype(np.uint32)
    seeds = np.zeros(ids.shape, np.int32)
    seeds[there] = np.searchsorted(numbers, ids[there]) + 1
    shared: NDArray[np.uint32] = numbers[spread(seeds, mask | there)[mask] - 1]
    return shared
