"""One image file → mask files."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_seg.cli.files import Picture, read_picture
from napari_seg.corrections.durable import write_atomically
from napari_seg.errors import ImageError, InputError, StorageError
from napari_seg.folders import MADE_HERE, bare_name, is_zarr, zarr_root
from napari_seg.inference.axes import AxesReading, read_axes
from napari_seg.inference.engine import Job, TileResult
from napari_seg.inference.predict import PredictOptions, plan
from napari_seg.inference.volume import VolumeJob, plan_volume
from napari_seg.writer import Calibration, write_mask

if TYPE_CHECKING:
    import torch

    from napari_seg.inference.runner import TileRunner
    from napari_seg.models.base import SegmentationModel
    from napari_seg.models.spec import ModelSpec
    from napari_seg.objects.numbering import Split

__all__ = [
    "Outputs",
    "Segmenter",
    "Task",
    "check_targets",
    "target_of",
]

#: Shorter sides of a chunk would make too many files.
_LEAST_CHUNK = 256


def target_of(image: Path, folder: Path, ending: str) -> Path:
    """Return where the mask of an image goes; that of a plate's field into a plate."""
    if not is_zarr(image):
        return folder / f"{bare_name(image)}{ending}.tif"
    root = zarr_root(image)
    return folder / f"{bare_name(root)}{ending}.zarr" / image.relative_to(root)


def check_targets(images: Sequence[Path], folder: Path) -> None:
    """Refuse inputs whose masks would replace each other, or an input.

    Raises
    ------
    InputError
        If so.
    """
    inputs = {path.resolve() for path in images}
    owners: dict[Path, Path] = {}
    for image, ending in product(images, MADE_HERE):
        target = target_of(image, folder, ending)
        other = owners.setdefault(target, image)
        if other is not image:
            raise InputError(
                f"{other} and {image} would both be written to {target}; predict them "
                "into different folders."
            )
        if target.resolve() in inputs:
            raise InputError(
                f"The mask of {image} would replace {target}, which is an input too; "
                "choose another folder for -o."
            )


@dataclass(frozen=True)
class Task:
    """What is the same for all images of one call.

    Attributes
    ----------
    folder : Path
        Where masks go.
    options : PredictOptions
        How masks are computed.
    axes : str or None
        Axes of the images; None believes the file, or else guesses.
    channels : tuple of int or None
        Which of their channels the model takes; None is all.
    instances : bool
        Whether objects are numbered, too.
    split : str
        How: see :func:`napari_seg.objects.numbering.number_objects`.
    """

    folder: Path
    options: PredictOptions
    axes: str | None
    channels: tuple[int, ...] | None
    instances: bool
    split: Split = "shape"

    def number(
        self,
        labels: NDArray[np.uint8],
        model: SegmentationModel,
        device: torch.device,
        outputs: Outputs,
    ) -> tuple[NDArray[np.uint32], int]:
        """Return the objects of a mask that the model made, and how many there are."""
        # Imported late: few predictions need it.
        from napari_seg.inference.object_maps import Seen, split_maps
        from napari_seg.objects.numbering import number_objects

        job = outputs.job
        seen = Seen(
            model,
            outputs.picture.data,
            job.reading,
            device=device,
            options=self.options,
            ranges=job.ranges,
        )
        maps = split_maps(self.split, seen, labels)
        ids = number_objects(labels, job.reading.leading, self.split, maps=maps)
        return ids, int(ids.max(initial=0))

    def read(self, picture: Picture, spec: ModelSpec) -> AxesReading:
        """Return what the axes of an image mean to a model.

        Raises
        ------
        ImageError, ChannelError
            If they do not fit it.
        """
        data, axes = picture.data, self.axes or picture.axes
        try:
            rgb = picture.rgb and not axes
            return read_axes(data.shape, data.dtype, spec, axes, rgb, self.channels)
        except ImageError as error:
            if self.axes is None and picture.axes is not None:
                told = f" (The file names its axes {axes}; --axes overrules it.)"
                raise type(error)(f"{error}{told}") from error
            raise


@dataclass(frozen=True)
class Segmenter:
    """Segments images one after the other.

    Attributes
    ----------
    runner : TileRunner
        The model where it runs.
    task : Task
        What is asked of it.
    """

    runner: TileRunner
    task: Task

    def segment(
        self, path: Path, on_tile: Callable[[int, int], None]
    ) -> dict[str, Any]:
        """Segment one image, and write its mask and what else was asked for.

        Parameters
        ----------
        path : Path
            The image.
        on_tile : callable
            Called with the numbers of finished and of all tiles after each.

        Returns
        -------
        dict
            What ``predict --json`` says of one input.

        Raises
        ------
        ImageError, ChannelError, DeviceError
            If the image cannot be read, or does not fit the model or the memory.
        StorageError
            If a file cannot be written.
        """
        start = time.monotonic()
        spec = self.runner.model.spec
        picture = read_picture(path)
        reading = self.task.read(picture, spec)
        decide = plan if spec.ndim == 2 else plan_volume
        job = decide(self.runner, picture.data, reading, self.task.options)
        outputs = Outputs(path, self.task.folder, picture, job)
        counts = np.zeros(spec.n_classes, np.int64)
        with ExitStack() as files:
            files.callback(self.runner.release)

            def create(ending: str, dtype: type[np.generic]) -> Any:
                return files.enter_context(outputs.writing(ending, dtype))

            labels, sure = create("_mask", np.uint8), None
            if job.confidence:
                sure = create("_confidence", np.float32)
            for tile in job.results(self.runner):
                write_tile(tile, labels, sure)
                counts += np.bincount(tile.labels.ravel(), minlength=len(counts))
                on_tile(tile.done, tile.total)
            found = None
            if self.task.instances:
                runner = self.runner
                objects, found = self.task.number(
                    np.asarray(labels), runner.model, runner.device, outputs
                )
                create("_instances", np.uint32)[...] = objects
        return outputs.said(spec, counts, time.monotonic() - start, found)


@dataclass(frozen=True)
class Outputs:
    """The files that are made of one image.

    Attributes
    ----------
    image : Path
        The image.
    folder : Path
        Where they go.
    picture : Picture
        The image as its file describes it.
    job : Job or VolumeJob
        How it is predicted.
    """

    image: Path
    folder: Path
    picture: Picture
    job: Job | VolumeJob

    @property
    def chunk(self) -> tuple[int, int]:
        """Height and width of a chunk: whole tiles, so that none is written twice."""
        height, width = (
            side * max(1, -(-_LEAST_CHUNK // side))
            for side in (span.stop - span.start for span in self.job.tiles[0].core[-2:])
        )
        return height, width

    @property
    def calibration(self) -> Calibration:
        """Meaning of the mask's axes."""
        axes = self.job.reading.leading + "YX"
        given = self.picture.calibration
        return given if given.axes == axes else Calibration(axes)

    @property
    def version(self) -> Literal[2, 3]:
        """Version of zarr that image and mask have."""
        version: Literal[2, 3] = self.picture.data.metadata.zarr_format
        return version

    def writing(
        self, ending: str, dtype: type[np.generic]
    ) -> AbstractContextManager[Any]:
        """Return a context that gives an array to fill, and writes it at its end."""
        target, shape = self.target(ending), self.job.reading.spatial_shape
        if not is_zarr(self.image):
            return _writing_tiff(target, shape, dtype, self.calibration)
        from napari_seg.cli.omezarr import create_mask

        given = self.calibration, self.version, self.chunk
        return create_mask(target, self.image, shape, dtype, *given)

    def target(self, ending: str) -> Path:
        """Return the path of a mask."""
        return target_of(self.image, self.folder, ending)

    def said(
        self,
        spec: ModelSpec,
        counts: NDArray[np.int64],
        seconds: float,
        objects: int | None,
    ) -> dict[str, Any]:
        """Return what ``predict --json`` says of one input."""
        said: dict[str, Any] = {"input": self.image, "mask": self.target("_mask")}
        if self.job.confidence:
            said["confidence"] = self.target("_confidence")
        if objects is not None:
            said |= {"instances": self.target("_instances"), "objects": objects}
        return {
            **said,
            "shape": self.job.reading.spatial_shape,
            "classes": spec.classes,
            "pixels_per_class": counts.tolist(),
            "seconds": seconds,
        }


def write_tile(tile: TileResult, labels: Any, confidence: Any) -> None:
    """Write a tile into the arrays of the whole image; the second may be None."""
    labels[tile.region] = _with_axes(tile.labels, len(tile.index))
    if confidence is not None:
        assert tile.confidence is not None
        confidence[tile.region] = _with_axes(tile.confidence, len(tile.index))


def _with_axes(plane: NDArray[Any], count: int) -> NDArray[Any]:
    """Return (Y, X) with `count` axes of length 1 before it: zarr needs them."""
    return plane.reshape(*(1,) * count, *plane.shape)


@contextmanager
def _writing_tiff(
    target: Path, shape: tuple[int, ...], dtype: type[np.generic], given: Calibration
) -> Iterator[NDArray[Any]]:
    array = np.zeros(shape, dtype)
    yield array
    if array.dtype.kind == "f":
        _write_float(target, array)
    else:
        write_mask(target, array, given)


def _write_float(target: Path, array: NDArray[Any]) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, array, compression="zlib", photometric="minisblack")
    try:
        write_atomically(target, file.getbuffer())
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror}): free some space, or "
            "choose another folder."
        ) from error
