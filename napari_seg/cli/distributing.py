"""``predict`` on the workers of a dask cluster, which can be interrupted and go on.

Workers read images and write masks themselves: they see the same files. An image in a
file of its own is one piece of work. An OME-Zarr is cut into blocks of whole chunks,
whose tiles are those into which one machine would cut it; a worker that is lost costs
the blocks that it was at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_seg.cli.files import read_picture
from napari_seg.cli.omezarr import MaskFolder, storage_errors
from napari_seg.cli.segmenting import Outputs, Segmenter, Task, write_tile
from napari_seg.cli.unfinished import Unfinished, identity
from napari_seg.errors import InputError, StorageError
from napari_seg.folders import is_zarr
from napari_seg.inference.agenda import Index
from napari_seg.inference.axes import AxesReading, Box
from napari_seg.inference.cluster import (
    Call,
    Cluster,
    compute,
    find_context,
    model_here,
)
from napari_seg.inference.device import pick_device
from napari_seg.inference.engine import Job, TileResult
from napari_seg.inference.predict import plan
from napari_seg.inference.runner import Context
from napari_seg.inference.tiling import Tile
from napari_seg.models.base import SegmentationModel
from napari_seg.models.spec import ModelSpec

__all__ = ["Distributor"]

#: Chunks of a block, down and across: some seconds of work on a CPU.
_CHUNKS = 2

OnTile: TypeAlias = Callable[[Path, int, int], None]


@dataclass(frozen=True)
class FilePixels:
    """The pixels of an OME-Zarr, for whoever sees its folder.

    Attributes
    ----------
    path : Path
        The image.
    reading : AxesReading
        Meaning of its axes.
    identity : tuple of int
        Changes when another image takes its place: workers may outlive it.
    """

    path: Path
    reading: AxesReading
    identity: tuple[int, ...]

    @property
    def lazy(self) -> bool:
        """Whether fetching them takes a while."""
        return True

    def plane(self, index: Index, box: Box) -> NDArray[Any]:
        """Return a box of a plane, (C, Y, X) in the image's dtype."""
        return self.reading.plane(_opened(self.path, self.identity), index, box)


@lru_cache(maxsize=4)
def _opened(path: Path, _: tuple[int, ...]) -> Any:
    return read_picture(path).data


@dataclass(frozen=True)
class _Writer:
    """Writes tiles into masks that were made before; each chunk is written once.

    Attributes
    ----------
    classes : int
        Classes of the model.
    labels : Path
        Zarr array of the mask.
    confidence : Path or None
        That of the confidence.
    """

    classes: int
    labels: Path
    confidence: Path | None

    def __call__(self, tile: TileResult) -> list[int]:
        """Write a tile; return the pixels of each class."""
        with storage_errors(self.labels.parent):
            arrays = [
                None if path is None else zarr.open_array(str(path), mode="r+")
                for path in (self.labels, self.confidence)
            ]
            write_tile(tile, *arrays)
        counts: list[int] = np.bincount(
            tile.labels.ravel(), minlength=self.classes
        ).tolist()
        return counts


@dataclass(frozen=True)
class _Block:
    """Tiles of a plane that fill whole chunks of the mask."""

    number: int
    index: Index
    tiles: tuple[Tile, ...]


@dataclass
class _Image:
    """An OME-Zarr on its way.

    Attributes
    ----------
    path : Path
        The image.
    outputs : Outputs
        What is made of it.
    counts : ndarray
        (K,) int64, the pixels of each class in finished blocks.
    left : int
        Blocks that are not finished.
    done : int
        Tiles that are.
    """

    path: Path
    outputs: Outputs
    counts: NDArray[np.int64]
    left: int = 0
    done: int = 0
    contexts: dict[Index, Context | None] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    @property
    def job(self) -> Job:
        """How it is predicted."""
        job = self.outputs.job
        # Workers refuse models of volumes.
        assert isinstance(job, Job)
        return job

    @property
    def total(self) -> int:
        """Tiles in all."""
        return len(self.job.indices) * len(self.job.tiles)

    def folder(self, ending: str) -> MaskFolder:
        """Return where a mask grows; the same after an interruption."""
        target = self.outputs.target(ending)
        return MaskFolder(target, target.with_name(f".{target.name}.part"))

    @property
    def folders(self) -> dict[str, MaskFolder]:
        """The masks that workers write."""
        endings = ["_mask"] + ["_confidence"] * self.job.confidence
        return {ending: self.folder(ending) for ending in endings}

    @cached_property
    def blocks(self) -> list[_Block]:
        """The pieces of work, plane by plane."""
        chunk = [_CHUNKS * side for side in self.outputs.chunk]

        def place(tile: Tile) -> tuple[int, ...]:
            return tuple(
                span.start // side for span, side in zip(tile.core, chunk, strict=True)
            )

        tiles = sorted(self.job.tiles, key=place)
        groups = [tuple(group) for _, group in groupby(tiles, place)]
        return [
            _Block(number, index, group)
            for number, (index, group) in enumerate(product(self.job.indices, groups))
        ]

    def part(self, block: _Block) -> Job:
        """Return the job of one block."""
        return replace(
            self.job,
            indices=(block.index,),
            tiles=block.tiles,
            contexts={block.index: self.contexts.get(block.index)},
        )

    def writer(self, classes: int) -> _Writer:
        """Return what writes a block on a worker."""
        levels = {ending: each.level for ending, each in self.folders.items()}
        return _Writer(classes, levels["_mask"], levels.get("_confidence"))


def _segment_file(name: str, task: Task, path: Path) -> dict[str, Any]:
    """Segment an image in a file of its own, on a worker."""
    runner = model_here(name).runner()
    return Segmenter(runner, task).segment(path, lambda done, total: None)


def _plan(
    name: str, task: Task, path: Path, cores: int | None, known: dict[str, Any] | None
) -> Job:
    """Plan the prediction of an OME-Zarr, on a worker; as before, if that is known."""
    runner = model_here(name).runner()
    picture = read_picture(path)
    reading = task.read(picture, runner.model.spec)
    options, tile, ranges = task.options, None, None
    if known is not None:
        runtime = "openvino" if known["openvino"] else "torch"
        options = replace(options, runtime=runtime)
        height, width = known["tile"]
        tile, ranges = (height, width), np.array(known["ranges"])
    job = plan(
        runner,
        picture.data,
        reading,
        options,
        tile=tile,
        ranges=ranges,
        cores=cores,
    )
    return replace(job, pixels=FilePixels(path, reading, tuple(identity(path))))


def _known(job: Job) -> dict[str, Any]:
    """Return what :func:`_plan` needs to plan the same again, ready for JSON."""
    return {
        "tile": [span.stop - span.start for span in job.tiles[0].core],
        "ranges": job.ranges.tolist(),
        "openvino": job.openvino,
    }


@dataclass
class Distributor:
    """Segments images on a cluster.

    Attributes
    ----------
    cluster : Cluster
        Its workers see the files.
    name : str
        What they know the model by.
    model : SegmentationModel
        The model.
    task : Task
        What is asked of it.
    record : Unfinished
        What was finished, in case of an interruption.
    on_tile : callable
        Called with an image and the numbers of its finished and of all tiles.
    """

    cluster: Cluster
    name: str
    model: SegmentationModel
    task: Task
    record: Unfinished
    on_tile: OnTile
    outputs: dict[Path, dict[str, Any]] = field(default_factory=dict)
    failures: dict[Path, InputError] = field(default_factory=dict)

    @property
    def _spec(self) -> ModelSpec:
        return self.model.spec

    def segment(self, images: Sequence[Path]) -> list[dict[str, Any]]:
        """Segment all images; one that fails does not stop the others.

        Parameters
        ----------
        images : sequence of Path
            As :func:`~napari_seg.cli.files.find_images` finds them.

        Returns
        -------
        list of dict
            What ``predict --json`` says of each that did not fail.

        Raises
        ------
        ClusterError
            If the cluster is lost; what is finished is kept, and found again by the
            next call.
        """
        for (path, block), result in self.cluster.run(self._calls(images)):
            if path in self.failures:
                # Other blocks of an image that was given up, whose masks are gone.
                continue
            if isinstance(result, InputError):
                self._fail(path, result)
            elif isinstance(result, StorageError):
                raise result
            elif block is None:
                self._finish_file(path, result)
            else:
                self._finish_block(block, result)
        # Blocks that were under way may have written after their masks were gone.
        self.record.sweep()
        return [self.outputs[path] for path in images if path in self.outputs]

    def _calls(self, images: Sequence[Path]) -> Iterator[Call]:
        for path in images:
            known = self.record.output(path)
            if known is not None:
                self.outputs[path] = known
                self.on_tile(path, 1, 1)
            elif is_zarr(path):
                yield from self._calls_of_zarr(path)
            else:
                arguments = self.name, self.task, path
                yield Call((path, None), _caught, (_segment_file, *arguments))

    def _calls_of_zarr(self, path: Path) -> Iterator[Call]:
        try:
            image = self._begin(path)
        except InputError as error:
            self._fail(path, error)
            return
        finished = self.record.blocks(path)
        left = [block for block in image.blocks if block.number not in finished]
        image.left = len(left)
        image.done = image.total - sum(len(block.tiles) for block in left)
        for counts in finished.values():
            image.counts += counts
        self.on_tile(path, image.done, image.total)
        if not left:
            self._finish_zarr(image)
        writer = image.writer(self._spec.n_classes)
        for block in left:
            if path in self.failures:
                return
            if self.model.global_context and block.index not in image.contexts:
                image.contexts[block.index] = self.cluster.call(
                    find_context, self.name, image.job, block.index
                )
            yield Call(
                (path, (image, block)),
                _caught,
                (compute, self.name, image.part(block), writer),
            )

    def _begin(self, path: Path) -> _Image:
        """Plan an image and make its masks, or take up those of an earlier call."""
        known = self.record.plan(path)
        picture = read_picture(path)
        job = self.cluster.call(
            _plan, self.name, self.task, path, self.cluster.cores, known
        )
        outputs = Outputs(path, self.task.folder, picture, job)
        image = _Image(path, outputs, np.zeros(self._spec.n_classes, np.int64))
        if known is not None:
            return image
        folders = image.folders
        self.record.begin(path, _known(job), [each.part for each in folders.values()])
        dtypes = {"_mask": np.uint8, "_confidence": np.float32}
        for ending, folder in folders.items():
            with storage_errors(folder.target):
                folder.create(
                    job.reading.spatial_shape,
                    dtypes[ending],
                    outputs.calibration,
                    outputs.version,
                    outputs.chunk,
                )
        return image

    def _fail(self, path: Path, error: InputError) -> None:
        self.failures.setdefault(path, error)
        self.record.give_up(path)

    def _finish_file(self, path: Path, output: dict[str, Any]) -> None:
        self.outputs[path] = output
        self.record.finish(path, output)
        self.on_tile(path, 1, 1)

    def _finish_block(
        self, place: tuple[_Image, _Block], counts: list[list[int]]
    ) -> None:
        image, block = place
        pixels = np.sum(counts, axis=0)
        image.counts += pixels
        image.left -= 1
        image.done += len(block.tiles)
        self.record.finish_block(image.path, block.number, pixels.tolist())
        self.on_tile(image.path, image.done, image.total)
        if image.left == 0:
            self._finish_zarr(image)

    def _finish_zarr(self, image: _Image) -> None:
        outputs, found = image.outputs, None
        if self.task.instances:
            labels: Any = zarr.open_array(str(image.folder("_mask").level), mode="r")
            objects, found = self.task.number(
                np.asarray(labels), self.model, pick_device("auto"), outputs
            )
            with outputs.writing("_instances", np.uint32) as numbers:
                numbers[...] = objects
        for folder in image.folders.values():
            with storage_errors(folder.target):
                folder.put_in_place(image.path)
        seconds = time.monotonic() - image.begun
        said = outputs.said(self._spec, image.counts, seconds, found)
        self.outputs[image.path] = said
        self.record.finish(image.path, said)


def _caught(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns, or the error if it may be the image's alone."""
    try:
        return function(*arguments)
    except (InputError, StorageError) as error:
        return error
