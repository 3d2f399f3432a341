"""What an object head says of a whole image, without holding it in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.inference.axes import AxesReading, as_array
from napari_seg.inference.normalization import channel_ranges
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.base import SegmentationModel
from napari_seg.models.objects import OBJECT_MAPS, require_object_head

__all__ = ["ObjectMaps"]


class ObjectMaps:
    """An array of the maps of an object head, computed where it is read.

    What tells the objects of a block apart is computed when the block comes, and
    forgotten after it: so images of any size can be read.

    Parameters
    ----------
    model : SegmentationModel
        With an object head.
    image : array
        As :func:`napari_seg.predict` takes it.
    reading : AxesReading
        Meaning of its axes.
    device : str or torch.device
        Where the model runs.
    options : PredictOptions, optional
        Tile, halo, zoom, batch, precision and runtime of the prediction.
    ranges : (C, 2) ndarray of float64, optional
        Intensities, if they are known; else read off the image, once.
    cancelled : callable, optional
        Asked now and then; once it returns True, what is read is no longer of use.

    Attributes
    ----------
    shape : tuple of int
        (..., 3, Y, X).

    Raises
    ------
    InputError
        If the model has no object head.
    """

    def __init__(
        self,
        model: SegmentationModel,
        image: Any,
        reading: AxesReading,
        *,
        device: str | torch.device = "auto",
        options: PredictOptions | None = None,
        ranges: NDArray[np.float64] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        require_object_head(model)
        self._model, self._image = model, as_array(image)
        self._reading, self._ranges = reading, ranges
        self._device, self._cancelled = device, cancelled
        # A mean over mirror images has no direction; the rest is for the classes.
        self._options = replace(
            options or PredictOptions(), flips=False, crf=False, confidence=False
        )
        *leading, height, width = reading.spatial_shape
        self.shape = (*leading, OBJECT_MAPS, height, width)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.float16]:
        """Return the maps (3, Y, X) of a box: a plane's index, ``:``, and two slices.

        Raises
        ------
        DeviceError
            If the device has too little memory.
        """
        if self._ranges is None:
            normalization = self._model.spec.normalization
            self._ranges = channel_ranges(self._image, self._reading, normalization)
        *index, _, rows, columns = key
        box = (rows, columns)
        sides = (span.stop - span.start for span in box)
        maps = np.zeros((OBJECT_MAPS, *sides), np.float16)
        for tile in stream(
            self._model,
            self._image,
            axes=self._reading.axes,
            channels=self._reading.picked,
            device=self._device,
            options=self._options,
            within=box,
            indices=[index],
            ranges=self._ranges,
            cancelled=self._cancelled,
            objects=True,
        ):
            inside = (
                slice(span.start - around.start, span.stop - around.start)
                for span, around in zip(tile.box, box, strict=True)
            )
            maps[(slice(None), *inside)] = tile.objects
        return maps
