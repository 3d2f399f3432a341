"""What tells the objects of an image apart, computed where it is read.

What belongs to a block is computed when the block comes, and forgotten after it: so
images of any size can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.inference.axes import AxesReading, as_array
from napari_seg.inference.engine import TileResult
from napari_seg.inference.normalization import channel_ranges
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.base import SegmentationModel
from napari_seg.models.objects import OBJECT_MAPS, require_object_head

__all__ = ["ClassProbability", "ObjectMaps", "Seen", "check_split", "split_maps"]


def check_split(split: str, model: SegmentationModel) -> None:
    """Raise InputError if a model cannot tell objects apart in this way."""
    if split == "model":
        require_object_head(model)
    elif split == "probability" and model.spec.ndim != 2:
        raise InputError(
            "The probabilities of a model of volumes cannot be read plane by plane; "
            "split objects by their shape."
        )


def split_maps(
    split: str, seen: Seen, labels: Any
) -> ObjectMaps | ClassProbability | None:
    """Return what :func:`~napari_seg.objects.instances.find_objects` takes as maps.

    Parameters
    ----------
    split : str
        How objects are told apart.
    seen : Seen
        The model and the image.
    labels : (..., Y, X) array of uint8
        Class ids of the mask.

    Raises
    ------
    InputError
        If the model cannot do it.
    """
    if split == "model":
        return ObjectMaps(seen)
    return ClassProbability(seen, labels) if split == "probability" else None


@dataclass
class Seen:
    """A model, and the image that it looks at in parts.

    Attributes
    ----------
    model : SegmentationModel
        Of planes.
    image : array
        As :func:`napari_seg.predict` takes it.
    reading : AxesReading
        Meaning of its axes.
    device : str or torch.device
        Where the model runs.
    options : PredictOptions
        Tile, halo, zoom, batch, precision and runtime of the prediction.
    ranges : (C, 2) ndarray of float64, optional
        Intensities, if they are known; else read off the image, once.
    cancelled : callable, optional
        Asked now and then; once it returns True, what is read is no longer of use.
    """

    model: SegmentationModel
    image: Any
    reading: AxesReading
    device: str | torch.device = "auto"
    options: PredictOptions = field(default_factory=PredictOptions)
    ranges: NDArray[np.float64] | None = None
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        self.image = as_array(self.image)

    def tiles(
        self,
        index: Sequence[int],
        box: tuple[slice, slice],
        options: PredictOptions,
        *,
        objects: bool = False,
    ) -> Iterator[tuple[tuple[slice, slice], TileResult]]:
        """Predict a box of a plane; yield where on it each tile lies, and the tile.

        Raises
        ------
        DeviceError
            If the device has too little memory.
        """
        if self.ranges is None:
            normalization = self.model.spec.normalization
            self.ranges = channel_ranges(self.image, self.reading, normalization)
        for tile in stream(
            self.model,
            self.image,
            axes=self.reading.axes,
            channels=self.reading.picked,
            device=self.device,
            options=options,
            within=box,
            indices=[index],
            ranges=self.ranges,
            cancelled=self.cancelled,
            objects=objects,
        ):
            rows, columns = (
                slice(span.start - around.start, span.stop - around.start)
                for span, around in zip(tile.box, box, strict=True)
            )
            yield (rows, columns), tile


class ObjectMaps:
    """An array of the maps of an object head.

    Parameters
    ----------
    seen : Seen
        The model, which has an object head, and the image.

    Attributes
    ----------
    shape : tuple of int
        (..., 3, Y, X).

    Raises
    ------
    InputError
        If the model has no object head.
    """

    def __init__(self, seen: Seen) -> None:
        check_split("model", seen.model)
        self._seen = seen
        # A mean over mirror images has no direction; the rest is for the classes.
        self._options = replace(seen.options, flips=False, crf=False, confidence=False)
        *leading, height, width = seen.reading.spatial_shape
        self.shape = (*leading, OBJECT_MAPS, height, width)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.float16]:
        """Return the maps (3, Y, X) of a box: a plane's index, ``:``, and two slices.

        Raises
        ------
        DeviceError
            If the device has too little memory.
        """
        *index, _, rows, columns = key
        box = (rows, columns)
        sides = (span.stop - span.start for span in box)
        maps = np.zeros((OBJECT_MAPS, *sides), np.float16)
        for inside, tile in self._seen.tiles(index, box, self._options, objects=True):
            maps[(slice(None), *inside)] = tile.objects
        return maps


class ClassProbability:
    """An array of how probable a model finds the classes of a mask.

    Where the mask is not what the model predicts, which the user may have corrected, it
    is what the model leaves for all other classes together.

    Parameters
    ----------
    seen : Seen
        The model and the image.
    labels : (..., Y, X) array of uint8
        Class ids of the mask.

    Attributes
    ----------
    shape : tuple of int
        (..., 1, Y, X).

    Raises
    ------
    InputError
        If the model takes volumes.
    """

    def __init__(self, seen: Seen, labels: Any) -> None:
        check_split("probability", seen.model)
        self._seen, self._labels = seen, labels
        self._options = replace(seen.options, crf=False, confidence=True)
        *leading, height, width = seen.reading.spatial_shape
        self.shape = (*leading, 1, height, width)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """Return (1, Y, X) of a box: a plane's index, ``:``, and two slices.

        Raises
        ------
        DeviceError
            If the device has too little memory.
        """
        *index, _, rows, columns = key
        labels = np.asarray(self._labels[(*index, rows, columns)])
        probability = np.zeros(labels.shape, np.float32)
        for inside, tile in self._seen.tiles(index, (rows, columns), self._options):
            sure = np.asarray(tile.confidence)
            same = tile.labels == labels[inside]
            probability[inside] = np.where(same, sure, 1 - sure)
        return probability[None]
