"""Cuts a plane into tiles.

A tile contributes its *core* to the mask and *reads* a halo of context around it. The
cores partition the plane. Each read begins at a multiple of the network's stride and
ends at one, or at the plane's border: pooling and transposed convolutions then fall on
the same grid as in one pass over the whole plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot, prod
from typing import NamedTuple

from napari_seg.inference.axes import Box
from napari_seg.models.base import MIN_SIDE

__all__ = [
    "Tile",
    "choose_sides",
    "choose_tile",
    "contains",
    "cut_axis",
    "nearness",
    "plan_tiles",
    "read_area",
    "read_span",
    "split_tile",
]

#: Halo and padding may cost this much more than the plane itself; smaller tiles than
#: that needs would only buy a shorter wait between two of them.
MAX_OVERHEAD = 1.25

_ALL = (slice(None), slice(None))


@dataclass(frozen=True)
class Tile:
    """One piece of work.

    Attributes
    ----------
    core : tuple of slice
        Rows and columns that the tile contributes to the mask.
    read : tuple of slice
        Rows and columns that the network sees: the core and its halo, cut off at the
        plane's borders except for the padding to a multiple of the stride.
    """

    core: Box
    read: Box


def plan_tiles(
    shape: tuple[int, int],
    tile: int | tuple[int, int],
    halo: int,
    stride: int,
    within: Box | None = None,
    least: int = MIN_SIDE,
) -> list[Tile]:
    """Return the tiles of a plane, row by row.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane in pixels.
    tile : int or tuple of int
        Largest height and width of a core, in pixels.
    halo : int
        Context on each side of a core, in pixels.
    stride : int
        Multiples of it are where reads may begin.
    within : tuple of slice or None
        The cores partition this box instead of the plane.
    least : int
        Smallest side of what is read, in pixels.

    Returns
    -------
    list of Tile
        Empty if `within` misses the plane.
    """
    sides = (tile, tile) if isinstance(tile, int) else tile
    box = clip_box(within, shape)
    spans = [
        list(cut_axis(area.start, area.stop, side, stride))
        for area, side in zip(box, sides, strict=True)
    ]
    return [make_tile((y, x), shape, halo, stride, least) for y, x in product(*spans)]


def make_tile(
    core: Box, shape: tuple[int, int], halo: int, stride: int, least: int = MIN_SIDE
) -> Tile:
    """Return the tile that contributes `core`, with the box that it must read."""
    rows, columns = (
        read_span(span, length, halo, stride, least)
        for span, length in zip(core, shape, strict=True)
    )
    return Tile(core, (rows, columns))


def split_tile(
    tile: Tile, shape: tuple[int, int], halo: int, stride: int, least: int = MIN_SIDE
) -> list[Tile]:
    """Return two tiles that share the core of `tile`, cut across its longer side.

    The list has `tile` alone where a half would read as much, or both together more
    than 1.5 times as much, which is when the core is shorter than about two halos.
    """
    rows, columns = tile.core
    axis = 0 if _length(rows) >= _length(columns) else 1
    span = tile.core[axis]
    middle = min(_up((span.start + span.stop) // 2, stride), span.stop - 1)
    cores = [
        (part, columns) if axis == 0 else (rows, part)
        for part in (slice(span.start, middle), slice(middle, span.stop))
    ]
    halves = [make_tile(core, shape, halo, stride, least) for core in cores]
    before, after = read_area(tile), [read_area(half) for half in halves]
    return halves if max(after) < before and sum(after) <= 1.5 * before else [tile]


def choose_tile(
    shape: tuple[int, int],
    halo: int,
    stride: int,
    budget: float,
    limit: float,
    least: int = MIN_SIDE,
) -> tuple[int, int]:
    """Return the core size that covers a plane with the least work.

    Among all grids of rows × columns whose reads stay within `budget`, the one that
    reads least is taken. Where even that reads over 1.25 times the plane, larger tiles
    pay off, so the smallest that come down to 1.25, or else the most economical, are
    taken from those within `limit`.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane in pixels.
    halo, stride, least : int
        As in :func:`plan_tiles`.
    budget : float
        Pixels that one tile should read, for the sake of a short wait.
    limit : float
        Pixels that one tile may read, for the sake of memory.

    Returns
    -------
    tuple of int
        Height and width, multiples of the stride.
    """
    pair = (halo, halo), (stride, stride), (least, least)
    height, width = choose_sides(shape, *pair, budget, limit)
    return height, width


def choose_sides(
    shape: Sequence[int],
    halos: Sequence[int],
    strides: Sequence[int],
    least: Sequence[int],
    budget: float,
    limit: float,
) -> tuple[int, ...]:
    """Return what :func:`choose_tile` does, for any number of axes.

    Parameters
    ----------
    shape, halos, strides, least : sequence of int
        One value for each axis.
    budget, limit : float
        Pixels, or voxels.
    """
    cuts = map(_cuts, shape, halos, strides, least)
    grids = [_Grid(each) for each in product(*cuts)]
    affordable = MAX_OVERHEAD * prod(shape)
    quick = [grid for grid in grids if grid.longest <= budget]
    best = min(quick, key=_Grid.work, default=None)
    if best is None or best.total > affordable:
        smallest = min(grids, key=lambda grid: grid.longest)
        fitting = [grid for grid in grids if grid.longest <= limit] or [smallest]
        economical = [grid for grid in fitting if grid.total <= affordable]
        best = min(economical, key=_Grid.wait, default=min(fitting, key=_Grid.work))
    return tuple(cut.side for cut in best.cuts)


def read_area(tile: Tile) -> int:
    """Return the pixels that the network sees."""
    return _length(tile.read[0]) * _length(tile.read[1])


def clip_box(box: Box | None, shape: tuple[int, int]) -> Box:
    """Return the part of a box that lies on a plane; None is the whole plane.

    Negative bounds lie before the plane, as those of a canvas that shows more than the
    image; they do not count from its end.
    """
    rows, columns = (
        _clip(span, length) for span, length in zip(box or _ALL, shape, strict=True)
    )
    return rows, columns


def _clip(span: slice, length: int) -> slice:
    start = min(max(0, span.start or 0), length)
    stop = length if span.stop is None else min(max(start, span.stop), length)
    return slice(start, stop)


def meets(one: Box, other: Box) -> bool:
    """Return whether two boxes share a pixel."""
    return all(
        a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True)
    )


def contains(outer: Box, inner: Box) -> bool:
    """Return whether every pixel of `inner` lies in `outer`."""
    return all(
        a.start <= b.start and b.stop <= a.stop
        for a, b in zip(outer, inner, strict=True)
    )


def cut_axis(start: int, stop: int, side: int, stride: int) -> Iterator[slice]:
    """Cut a range into about equal spans of at most `side`, on the stride's grid."""
    if start == stop:
        return
    origin = start // stride * stride
    step = _step(stop - origin, side, stride)
    for begin in range(origin, stop, step):
        yield slice(max(begin, start), min(begin + step, stop))


def _step(length: int, side: int, stride: int) -> int:
    if side < stride:
        return max(1, side)
    n = max(1, -(-length // (side // stride * stride)))
    return _up(-(-length // n), stride)


def read_span(span: slice, length: int, halo: int, stride: int, least: int) -> slice:
    """Return what must be read of an axis for a core; see the module."""
    end = max(_up(length, stride), least)
    start = max(0, span.start - halo) // stride * stride
    stop = min(end, _up(span.stop + halo, stride))
    if stop - start < least:
        stop = min(end, start + _up(least, stride))
        start = max(0, (stop - least) // stride * stride)
    return slice(start, stop)


class _Cut(NamedTuple):
    """One way to cut an axis, in pixels: side of a core, sum and longest of reads."""

    side: int
    total: int
    longest: int


class _Grid(NamedTuple):
    cuts: tuple[_Cut, ...]

    @property
    def total(self) -> int:
        return prod(cut.total for cut in self.cuts)

    @property
    def longest(self) -> int:
        return prod(cut.longest for cut in self.cuts)

    def work(self) -> tuple[int, int]:
        return self.total, -self.longest

    def wait(self) -> tuple[int, int]:
        return self.longest, self.total


def _cuts(length: int, halo: int, stride: int, least: int) -> list[_Cut]:
    """Return the ways to cut an axis into 1, 2, 3, … tiles."""
    most = max(1, length // max(least, stride))
    cuts = []
    for side in sorted({_up(-(-length // n), stride) for n in range(1, most + 1)}):
        spans = cut_axis(0, length, side, stride)
        reads = [
            _length(read_span(span, length, halo, stride, least)) for span in spans
        ]
        cuts.append(_Cut(side, sum(reads), max(reads)))
    return cuts


def nearness(core: Box, view: Box) -> tuple[bool, float]:
    """Return what sorts boxes: those that meet the view first, nearest its centre."""
    offsets = [
        (a.start + a.stop - b.start - b.stop) / 2
        for a, b in zip(core, view, strict=True)
    ]
    return not meets(core, view), hypot(*offsets)


def _length(span: slice) -> int:
    return int(span.stop - span.start)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
