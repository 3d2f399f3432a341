"""The loop over planes and tiles that :mod:`napari_seg.inference.predict` starts."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_seg.errors import DeviceError
from napari_seg.inference.agenda import Agenda, Look
from napari_seg.inference.axes import AxesReading, Box
from napari_seg.inference.device import describe_device, is_out_of_memory
from napari_seg.inference.normalization import normalize
from napari_seg.inference.runner import TileRunner
from napari_seg.inference.tiling import Tile, clip_box, read_area, split_tile

if TYPE_CHECKING:
    from napari_seg.inference.crf import CRFOptions

__all__ = ["Job", "TileResult"]

_CPU = torch.device("cpu")
_Answer = tuple[NDArray[np.uint8], NDArray[np.float32] | None]


@dataclass(frozen=True)
class TileResult:
    """A finished tile.

    Attributes
    ----------
    index : tuple of int
        Plane, along the axes that are looped over.
    box : tuple of slice
        Rows and columns of the plane.
    labels : ndarray
        (Y, X) uint8 class ids.
    confidence : ndarray or None
        (Y, X) float32, the probability of the predicted class, 1 / K to 1.
    done, total : int
        Tiles finished with this one, and tiles in all. The latter grows where memory
        runs out and tiles are halved.
    """

    index: tuple[int, ...]
    box: Box
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None
    done: int
    total: int

    @property
    def region(self) -> tuple[slice, ...]:
        """Slices of the whole mask, one for each of its axes."""
        return (*(slice(i, i + 1) for i in self.index), *self.box)


@dataclass(frozen=True)
class Job:
    """What is to be predicted.

    Attributes
    ----------
    image : array
        NumPy or lazy.
    reading : AxesReading
        Meaning of its axes.
    ranges : ndarray
        (C, 2) float64 intensities that are mapped to 0 and 1.
    indices : tuple of tuple of int
        Planes, in order.
    tiles : tuple of Tile
        Tiles of each plane, in order.
    look : callable or None
        Tells what is on the screen, which comes first.
    halo, stride, least : int
        With which the tiles were planned, in pixels.
    crf : CRFOptions or None
        Refinement of the probabilities.
    confidence : bool
        Whether to return it.
    """

    image: Any
    reading: AxesReading
    ranges: NDArray[np.float64]
    indices: tuple[tuple[int, ...], ...]
    tiles: tuple[Tile, ...]
    halo: int
    stride: int
    least: int
    crf: CRFOptions | None
    confidence: bool
    look: Look | None = None

    def results(self, runner: TileRunner) -> Generator[TileResult, None, None]:
        """Yield the tiles as they are wanted; where memory runs out, in smaller pieces.

        Raises
        ------
        DeviceError
            If even small tiles do not fit into the machine's memory.
        """
        largest = float("inf")
        done, total = 0, len(self.indices) * len(self.tiles)
        agenda = Agenda(self.indices, self.tiles, self.look)
        while agenda:
            index, tile = agenda.next()
            parts = self._split(tile) if read_area(tile) > largest else [tile]
            if len(parts) > 1:
                agenda.put_back(index, parts)
                total += len(parts) - 1
                continue
            answer = self._attempt(runner, index, tile)
            if answer is None:
                largest = self._make_do(runner, tile)
                agenda.put_back(index, [tile])
                continue
            done += 1
            yield TileResult(index, tile.core, *answer, done, total)

    def _split(self, tile: Tile) -> list[Tile]:
        shape = self.reading.plane_shape
        return split_tile(tile, shape, self.halo, self.stride, self.least)

    def _attempt(
        self, runner: TileRunner, index: tuple[int, ...], tile: Tile
    ) -> _Answer | None:
        """Return the answer for a tile, or None if memory ran out."""
        try:
            return self._compute(runner, index, tile)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, since the error's traceback keeps the tensors alive.
        runner.release()
        return None

    def _make_do(self, runner: TileRunner, tile: Tile) -> float:
        """Return the read area that may fit, or move to the CPU, or give up."""
        device = describe_device(runner.device)
        parts = self._split(tile)
        if len(parts) > 1:
            _warn(
                f"The memory of {device} is too small for a tile; going on with halves."
            )
            return max(map(read_area, parts))
        if runner.device != _CPU:
            _warn(f"The memory of {device} is too small for this model; using the CPU.")
            runner.move(_CPU)
            return float("inf")
        height, width = (span.stop - span.start for span in tile.read)
        raise DeviceError(
            f"The memory of this machine ({device}) is too small for a tile of "
            f"{height} × {width} pixels; close other programs or use a smaller model."
        )

    @torch.inference_mode()
    def _compute(
        self, runner: TileRunner, index: tuple[int, ...], tile: Tile
    ) -> _Answer:
        shape = self.reading.plane_shape
        box = clip_box(tile.read, shape)
        plane = normalize(self.reading.plane(self.image, index, box), self.ranges)
        scores = runner(_pad(plane, box, tile.read))
        if self.crf is not None:
            scores = self._refine(scores, plane, tile, self.crf)
        else:
            scores = scores[_inside(tile.core, tile.read)]
            if self.confidence:
                scores = (scores / runner.temperature).softmax(0)
        # Not argmax, which took ten times as long on contiguous logits (torch 2.13).
        best, labels = scores.max(0)
        return _numpy(labels.byte()), _numpy(best) if self.confidence else None

    def _refine(
        self, logits: Tensor, plane: NDArray[np.float32], tile: Tile, crf: CRFOptions
    ) -> Tensor:
        """Return the core's probabilities, drawn to the edges of the image."""
        # Imported late: few predictions need it.
        from napari_seg.inference.crf import refine

        area = _grow(tile.core, crf.halo, self.reading.plane_shape)
        guide = torch.from_numpy(plane[_inside(area, tile.read)]).to(logits.device)
        probabilities = logits[_inside(area, tile.read)].softmax(0)
        return refine(probabilities, guide, crf)[_inside(tile.core, area)]


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _pad(plane: NDArray[np.float32], box: Box, read: Box) -> NDArray[np.float32]:
    """Repeat the last row and column from the end of `box` to that of `read`."""
    bottom, right = (b.stop - a.stop for a, b in zip(box, read, strict=True))
    return np.pad(plane, ((0, 0), (0, bottom), (0, right)), mode="edge")


def _grow(core: Box, margin: int, shape: tuple[int, int]) -> Box:
    rows, columns = (
        slice(max(0, span.start - margin), min(length, span.stop + margin))
        for span, length in zip(core, shape, strict=True)
    )
    return rows, columns


def _inside(box: Box, outer: Box) -> tuple[slice, slice, slice]:
    """Return `box` as slices of a (C, Y, X) array that begins where `outer` does."""
    rows, columns = (
        slice(a.start - b.start, a.stop - b.start)
        for a, b in zip(box, outer, strict=True)
    )
    return slice(None), rows, columns


def _numpy(values: Tensor) -> NDArray[Any]:
    # A copy of its own: a view would keep the whole tile's memory.
    return np.ascontiguousarray(values.cpu().numpy())
