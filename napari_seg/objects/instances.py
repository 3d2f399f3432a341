"""Masks become objects: components, and what splits them where they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.objects.components import (
    BLOCK,
    Components,
    blocks,
    label_components,
    renumber,
)
from napari_seg.objects.splitting import (
    MARGIN,
    split_by_centres,
    split_by_probability,
    split_by_shape,
)
from napari_seg.scoring.regions import Box, box_shape, grown, relative

__all__ = ["SMALLEST", "SPLITS", "Split", "find_objects"]

Split = Literal["none", "shape", "probability", "model"]
SPLITS: tuple[Split, ...] = get_args(Split)
#: Objects of fewer pixels are taken for noise.
SMALLEST = 10


def find_objects(
    labels: Any,
    split: Split = "shape",
    *,
    maps: Any = None,
    countable: NDArray[np.bool_] | None = None,
    smallest: int = SMALLEST,
    out: Any = None,
    side: int = BLOCK,
    on_block: Callable[[], None] = lambda: None,
) -> Any:
    """Return the objects of a mask as numbers.

    Connected pixels of one class are one object or several, which `split` decides.
    The result does not depend on the size of the blocks.

    Parameters
    ----------
    labels : (..., Y, X) array of uint8
        Class ids, 0 the background and 255 unknown; NumPy or lazy. Each plane has
        objects of its own; :mod:`napari_seg.objects.stitch` joins them through Z.
    split : str
        ``none``; ``shape``, at their waists; ``probability``, also where the model is
        less sure of them; ``model``, as an object head says.
    maps : (..., 1 or 3, Y, X) array of float, optional
        For ``probability`` how probable the classes in `labels` are; for ``model`` what
        the object head says.
    countable : (256,) ndarray of bool, optional
        Of which classes objects are wanted; by default all but the background.
    smallest : int
        Objects of fewer pixels are left out.
    out : (..., Y, X) array of uint32, optional
        Where the numbers are written; by default a new NumPy array.
    side : int
        Height and width of a block in pixels; memory follows it.
    on_block : callable
        Called after each block.

    Returns
    -------
    (..., Y, X) array of uint32
        0 for none, then 1, 2 … in the order of the planes, and on a plane in that of
        the objects' first pixels, row by row.

    Raises
    ------
    InputError
        If `split` is unknown, or lacks the maps.
    """
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; it can be {', '.join(SPLITS)}.")
    if split in ("probability", "model") and maps is None:
        raise InputError(
            "Splitting by probability, or by the model, needs what the model says of "
            "the image."
        )
    if out is None:
        out = np.zeros(labels.shape, np.uint32)
    count = 0
    for place in product(*map(range, labels.shape[:-2])):
        plane = _Plane(
            _Part(labels, place),
            _Part(out, place),
            None if maps is None else _Part(maps, place),
            split,
            side,
        )
        count = plane.find(countable, smallest, count, on_block)
    return out


class _Part:
    """A plane of an array, read and written in boxes."""

    def __init__(self, array: Any, place: tuple[int, ...]) -> None:
        self._array, self._place = array, place
        self.shape: tuple[int, ...] = tuple(array.shape[len(place) :])

    def __getitem__(self, box: Any) -> NDArray[Any]:
        return np.asarray(self._array[(*self._place, *box)])

    def __setitem__(self, box: Any, values: NDArray[Any]) -> None:
        self._array[(*self._place, *box)] = values


@dataclass(frozen=True)
class _Plane:
    labels: _Part
    out: _Part
    maps: _Part | None
    split: Split
    side: int

    def find(
        self,
        countable: NDArray[np.bool_] | None,
        smallest: int,
        before: int,
        on_block: Callable[[], None],
    ) -> int:
        """Write numbers from `before` + 1 on; return the last one."""
        components = label_components(self.labels, self.out, countable, self.side)
        last = len(components)
        if self.split != "none":
            for box, numbers in self._groups(components):
                last = self._split(box, numbers, last)
                on_block()
        return self._number(last, smallest, before)

    def _groups(self, components: Components) -> Iterator[tuple[Box, NDArray[Any]]]:
        """Yield the components that begin in the same block, and their common box."""
        if not len(components):
            return
        boxes = components.boxes
        width = -(-self.out.shape[1] // self.side)
        block = boxes[:, 0] // self.side * width + boxes[:, 2] // self.side
        order = np.argsort(block, kind="stable")
        cuts = np.flatnonzero(np.diff(block[order])) + 1
        for group in np.split(order, cuts):
            top, left = boxes[group][:, [0, 2]].min(axis=0)
            bottom, right = boxes[group][:, [1, 3]].max(axis=0)
            yield (slice(top, bottom), slice(left, right)), group + 1

    def _split(self, box: Box, numbers: NDArray[Any], last: int) -> int:
        """Split the components of these numbers; return the last number now."""
        # A border of what does not belong to them.
        box = grown(box, 1, self.out.shape)
        here = self.out[box]
        wanted = np.zeros(int(max(here.max(), numbers.max())) + 1, bool)
        wanted[numbers] = True
        components = np.where(wanted[here], here, 0)
        if self.maps is None or self.split == "shape":
            objects = split_by_shape(components, self.labels[box])
        else:
            around = grown(box, MARGIN, self.out.shape)
            maps = self.maps[(slice(None), *around)]
            rows, columns = relative(box, around)
            inner, labels = (rows, columns), self.labels[box]
            if self.split == "probability":
                objects = split_by_probability(components, labels, maps[0], inner)
            else:
                objects = split_by_centres(components, labels, maps, inner)
        self.out[box] = np.where(components > 0, objects + last, here).astype(np.uint32)
        return last + int(objects.max(initial=0))

    def _number(self, last: int, smallest: int, before: int) -> int:
        """Leave out small objects, and number the others by their first pixels."""
        area = np.zeros(last + 1, np.int64)
        first = np.full(last + 1, np.iinfo(np.int64).max)
        height, width = self.out.shape
        for box in blocks((height, width), self.side):
            numbers = self.out[box]
            area += np.bincount(numbers.ravel(), minlength=last + 1)
            found, place = np.unique(numbers, return_index=True)
            y, x = np.unravel_index(place, box_shape(box))
            flat = (y + box[0].start) * width + x + box[1].start
            first[found] = np.minimum(first[found], flat)
        kept = np.flatnonzero((area >= max(smallest, 1)) & (np.arange(last + 1) > 0))
        final = np.zeros(last + 1, np.uint32)
        final[kept[np.argsort(first[kept])]] = before + np.arange(1, len(kept) + 1)
        renumber(self.out, final, self.side)
        return before + len(kept)
