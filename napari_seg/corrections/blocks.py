"""Vouched regions of volumes as training windows: blocks with context around them.

Few slices of a stack are vouched for as a rule, and a volume costs much memory.  So a
window reaches no further than its labels do, and its context.  The volume is divided
into cells, always from its first corner, each of which has one window at most, so that
a window keeps its name.  Windows begin and end on a finer grid, that of the regions
that are held out from training: a region is the same one in every run, however far its
window reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.windows import (
    AS_IT_IS,
    PixelSize,
    Window,
    window_name,
)
from napari_seg.errors import LabelsError
from napari_seg.scoring.regions import (
    Box,
    box_shape,
    hull,
    intersection,
    pixels,
    relative,
)
from napari_seg.scoring.tally import UNKNOWN

__all__ = [
    "GRID",
    "MOST_VOXELS",
    "Block",
    "Slices",
    "cut_block",
    "keep_within",
    "plan_blocks",
]

#: Labels (Y, X) of the slices in which something is vouched for, by place along Z.
Slices: TypeAlias = Mapping[int, NDArray[np.uint8]]
Reader: TypeAlias = Callable[[tuple[int, ...], Box], NDArray[Any]]

#: Slices, rows and columns of a region that is held out, as the guard of training cuts
#: a volume; windows begin and end at its multiples.
GRID = (16, 32, 32)
#: Multiples of these.  Larger cells have less context in common with each other, in
#: smaller ones two places are less often one window with nothing between them.
_CELL = (64, 256, 256)
#: Pixels around what is vouched for; along Z as far, in whole regions.
_CONTEXT = 32
#: Of all windows that are learned from at once, channel by channel; in training four
#: bytes for each.
MOST_VOXELS = 2**27


@dataclass(frozen=True)
class Block:
    """A part of a volume that becomes a window; its pixels are not read yet.

    Attributes
    ----------
    index : tuple of int
        Place of the volume along the leading axes but Z.
    cell : tuple of slice, (Z, Y, X)
        The only part of which the window has labels.
    box : tuple of slice, (Z, Y, X)
        What the window shows.
    vouched : int
        Number of labelled voxels.
    """

    index: tuple[int, ...]
    cell: Box
    box: Box
    vouched: int

    @property
    def voxels(self) -> int:
        """Number of all voxels of the window."""
        return pixels(self.box)


def plan_blocks(
    truth: Slices,
    shape: tuple[int, int, int],
    index: Sequence[int] = (),
    anisotropy: float = 1.0,
    minimum: int = 64,
) -> list[Block]:
    """Decide which blocks of a volume become windows.

    Parameters
    ----------
    truth : mapping of int to ndarray of uint8, (Y, X)
        Labels of some slices, 255 where not vouched for; in all others nothing is.
    shape : tuple of int
        Slices, rows and columns of the volume.
    index : sequence of int
        Place of the volume along the leading axes but Z.
    anisotropy : float
        Step between slices in pixels.  A window shows at least 32 pixels around what
        is vouched for and as much along Z, rounded up to 16 slices.  At the border of
        the volume it shows the more on the other side; only a volume that is smaller
        than that gives smaller ones.
    minimum : int
        Cells with fewer vouched voxels are left out.

    Returns
    -------
    list of Block
        In C order.

    Raises
    ------
    LabelsError
        If a slice has another shape or dtype, or lies outside of the volume.
    """
    for z, labels in truth.items():
        if labels.shape != shape[1:] or labels.dtype != np.uint8:
            raise LabelsError(
                f"The labels of a slice must be uint8 of shape {shape[1:]}; these are "
                f"{labels.dtype} of shape {labels.shape}."
            )
        if not 0 <= z < shape[0]:
            raise LabelsError(f"There is no slice {z} in a volume of {shape[0]}.")
    context = _context(anisotropy)
    blocks = []
    for cell in _cells(truth, shape):
        own, vouched = _vouched(truth, cell)
        if own is None or vouched < max(1, minimum):
            continue
        box = tuple(map(_surround, own, context, GRID, shape))
        blocks.append(Block(tuple(index), cell, box, vouched))
    return blocks


def _context(anisotropy: float) -> tuple[int, int, int]:
    step = GRID[0]
    slices = ceil(_CONTEXT / max(anisotropy, 1.0) / step) * step
    return slices, _CONTEXT, _CONTEXT


def _cells(truth: Slices, shape: tuple[int, ...]) -> Iterator[Box]:
    """Yield the cells in whose slices something is vouched for."""
    layers = sorted({z // _CELL[0] for z in truth})
    rows, columns = (
        range(ceil(length / side))
        for length, side in zip(shape[1:], _CELL[1:], strict=True)
    )
    for place in product(layers, rows, columns):
        yield tuple(
            slice(at * side, min((at + 1) * side, length))
            for at, side, length in zip(place, _CELL, shape, strict=True)
        )


def _vouched(truth: Slices, cell: Box) -> tuple[Box | None, int]:
    """Return the smallest box with all that is vouched for in a cell, and how much."""
    boxes, count = [], 0
    layer, *plane = cell
    for z in range(layer.start, layer.stop):
        if z not in truth:
            continue
        found = np.nonzero(truth[z][tuple(plane)] != UNKNOWN)
        if not len(found[0]):
            continue
        count += len(found[0])
        sides = (
            slice(side.start + int(at.min()), side.start + int(at.max()) + 1)
            for side, at in zip(plane, found, strict=True)
        )
        boxes.append((slice(z, z + 1), *sides))
    return hull(boxes), count


def _surround(own: slice, context: int, step: int, length: int) -> slice:
    """Return `own` with context on both sides, on the grid of `step`, inside `length`.

    Where one side has less context than that, the other one has more.
    """
    start, stop = own.start // step * step, min(-(-own.stop // step) * step, length)
    wanted = stop - start + 2 * context
    start = max(0, min(start - context, length - wanted)) // step * step
    return slice(start, min(max(stop + context, start + wanted), length))


def keep_within(sizes: Sequence[tuple[int, int]], limit: int) -> list[bool]:
    """Return which of many windows to learn from, so that memory holds them.

    Those with the fewest labels come first: many of them are corrections, and of a
    large accepted area a part says nearly as much as all of it.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Labelled voxels of each window, and all of its voxels, in every channel.
    limit : int
        Most voxels together.
    """
    kept, left = [False] * len(sizes), limit
    for place in sorted(range(len(sizes)), key=lambda at: sizes[at]):
        left -= sizes[place][1]
        # A single one is no reason to learn nothing.
        if left < 0 and any(kept):
            break
        kept[place] = True
    return kept


def cut_block(
    block: Block,
    truth: Slices,
    reader: Reader,
    name: str,
    ranges: NDArray[np.float64] | None = None,
    pixel_size: PixelSize = AS_IT_IS,
) -> Window:
    """Read a block that was planned.

    Parameters
    ----------
    block : Block
        From :func:`plan_blocks`.
    truth : mapping of int to ndarray of uint8, (Y, X)
        The labels that it was planned for.
    reader : callable
        Takes the index of the volume and a box of three slices and returns the raw
        voxels, (Z, Y, X) or (Z, C, Y, X).
    name : str
        Name of the image; use the id of its project entry.
    ranges : ndarray of float64, (C, 2), optional
        Intensities of the whole image that become 0 and 1; saved with the window.
    pixel_size : PixelSize
        Saved likewise.
    """
    labels = np.full(box_shape(block.box), UNKNOWN, np.uint8)
    own = intersection(block.cell, block.box)
    assert own is not None
    inside = relative(own, block.box)
    for z in range(own[0].start, own[0].stop):
        if z in truth:
            labels[(z - block.box[0].start, *inside[1:])] = truth[z][own[1:]]
    return Window(
        name=window_name(name, block.index, block.cell),
        box=block.box,
        image=np.asarray(reader(block.index, block.box)),
        labels=labels,
        vouched=block.vouched,
        ranges=ranges,
        size=pixel_size,
    )
