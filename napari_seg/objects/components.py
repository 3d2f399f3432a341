"""Connected components of a mask, block by block, and where each of them lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from napari_seg.scoring.regions import Box
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["BLOCK", "Components", "blocks", "label_components", "renumber"]

#: Height and width of a block in pixels: some 60 MB while it is labelled.
BLOCK = 2048


@dataclass(frozen=True)
class Components:
    """Where the components of a plane lie.

    Attributes
    ----------
    boxes : (N, 4) ndarray of int
        First and last row (exclusive), first and last column of component i + 1.
    labels : (N,) ndarray of uint8
        Their classes.
    """

    boxes: NDArray[np.int64]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.boxes)


def blocks(shape: tuple[int, int], side: int = BLOCK) -> Iterator[Box]:
    """Yield the blocks of a plane, row by row."""
    height, width = shape
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield (
                slice(top, min(top + side, height)),
                slice(left, min(left + side, width)),
            )


def label_components(
    labels: Any,
    out: Any,
    countable: NDArray[np.bool_] | None = None,
    side: int = BLOCK,
    on_block: Callable[[], None] = lambda: None,
) -> Components:
    """Give each set of connected pixels of one class a number.

    Diagonal neighbours are connected. Memory follows the block, and blocks leave no
    trace: components are numbered in the order of their first pixels, row by row.

    Parameters
    ----------
    labels : (Y, X) array of uint8
        Class ids, 0 the background and 255 unknown; NumPy or lazy.
    out : (Y, X) array of uint32
        Where the numbers are written, 0 for none; NumPy or zarr.
    countable : (256,) ndarray of bool, optional
        Of which classes objects are wanted; by default all but the background.
    side : int
        Height and width of a block.
    on_block : callable
        Called before each block.

    Returns
    -------
    Components
        Boxes and classes, in the order of the numbers.
    """
    wanted = _countable(countable)
    pairs: list[NDArray[np.int64]] = []
    found, count = [], 0
    for box in blocks(labels.shape, side):
        out[box] = 0
    for box in blocks(labels.shape, side):
        on_block()
        part = np.asarray(labels[box])
        part = np.where(wanted[part], part, 0)
        numbers = label(part, connectivity=2).astype(np.int64)
        found.append(_seen(numbers, part, box, labels.shape[1]))
        numbers[numbers > 0] += count
        count += len(found[-1])
        out[box] = numbers.astype(np.uint32)
        pairs.extend(_across(labels, out, box, wanted))
    if not count:
        return Components(np.zeros((0, 4), np.int64), np.zeros(0, np.uint8))
    number, table = _joined(np.concatenate(found), pairs, count)
    renumber(out, number, side)
    return Components(table[:, :4], table[:, 5].astype(np.uint8))


def renumber(out: Any, numbers: NDArray[np.uint32], side: int = BLOCK) -> None:
    """Replace each number n of a plane by ``numbers[n]``, block by block."""
    for box in blocks(out.shape, side):
        out[box] = numbers[np.asarray(out[box])]


def _countable(countable: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    wanted = np.ones(256, bool) if countable is None else np.array(countable, bool)
    wanted[[0, UNKNOWN]] = False
    return wanted


def _seen(
    numbers: NDArray[np.int64], part: NDArray[np.uint8], box: Box, width: int
) -> NDArray[np.int64]:
    """Return a row for each component of a block: box, first pixel, class."""
    spans = find_objects(numbers)
    rows = np.zeros((len(spans), 6), np.int64)
    top, left = box[0].start, box[1].start
    for number, (y, x) in enumerate(spans):
        column = int(np.argmax(numbers[y.start, x] == number + 1)) + x.start
        rows[number] = (
            y.start + top,
            y.stop + top,
            x.start + left,
            x.stop + left,
            (y.start + top) * width + column + left,
            part[y.start, column],
        )
    return rows


def _across(
    labels: Any, out: Any, box: Box, wanted: NDArray[np.bool_]
) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of numbers that are one component across the border of a block."""
    (top, bottom), (left, right) = ((each.start, each.stop) for each in box)
    width = labels.shape[1]
    # Upwards also to the blocks diagonally above: of both, one comes later.
    above = slice(max(left - 1, 0), min(right + 1, width))
    beside = slice(max(top - 1, 0), bottom)
    for strip, axis in (
        ((slice(top - 1, top + 1), above), 0),
        ((beside, slice(left - 1, left + 1)), 1),
    ):
        if strip[axis].start < 0:
            continue
        two = (np.asarray(each[strip]) for each in (labels, out))
        classes, numbers = (each if axis == 0 else each.T for each in two)
        yield _pairs(np.where(wanted[classes], classes, 0), numbers.astype(np.int64))


def _pairs(classes: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of connected numbers in two neighbouring rows, (n, 2)."""
    found = []
    length = classes.shape[1]
    for shift in (-1, 0, 1):
        first = slice(max(0, -shift), length - max(0, shift))
        second = slice(max(0, shift), length - max(0, -shift))
        same = (classes[0, first] == classes[1, second]) & (classes[0, first] > 0)
        both = numbers[0, first][same], numbers[1, second][same]
        # Pixels of a block that is yet to come have no number.
        pair = np.stack(both, axis=1)
        found.append(np.unique(pair[(pair > 0).all(axis=1)], axis=0))
    return np.concatenate(found)


def _joined(
    rows: NDArray[np.int64], pairs: list[NDArray[np.int64]], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the final number of each provisional one, and the final rows."""
    links = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    graph = coo_array(
        (np.ones(len(links), bool), (links[:, 0] - 1, links[:, 1] - 1)), (count, count)
    )
    groups, group = connected_components(graph, directed=False)
    table = np.zeros((groups, 6), np.int64)
    table[:, [0, 2, 4]] = np.iinfo(np.int64).max
    for column, of in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
        of.at(table[:, column], group, rows[:, column])
    np.minimum.at(table[:, 4], group, rows[:, 4])
    table[group, 5] = rows[:, 5]
    order = np.argsort(table[:, 4], kind="stable")
    rank = np.empty(groups, np.uint32)
    rank[order] = np.arange(1, groups + 1)
    return np.concatenate([np.zeros(1, np.uint32), rank[group]]), table[order]
