"""The loop over planes and tiles that :mod:`napari_seg.inference.predict` starts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_seg.errors import DeviceError
from napari_seg.inference.agenda import Agenda, Batch, Index, Look
from napari_seg.inference.axes import AxesReading, Box, is_lazy
from napari_seg.inference.batching import BatchTrial, ReadAhead
from napari_seg.inference.device import describe_device, is_out_of_memory
from napari_seg.inference.heap import kept_blocks
from napari_seg.inference.normalization import CLIP, lattice_of_boxes, normalize
from napari_seg.inference.runner import Context, TileRunner
from napari_seg.inference.tiling import Tile, clip_box, read_area, split_tile
from napari_seg.inference.zoom import Zoom
from napari_seg.models.objects import OBJECT_MAPS

if TYPE_CHECKING:
    from napari_seg.inference.crf import CRFOptions

__all__ = ["ImagePixels", "Job", "Pixels", "TileResult"]

_CPU = torch.device("cpu")
#: Side in pixels of a sample of a plane, their largest share of it, and number.
_SAMPLE, _SAMPLED, _MOST_SAMPLES = 256, 1 / 8, 16
#: Class ids, confidence, and maps of the object head.
Answer: TypeAlias = tuple[
    NDArray[np.uint8], NDArray[np.float32] | None, NDArray[np.float16] | None
]


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
    objects : ndarray or None
        (3, Y, X) float16, what tells objects apart, as
        :mod:`napari_seg.models.objects` describes it, in pixels of the image.
    """

    index: tuple[int, ...]
    box: Box
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None
    done: int
    total: int
    objects: NDArray[np.float16] | None = None

    @property
    def region(self) -> tuple[slice, ...]:
        """Slices of the whole mask, one for each of its axes."""
        return (*(slice(i, i + 1) for i in self.index), *self.box)


class Pixels(Protocol):
    """Where the pixels of an image come from."""

    @property
    def lazy(self) -> bool:
        """Whether fetching them takes a while."""

    def plane(self, index: Index, box: Box) -> NDArray[Any]:
        """Return a box of a plane, (C, Y, X) in the image's dtype."""


@dataclass(frozen=True)
class ImagePixels:
    """The pixels of an array.

    Attributes
    ----------
    image : array
        NumPy or lazy.
    reading : AxesReading
        Meaning of its axes.
    """

    image: Any
    reading: AxesReading

    @property
    def lazy(self) -> bool:
        """Whether fetching them takes a while."""
        return is_lazy(self.image)

    def plane(self, index: Index, box: Box) -> NDArray[Any]:
        """Return a box of a plane, (C, Y, X) in the image's dtype."""
        return self.reading.plane(self.image, index, box)


@dataclass(frozen=True)
class Job:
    """What is to be predicted.

    Attributes
    ----------
    pixels : Pixels
        Where those of the image come from.
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
    batch : int or None
        Tiles computed at once; None finds it by trial.
    openvino : bool
        Whether OpenVINO computes.
    contexts : mapping
        What the tiles of a plane have in common, for planes where that is known.
    clip : tuple of float or None
        Bounds of scaled intensities.
    """

    pixels: Pixels
    reading: AxesReading
    ranges: NDArray[np.float64]
    indices: tuple[tuple[int, ...], ...]
    tiles: tuple[Tile, ...]
    halo: int
    stride: int
    least: int
    crf: CRFOptions | None
    confidence: bool
    batch: int | None = None
    openvino: bool = False
    look: Look | None = None
    contexts: Mapping[Index, Context | None] = field(default_factory=dict)
    clip: tuple[float, float] | None = CLIP

    def results(self, runner: TileRunner) -> Generator[TileResult, None, None]:
        """Yield the tiles as they are wanted; where memory runs out, in smaller pieces.

        Raises
        ------
        DeviceError
            If even small tiles do not fit into the machine's memory.
        """
        if self.openvino:
            runner.compile()
        # Reading an array in memory takes no time that could be saved on a CPU.
        ahead = self.pixels.lazy or runner.device.type == "cuda"
        # It costs some 400 MB: not for images that may be larger than the memory, and
        # OpenVINO plans its memory by itself.
        in_memory = not self.pixels.lazy and runner.device.type == "cpu"
        kept = kept_blocks() if in_memory and not self.openvino else nullcontext()
        with kept, closing(ReadAhead(self.read, ahead=ahead)) as reader:
            yield from _Run(self, runner, reader).results()

    def read(self, batch: Batch) -> list[NDArray[np.float32]]:
        """Return the pixels that each tile reads, (C, Y, X), scaled to about 0 to 1.

        A tile that reads beyond the plane gets its last row and column repeated.
        """
        return [self._read_tile(index, tile) for index, tile in batch]

    def _read_tile(self, index: Index, tile: Tile) -> NDArray[np.float32]:
        box = clip_box(tile.read, self.reading.plane_shape)
        plane = normalize(self.pixels.plane(index, box), self.ranges, self.clip)
        bottom, right = (b.stop - a.stop for a, b in zip(box, tile.read, strict=True))
        return np.pad(plane, ((0, 0), (0, bottom), (0, right)), mode="edge")

    def split(self, tile: Tile) -> list[Tile]:
        """Return the halves of a tile, or the tile alone where halves save nothing."""
        shape = self.reading.plane_shape
        return split_tile(tile, shape, self.halo, self.stride, self.least)

    @torch.inference_mode()
    def context(self, runner: TileRunner, index: Index) -> Context | None:
        """Return what the tiles of a plane have in common, from a sample of it.

        None where that is nothing, or the plane is one tile.
        """
        if not runner.pools:
            return None
        boxes = self.sample(runner.zoom)
        if not boxes:
            return None
        planes = [self._read_tile(index, Tile(box, box)) for box in boxes]
        with runner.lock:
            return runner.context(planes)

    def sample(self, zoom: Zoom) -> list[Box]:
        """Return the boxes of a plane that stand for it; none if it is one tile."""
        shape = self.reading.plane_shape
        if self.tiles[0].core == clip_box(None, shape):
            return []
        side = zoom.in_image(_SAMPLE)
        height, width = (
            max(self.least, min(side, length // zoom.down * zoom.down))
            for length in shape
        )
        wanted = min(_SAMPLED * shape[0] * shape[1] / (height * width), _MOST_SAMPLES)
        return lattice_of_boxes(shape, wanted, (height, width))

    @torch.inference_mode()
    def compute(
        self,
        runner: TileRunner,
        batch: Batch,
        planes: Sequence[NDArray[np.float32]],
        contexts: Sequence[Context | None],
    ) -> list[Answer]:
        """Return class ids and, if wanted, confidence of the core of each tile."""
        with runner.lock:
            logits = runner(planes, contexts)
            return [
                self._answer(each, plane, tile, runner)
                for each, plane, (_, tile) in zip(logits, planes, batch, strict=True)
            ]

    def _answer(
        self,
        scores: Tensor,
        plane: NDArray[np.float32],
        tile: Tile,
        runner: TileRunner,
    ) -> Answer:
        objects = None
        if runner.tells_objects:
            scores, maps = scores.split([runner.n_classes, OBJECT_MAPS])
            # The network counts in pixels of what it sees.
            maps[1:] /= runner.zoom.factor
            objects = _numpy(maps[_inside(tile.core, tile.read)].half())
        if self.crf is not None:
            scores = sure = self._refine(scores, plane, tile, self.crf)
        else:
            scores = sure = scores[_inside(tile.core, tile.read)]
            if self.confidence:
                sure = (scores / runner.temperature).softmax(0)
        # Of the logits, which tell apart what is equal as a rounded probability. Not
        # argmax, which took ten times as long on contiguous logits (torch 2.13).
        labels = scores.max(0).indices
        confidence = _numpy(sure.amax(0)) if self.confidence else None
        return _numpy(labels.byte()), confidence, objects

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


class _Run:
    """The state of one job while its tiles are computed."""

    def __init__(self, job: Job, runner: TileRunner, reader: ReadAhead) -> None:
        self._job, self._runner, self._reader = job, runner, reader
        self._agenda = Agenda(job.indices, job.tiles, job.look)
        self._trial = BatchTrial(runner.device, job.batch)
        self._largest = float("inf")
        self._contexts = dict(job.contexts)
        self._done, self._total = 0, len(job.indices) * len(job.tiles)

    def results(self) -> Generator[TileResult, None, None]:
        batch = self._begin()
        while batch:
            planes = self._reader.finish()
            following = self._begin() if self._reader.ahead else []
            answers = self._attempt(batch, planes)
            if answers is None:
                self._reader.drop()
                self._agenda.give_back([*batch, *following])
                self._make_do(batch)
                batch = self._begin()
                continue
            for (index, tile), answer in zip(batch, answers, strict=True):
                self._done += 1
                labels, sure, maps = answer
                count = self._done, self._total
                yield TileResult(index, tile.core, labels, sure, *count, maps)
            batch = following or self._begin()

    def _begin(self) -> Batch:
        """Take tiles off the agenda, and begin to read them; none if all is done."""
        while self._agenda:
            batch = self._agenda.take(self._trial.size)
            index, tile = batch[0]
            parts = [tile]
            if read_area(tile) > self._largest:
                parts = self._job.split(tile)
            if len(parts) == 1:
                self._reader.begin(batch)
                return batch
            self._total += len(parts) - 1
            self._agenda.give_back([*((index, part) for part in parts), *batch[1:]])
        return []

    def _attempt(
        self, batch: Batch, planes: Sequence[NDArray[np.float32]]
    ) -> list[Answer] | None:
        """Return the answer for each tile, or None if memory ran out."""
        start = time.perf_counter()
        try:
            contexts = [self._context(index) for index, _ in batch]
            answers = self._job.compute(self._runner, batch, planes, contexts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            self._trial.took(time.perf_counter() - start, len(batch))
            return answers
        # Only here, since the error's traceback keeps the tensors alive.
        self._runner.release()
        return None

    def _context(self, index: Index) -> Context | None:
        if index not in self._contexts:
            self._contexts[index] = self._job.context(self._runner, index)
        return self._contexts[index]

    def _make_do(self, batch: Batch) -> None:
        """Go on with less at a time, or on the CPU, or give up."""
        runner, (_, tile) = self._runner, batch[0]
        device = describe_device(runner.device)
        if len(batch) > 1:
            self._trial.shrink()
            _warn(
                f"The memory of {device} is too small for {len(batch)} tiles at once; "
                f"going on with {self._trial.size}."
            )
            return
        parts = self._job.split(tile)
        if len(parts) > 1:
            _warn(
                f"The memory of {device} is too small for a tile; going on with halves."
            )
            self._largest = max(map(read_area, parts))
        elif runner.device != _CPU:
            _warn(f"The memory of {device} is too small for this model; using the CPU.")
            runner.move(_CPU)
            self._trial, self._largest = BatchTrial(_CPU), float("inf")
        else:
            height, width = (span.stop - span.start for span in tile.read)
            raise DeviceError(
                f"The memory of this machine ({device}) is too small for a tile of "
                f"{height} × {width} pixels; close other programs or use a smaller "
                "model."
            )


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


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
