"""The loop over volumes and their tiles, for networks that see three dimensions.

A finished tile is handed out slice by slice, as results like those of planes: whoever
takes a mask need not know what the network saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.errors import DeviceError, InputError
from napari_seg.inference.agenda import Index, Look
from napari_seg.inference.axes import AxesReading, Box
from napari_seg.inference.device import describe_device, is_out_of_memory
from napari_seg.inference.engine import TileResult
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.inference.runner import TileRunner
from napari_seg.inference.tiling import (
    choose_sides,
    clip_box,
    cut_axis,
    nearness,
    read_span,
)
from napari_seg.models.base import SegmentationModel

if TYPE_CHECKING:
    from napari_seg.inference.predict import PredictOptions

__all__ = ["VolumeJob", "VolumeTile", "check_volume_options", "plan_volume"]

#: Slices, rows and columns.
Block: TypeAlias = tuple[slice, slice, slice]
_Place: TypeAlias = tuple[Index, "VolumeTile"]
_CPU = torch.device("cpu")
#: How many times as large as a tile of a plane a block may be: along three axes a halo
#: costs so much that small blocks read a volume eight times, larger ones three times.
_MORE = 3


@dataclass(frozen=True)
class VolumeTile:
    """One piece of work: what it contributes, and what the network sees for that.

    Attributes
    ----------
    core, read : tuple of slice
        Slices, rows and columns, as those of :class:`~napari_seg.inference.tiling.\
Tile`.
    """

    core: Block
    read: Block


@dataclass(frozen=True)
class VolumeJob:
    """What is to be predicted.

    Attributes
    ----------
    image : array
        NumPy or lazy.
    reading : AxesReading
        Meaning of its axes.
    ranges : ndarray
        (C, 2) float64 intensities that are mapped to 0 and 1.
    work : tuple of (tuple of int, tuple of VolumeTile)
        Volumes, in order, each with its tiles.
    halos, strides, least : tuple of int
        With which the tiles were planned, along Z, Y and X.
    confidence : bool
        Whether to return it.
    look : callable or None
        Tells what is on the screen, which comes first.
    """

    image: Any
    reading: AxesReading
    ranges: NDArray[np.float64]
    work: tuple[tuple[Index, tuple[VolumeTile, ...]], ...]
    halos: tuple[int, ...]
    strides: tuple[int, ...]
    least: tuple[int, ...]
    confidence: bool
    look: Look | None = None

    @property
    def tiles(self) -> tuple[VolumeTile, ...]:
        """The tiles of the first volume."""
        return self.work[0][1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of a volume."""
        return (self.reading.depth, *self.reading.plane_shape)

    def results(self, runner: TileRunner) -> Generator[TileResult, None, None]:
        """Yield each slice of each tile; where memory runs out, of smaller tiles.

        Raises
        ------
        DeviceError
            If even small tiles do not fit into the machine's memory.
        """
        left = [(volume, tile) for volume, tiles in self.work for tile in tiles]
        done, total = 0, sum(_length(tile.core[0]) for _, tile in left)
        while left:
            volume, tile = left.pop(self._next(left))
            answer = self._attempt(runner, volume, tile)
            if answer is None:
                parts = self._smaller(runner, tile)
                left[:0] = [(volume, part) for part in parts]
                total += sum(_length(part.core[0]) for part in parts)
                total -= _length(tile.core[0])
                continue
            slices, *box = tile.core
            for offset, z in enumerate(range(slices.start, slices.stop)):
                done += 1
                index = self.reading.plane_of(volume, z)
                each = (None if part is None else part[offset] for part in answer)
                labels, sure = each
                assert labels is not None
                yield TileResult(index, (box[0], box[1]), labels, sure, done, total)

    def _next(self, left: Sequence[_Place]) -> int:
        """Return the place of the tile that is wanted next: the one that is seen."""
        seen = None if self.look is None else self.look()
        if seen is None:
            return 0
        here, z = self.reading.volume_of(seen[0])

        def distance(place: int) -> tuple[int, int, bool, float]:
            volume, tile = left[place]
            away = sum(abs(a - b) for a, b in zip(volume, here, strict=True))
            slices = tile.core[0]
            above = max(slices.start - z, z - slices.stop + 1, 0)
            return away, above, *nearness((tile.core[1], tile.core[2]), seen[1])

        return min(range(len(left)), key=distance)

    def _attempt(
        self, runner: TileRunner, volume: Index, tile: VolumeTile
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None] | None:
        """Return classes and confidence, (Z, Y, X), or None if memory ran out."""
        try:
            return self._compute(runner, volume, tile)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, since the error's traceback keeps the tensors alive.
        runner.release()
        return None

    @torch.inference_mode()
    def _compute(
        self, runner: TileRunner, volume: Index, tile: VolumeTile
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        block = self._read(volume, tile)
        with runner.lock:
            scores = runner([block])[0][(slice(None), *_inside(tile.core, tile.read))]
            labels = scores.max(0).indices.byte().cpu().numpy()
            if not self.confidence:
                return labels, None
            sure = (scores / runner.temperature).softmax(0).amax(0)
            return labels, sure.cpu().numpy()

    def _read(self, volume: Index, tile: VolumeTile) -> NDArray[np.float32]:
        """Return (C, Z, Y, X), scaled; beyond its ends the volume is repeated."""
        spans = [
            slice(span.start, min(span.stop, length))
            for span, length in zip(tile.read, self.shape, strict=True)
        ]
        read = self.reading.volume(self.image, volume, spans[0], (spans[1], spans[2]))
        scaled = normalize(read, self.ranges)
        beyond = [(0, b.stop - a.stop) for a, b in zip(spans, tile.read, strict=True)]
        return np.pad(scaled, [(0, 0), *beyond], mode="edge")

    def _smaller(self, runner: TileRunner, tile: VolumeTile) -> list[VolumeTile]:
        """Return the halves of a tile; or go on with it on the CPU, or give up."""
        device = describe_device(runner.device)
        axis = max(range(3), key=lambda a: _length(tile.core[a]) / self.strides[a])
        span = tile.core[axis]
        middle = _up((span.start + span.stop) // 2, self.strides[axis])
        if span.start < middle < span.stop:
            _warn(f"The memory of {device} is too small for a tile; going on with two.")
            halves = slice(span.start, middle), slice(middle, span.stop)
            cores = [(*tile.core[:axis], h, *tile.core[axis + 1 :]) for h in halves]
            return [self._tile((core[0], core[1], core[2])) for core in cores]
        if runner.device != _CPU:
            _warn(f"The memory of {device} is too small for this model; using the CPU.")
            runner.move(_CPU)
            return [tile]
        sides = " × ".join(str(_length(each)) for each in tile.read)
        raise DeviceError(
            f"The memory of this machine ({device}) is too small for a tile of {sides} "
            "voxels; close other programs or use a smaller model."
        )

    def _tile(self, core: Block) -> VolumeTile:
        return _with_read(core, self.shape, self.halos, self.strides, self.least)


def check_volume_options(options: PredictOptions) -> None:
    """Refuse what a network that sees volumes has no use for.

    Parameters
    ----------
    options : PredictOptions
        As for planes.

    Raises
    ------
    InputError
        If the CRF, OpenVINO or a zoom is asked for.
    """
    wanted = {
        "the CRF": options.crf,
        "OpenVINO": options.runtime == "openvino",
        "zoom": options.zoom != 1,
    }
    for what, asked in wanted.items():
        if asked:
            raise InputError(
                f"A model that sees volumes goes without {what}; leave it out, or take "
                "a model that sees planes."
            )


def plan_volume(
    runner: TileRunner,
    image: Any,
    reading: AxesReading,
    options: PredictOptions,
    *,
    look: Look | None = None,
    within: Box | None = None,
    indices: Iterable[Sequence[int]] | None = None,
    ranges: NDArray[np.float64] | None = None,
) -> VolumeJob:
    """Decide on tiles and intensities; :meth:`VolumeJob.results` does the rest.

    Parameters
    ----------
    runner : TileRunner
        What will compute the tiles.
    image : array
        One that can be indexed.
    reading : AxesReading
        Meaning of its axes.
    options : PredictOptions
        Tile, halo and confidence. Tile and halo are told in pixels of the plane; along
        Z they are as long as that, in slices.
    look, within, ranges
        As in :func:`napari_seg.inference.predict.stream`.
    indices : iterable of sequence of int or None
        Planes that are wanted; of a volume all slices from its first to its last.
    """
    model = runner.model
    halos = _halos(model, options.halo)
    box = clip_box(within, reading.plane_shape)
    strides, least = model.strides, _least(model)
    work = []
    for volume, slices in _wanted(reading, indices).items():
        area = (slices, *box)
        sides = _sides(runner, area, options.tile, halos)
        shape = (reading.depth, *reading.plane_shape)
        spans = [
            list(cut_axis(span.start, span.stop, side, stride))
            for span, side, stride in zip(area, sides, strides, strict=True)
        ]
        tiles = [
            _with_read((z, y, x), shape, halos, strides, least)
            for z, y, x in product(*spans)
        ]
        work.append((volume, tuple(tiles)))
    if ranges is None:
        ranges = channel_ranges(image, reading, model.spec.normalization)
    return VolumeJob(
        image=image,
        reading=reading,
        ranges=ranges,
        work=tuple(work),
        halos=halos,
        strides=strides,
        least=least,
        confidence=options.confidence,
        look=look,
    )


def _halos(model: SegmentationModel, asked: int | None) -> tuple[int, ...]:
    """Return the halo along Z, Y and X, at least what the model needs."""
    step = max(model.spec.anisotropy or 1.0, 1.0)
    given = (ceil((asked or 0) / step), asked or 0, asked or 0)
    return tuple(
        _up(max(one, other), stride)
        for one, other, stride in zip(model.halos, given, model.strides, strict=True)
    )


def _least(model: SegmentationModel) -> tuple[int, ...]:
    """Return the smallest reads: whole strides."""
    return tuple(map(max, model.least, model.strides))


def _wanted(
    reading: AxesReading, indices: Iterable[Sequence[int]] | None
) -> dict[Index, slice]:
    """Return the slices that are wanted of each volume, in the order of the planes."""
    if indices is None:
        whole = slice(0, reading.depth)
        return dict.fromkeys(reading.volumes(), whole)
    found: dict[Index, slice] = {}
    for index in indices:
        volume, z = reading.volume_of(tuple(map(int, index)))
        before = found.get(volume, slice(z, z + 1))
        found[volume] = slice(min(before.start, z), max(before.stop, z + 1))
    return found


def _sides(
    runner: TileRunner, area: Block, tile: int | None, halos: Sequence[int]
) -> tuple[int, ...]:
    """Return the largest side of a core along Z, Y and X."""
    model = runner.model
    if tile is not None:
        step = max(model.spec.anisotropy or 1.0, 1.0)
        return max(_up(round(tile / step), model.slice_stride), 1), tile, tile
    lengths = [max(1, _length(span)) for span in area]
    cost, device = runner.cost, runner.device
    limit = cost.limit(device) * (_MORE if device == _CPU else 1)
    sizes = model.strides, _least(model), cost.budget(device), limit
    return choose_sides(lengths, halos, *sizes)


def _with_read(
    core: Block,
    shape: Sequence[int],
    halos: Sequence[int],
    strides: Sequence[int],
    least: Sequence[int],
) -> VolumeTile:
    z, y, x = map(read_span, core, shape, halos, strides, least)
    return VolumeTile(core, (z, y, x))


def _inside(core: Block, read: Block) -> Block:
    z, y, x = (
        slice(a.start - b.start, a.stop - b.start)
        for a, b in zip(core, read, strict=True)
    )
    return z, y, x


def _length(span: slice) -> int:
    return int(span.stop - span.start)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
