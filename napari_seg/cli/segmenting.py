"""One image file → mask files."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from napari_seg.cli.files import MADE_HERE, Picture, bare_name, is_zarr, read_picture
from napari_seg.corrections.durable import write_atomically
from napari_seg.errors import ImageError, InputError, StorageError
from napari_seg.inference.axes import AxesReading, read_axes
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.base import SegmentationModel
from napari_seg.writer import Calibration, write_mask

__all__ = ["Segmenter", "check_targets", "label_objects"]


def _target(image: Path, folder: Path, ending: str) -> Path:
    suffix = ".zarr" if is_zarr(image) else ".tif"
    return folder / f"{bare_name(image)}{ending}{suffix}"


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
        target = _target(image, folder, ending)
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
class Segmenter:
    """What is the same for all images of one call.

    Attributes
    ----------
    model : SegmentationModel
        The model.
    folder : Path
        Where masks go.
    options : PredictOptions
        How masks are computed.
    axes : str or None
        Axes of the images; None believes the file, or else guesses.
    channels : tuple of int or None
        Which of their channels the model takes; None is all.
    device : torch.device
        Where the model runs.
    instances : bool
        Whether objects are numbered, too.
    """

    model: SegmentationModel
    folder: Path
    options: PredictOptions
    axes: str | None
    channels: tuple[int, ...] | None
    device: torch.device
    instances: bool

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
        picture = read_picture(path)
        reading = self._read_axes(picture)
        counts = np.zeros(self.model.spec.n_classes, np.int64)
        said: dict[str, Any] = {}
        with ExitStack() as files:

            def create(ending: str, dtype: type[np.generic]) -> Any:
                target = _target(path, self.folder, ending)
                said[ending.strip("_")] = target
                return files.enter_context(_writing(target, picture, reading, dtype))

            labels, sure = create("_mask", np.uint8), None
            if self.options.confidence:
                sure = create("_confidence", np.float32)
            for tile in stream(
                self.model,
                picture.data,
                axes=reading.axes,
                channels=reading.picked,
                device=self.device,
                options=self.options,
            ):
                labels[tile.region] = _with_axes(tile.labels, len(tile.index))
                if tile.confidence is not None and sure is not None:
                    sure[tile.region] = _with_axes(tile.confidence, len(tile.index))
                counts += np.bincount(tile.labels.ravel(), minlength=len(counts))
                on_tile(tile.done, tile.total)
            if self.instances:
                objects, count = label_objects(np.asarray(labels), reading.leading)
                create("_instances", np.uint32)[...] = objects
                said["objects"] = count
        return {
            "input": path,
            **said,
            "shape": reading.spatial_shape,
            "classes": self.model.spec.classes,
            "pixels_per_class": counts.tolist(),
            "seconds": time.monotonic() - start,
        }

    def _read_axes(self, picture: Picture) -> AxesReading:
        data, axes = picture.data, self.axes or picture.axes
        try:
            rgb = picture.rgb and not axes
            return read_axes(
                data.shape, data.dtype, self.model.spec, axes, rgb, self.channels
            )
        except ImageError as error:
            if self.axes is None and picture.axes is not None:
                told = f" (The file names its axes {axes}; --axes overrules it.)"
                raise type(error)(f"{error}{told}") from error
            raise


def _with_axes(plane: NDArray[Any], count: int) -> NDArray[Any]:
    """Return (Y, X) with `count` axes of length 1 before it: zarr needs them."""
    return plane.reshape(*(1,) * count, *plane.shape)


def _writing(
    target: Path, picture: Picture, reading: AxesReading, dtype: type[np.generic]
) -> AbstractContextManager[Any]:
    """Return a context that gives an array to fill, and writes it at its end."""
    axes = reading.leading + "YX"
    given = picture.calibration
    calibration = given if given.axes == axes else Calibration(axes)
    shape = reading.spatial_shape
    if is_zarr(target):
        from napari_seg.cli.omezarr import create_mask

        return create_mask(target, shape, dtype, calibration, picture.data)
    return _writing_tiff(target, shape, dtype, calibration)


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


def label_objects(labels: NDArray[Any], leading: str) -> tuple[NDArray[np.uint32], int]:
    """Give each set of connected pixels of a class a number; the background has 0.

    Parameters
    ----------
    labels : ndarray of int, shape (..., Y, X)
        Class ids; pixels of different classes are never one object.
    leading : str
        Letters of the axes before Y and X. Objects reach through Z, not through
        others, such as time; diagonal neighbours are connected.

    Returns
    -------
    objects : ndarray of uint32
        0 background, then one number for each object of the whole image.
    count : int
        Objects.
    """
    # Imported late: few predictions need it.
    from skimage import measure

    label: Any = measure.label
    objects = np.zeros(labels.shape, np.uint32)
    count = 0
    steps: list[Iterable[Any]] = [
        (slice(None),) if letter == "Z" else range(length)
        for letter, length in zip(leading, labels.shape, strict=False)
    ]
    for place in product(*steps):
        found, here = label(labels[place], background=0, return_num=True)
        objects[place] = np.where(found > 0, found + count, 0)
        count += here
    return objects, count
