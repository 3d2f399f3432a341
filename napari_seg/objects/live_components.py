"""Connected components of a mask that is being edited.

An update looks at the box of the edit, and one pixel around it.  What it takes away
may cut an object in two, so the object is followed outwards until the pieces meet
again, or all but one of them end; what it adds may join objects, and then the smaller
ones take the number of the largest.  So the cost follows the edit and the objects
that it cuts or joins, never the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, generate_binary_structure
from scipy.ndimage import label as label_connected
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from napari_seg.objects.components import label_components
from napari_seg.scoring.regions import (
    Box,
    Region,
    as_box,
    box_shape,
    changed_box,
    grown,
    hull,
    intersection,
    pixels,
    relative,
    union,
)
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["LiveComponents", "Moved"]

Moved: TypeAlias = Callable[[Box, NDArray[np.bool_], int], None]
"""(box, which of its pixels, -1 before they change or 1 after)"""

#: By how much the box around a cut grows until it is known what hangs together.
_WIDER = 4
#: Height and width of what is looked at at once.
_TILE = 256


def _nobody(_box: Box, _where: NDArray[np.bool_], _sign: int) -> None:
    pass


class LiveComponents:
    """Connected pixels of one class as numbered objects, edit by edit.

    At any time they are the connected components of the mask that :meth:`update` was
    told of, diagonal neighbours included; an edit changes the numbers of no object
    but those that it cuts or joins.  Memory is 5 bytes per pixel, and about 0.4 kB
    for each object.

    Parameters
    ----------
    labels : ndarray of uint8, (..., Y, X)
        Class ids, 0 the background and 255 unknown.  It is copied.
    leading : str
        Letters of the axes before Y and X.  Objects reach through Z, not through
        others, such as time.
    countable : (256,) ndarray of bool
        Of which classes there are objects; never of 0 and 255.
    on_step : callable
        Called now and then while the mask is labelled first; what it raises ends that.

    Attributes
    ----------
    ids : ndarray of uint32, shape of `labels`
        Number of the object of each pixel, 0 for none; with gaps.
    labels : ndarray of uint8, same shape
        The mask as last seen.
    moved : callable
        Told of all pixels that change, before and after.
    """

    def __init__(
        self,
        labels: NDArray[np.uint8],
        leading: str,
        countable: NDArray[np.bool_],
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.labels = labels.copy()
        self.ids: NDArray[np.uint32] = np.zeros(labels.shape, np.uint32)
        self.moved: Moved = _nobody
        self._reaches = [*(letter == "Z" for letter in leading), True, True]
        self._countable = np.array(countable, bool)
        self._countable[[0, UNKNOWN]] = False
        #: Where each object lies; a box may be larger than its object.
        self._boxes: dict[int, Box] = {}
        self._last = 0
        for place in self._places(as_box(None, labels.shape)):
            self._label_all(place, on_step)

    def __len__(self) -> int:
        return len(self._boxes)

    def update(self, labels: NDArray[np.uint8], region: Region = None) -> None:
        """Follow the mask in a region.

        Parameters
        ----------
        labels : ndarray of uint8
            The whole mask as it is now.
        region : tuple of slices, optional
            Where it may have changed; by default all of it is compared.
        """
        for place in self._places(as_box(region, self.labels.shape)):
            for piece in _tiles(place):
                changed = changed_box(labels[piece] != self.labels[piece], piece)
                if changed is not None:
                    self._relabel(changed, labels[changed])

    # From the start -----------------------------------------------------------

    def _places(self, box: Box) -> Iterator[Box]:
        """Yield the parts of a box in which objects can reach everywhere."""
        spans = (
            [span]
            if reaches
            else [slice(at, at + 1) for at in range(span.start, span.stop)]
            for span, reaches in zip(box, self._reaches, strict=True)
        )
        yield from product(*spans)

    def _label_all(self, place: Box, on_step: Callable[[], None]) -> None:
        """Label a plane or a stack for the first time."""
        shape = _compact(box_shape(place), self._reaches)
        classes = self.labels[place].reshape(shape)
        if len(shape) == 2:
            numbers: NDArray[np.uint32] = np.zeros(shape, np.uint32)
            rows = label_components(
                classes, numbers, self._countable, on_block=on_step
            ).boxes
            found = [(slice(a, b), slice(c, d)) for a, b, c, d in rows.tolist()]
        else:
            on_step()
            numbers = _labelled(classes, self._countable)
            found = find_objects(numbers)
        for number, inner in enumerate(found, self._last + 1):
            self._boxes[number] = _placed(inner, place, self._reaches)
        numbers[numbers > 0] += np.uint32(self._last)
        self.ids[place] = numbers.reshape(box_shape(place))
        self._last += len(found)

    # Edit by edit -------------------------------------------------------------

    def _relabel(self, inner: Box, labels: NDArray[np.uint8]) -> None:
        """Take in the new labels of a box within one plane or stack."""
        window = self._grown(inner, 1)
        new = self.labels[window].copy()
        new[relative(inner, window)] = labels
        changed = new != self.labels[window]
        losing = _numbers(self.ids[window][changed])
        for number in losing:
            self._cut(number, window, changed)
        pieces = _labelled(
            new.reshape(_compact(new.shape, self._reaches)), self._countable
        ).reshape(new.shape)
        names = self._names(window, pieces, np.where(changed, 0, self.ids[window]))
        ids = names[pieces]
        self._write(window, changed | (ids != self.ids[window]), ids, new)
        # Beyond the box nothing has changed, so what is left of an object shows in it.
        for number in set(losing) - set(_numbers(ids)):
            self._boxes.pop(number, None)

    def _cut(self, number: int, window: Box, changed: NDArray[np.bool_]) -> None:
        """Give the parts of an object that hang together no more their own numbers."""
        whole, margin = self._boxes[number], 1
        here = intersection(window, whole)
        assert here is not None
        taken, around = changed[relative(here, window)], here
        while True:
            left = self.ids[around] == number
            inner = relative(here, around)
            left[inner] &= ~taken
            everywhere = generate_binary_structure(left.ndim, left.ndim)
            parts, _ = label_connected(left, everywhere)
            near = _numbers(parts[inner])
            if len(near) < 2:
                return
            going_on = _reaching(parts, around, whole) & set(near)
            if len(going_on) < 2:
                break
            margin *= _WIDER
            around = intersection(self._grown(here, margin), whole) or here
        boxes = find_objects(parts)
        sizes = np.bincount(parts.ravel())
        stays = going_on.pop() if going_on else max(near, key=lambda i: int(sizes[i]))
        for part in near:
            if part != stays:
                box = _shifted(boxes[part - 1], around)
                self._boxes[self._new()] = box
                self._rename(box, parts[relative(box, around)] == part, self._last)

    def _names(
        self, window: Box, pieces: NDArray[np.uint32], kept: NDArray[np.uint32]
    ) -> NDArray[np.uint32]:
        """Return the number of each piece of a window; objects that it joins are one.

        Parameters
        ----------
        window : tuple of slice
            Where.
        pieces : ndarray of uint32
            Components of the new labels within it.
        kept : ndarray of uint32
            Objects of the pixels that stay as they are.
        """
        boxes = find_objects(pieces)
        names = np.zeros(len(boxes) + 1, np.uint32)
        for members, objects in _groups(pieces, kept, len(boxes)):
            number = max(objects, key=self._extent) if objects else self._new()
            names[members] = number
            for other in objects:
                if other != number:
                    self._join(other, number)
            inner = hull(boxes[piece - 1] for piece in members.tolist())
            assert inner is not None
            box = union(self._boxes.get(number), _shifted(inner, window))
            assert box is not None
            self._boxes[number] = box
        return names

    def _extent(self, number: int) -> int:
        return pixels(self._boxes[number])

    def _join(self, other: int, number: int) -> None:
        box = self._boxes.pop(other)
        self._rename(box, self.ids[box] == other, number)
        joined = union(self._boxes[number], box)
        assert joined is not None
        self._boxes[number] = joined

    def _new(self) -> int:
        self._last += 1
        return self._last

    def _rename(self, box: Box, where: NDArray[np.bool_], number: int) -> None:
        self.moved(box, where, -1)
        self.ids[box][where] = number
        self.moved(box, where, 1)

    def _write(
        self,
        box: Box,
        where: NDArray[np.bool_],
        ids: NDArray[np.uint32],
        labels: NDArray[np.uint8],
    ) -> None:
        self.moved(box, where, -1)
        self.ids[box] = ids
        self.labels[box] = labels
        self.moved(box, where, 1)

    def _grown(self, box: Box, margin: int) -> Box:
        """Return a box with a margin along the axes that objects reach through."""
        sides = zip(grown(box, margin, self.labels.shape), box, strict=True)
        return tuple(
            larger if reaches else span
            for (larger, span), reaches in zip(sides, self._reaches, strict=True)
        )


def _numbers(ids: NDArray[Any]) -> list[int]:
    """Return the numbers that occur, without 0."""
    found: list[int] = np.unique(ids).tolist()
    return found[1:] if found and found[0] == 0 else found


def _tiles(box: Box) -> Iterator[Box]:
    """Cut a box, so that a long thin stroke is no large box."""
    *others, rows, columns = box
    for top in range(rows.start, rows.stop, _TILE):
        for left in range(columns.start, columns.stop, _TILE):
            yield (
                *others,
                slice(top, min(top + _TILE, rows.stop)),
                slice(left, min(left + _TILE, columns.stop)),
            )


def _compact(shape: tuple[int, ...], reaches: list[bool]) -> tuple[int, ...]:
    """Return a shape without the axes that objects do not reach through."""
    return tuple(n for n, each in zip(shape, reaches, strict=True) if each)


def _labelled(
    labels: NDArray[np.uint8], countable: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Return the components of a plane or a stack, numbered from 1."""
    numbers = label(np.where(countable[labels], labels, 0), connectivity=labels.ndim)
    return np.asarray(numbers, np.uint32)


def _placed(inner: Box, place: Box, reaches: list[bool]) -> Box:
    """Return a box of a plane or stack as one of the whole array."""
    spans = iter(inner)
    return tuple(
        next(spans) if each else at for at, each in zip(place, reaches, strict=True)
    )


def _shifted(inner: Box, origin: Box) -> Box:
    """Return a box of the array ``array[origin]`` as one of `array`."""
    return tuple(
        slice(a.start + b.start, a.stop + b.start)
        for a, b in zip(inner, origin, strict=True)
    )


def _reaching(parts: NDArray[Any], around: Box, whole: Box) -> set[int]:
    """Return the parts that touch a side of a box beyond which their object goes on."""
    found: set[int] = set()
    for axis, (side, all_of_it) in enumerate(zip(around, whole, strict=True)):
        if side.start > all_of_it.start:
            found.update(_numbers(parts.take(0, axis)))
        if side.stop < all_of_it.stop:
            found.update(_numbers(parts.take(-1, axis)))
    return found


def _groups(
    pieces: NDArray[np.uint32], kept: NDArray[np.uint32], count: int
) -> Iterator[tuple[NDArray[np.int64], list[int]]]:
    """Yield pieces that are one object now, with the objects that they were."""
    if not count:
        return
    both = (pieces > 0) & (kept > 0)
    keys = pieces[both].astype(np.uint64) << np.uint64(32) | kept[both]
    keys = np.unique(keys)
    piece = (keys >> np.uint64(32)).astype(np.int64)
    numbers, place = np.unique(keys & np.uint64(0xFFFFFFFF), return_inverse=True)
    size = count + len(numbers)
    graph = coo_array(
        (np.ones(len(keys), bool), (piece - 1, place + count)), (size,) * 2
    )
    groups, group = connected_components(graph, directed=False)
    order = np.argsort(group, kind="stable")
    for members in np.split(
        order, np.cumsum(np.bincount(group, minlength=groups))[:-1]
    ):
        first = members[members < count] + 1
        yield first, numbers[members[members >= count] - count].tolist()
