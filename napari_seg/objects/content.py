"""The ids of objects, and what is counted under them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError, LabelsError
from napari_seg.inference.axes import as_array, guess_axes
from napari_seg.objects.layers import Layer, Span, spatial_axes
from napari_seg.objects.outline import HALO
from napari_seg.objects.sums import BlockSums, add_up, block_sums

__all__ = ["Content"]


class Content:
    """Arrays over the same pixels: ids, and what may be known of each object.

    Parameters
    ----------
    ids : array of int, shape (..., Y, X)
        Ids of objects, 0 for none.
    axes : str or None
        A letter for each axis; None is YX, ZYX or TZYX.
    """

    def __init__(self, ids: Any, axes: str | None) -> None:
        self.ids = ids = _as_layer(ids, axes)
        self.space = spatial_axes(ids.axes)
        self.shape = tuple(ids.length(letter) for letter in self.space)
        self.labels: Layer | None = None
        self.values: dict[tuple[str, ...], Layer] = {}

    def add(self, labels: Any, confidence: Any, corrected: Any) -> None:
        """Take arrays of the shape of the ids, where they are given."""
        if labels is not None:
            self.labels = self._fitting(labels, self.ids.axes, "mask of classes")
        if confidence is not None:
            layer = self._fitting(confidence, self.ids.axes, "confidence")
            self.values["confidence",] = layer
        if corrected is not None:
            layer = self._fitting(corrected, self.ids.axes, "array of corrections")
            self.values["corrected",] = layer

    def add_image(
        self, image: Any, axes: str | None, names: Sequence[str] | None
    ) -> tuple[str, ...]:
        """Take the image, if there is one; return the names of its channels."""
        if image is None:
            return ()
        data = as_array(image)
        if axes is None:
            more = len(data.shape) == len(self.ids.axes) + 1
            axes = "C" + self.ids.axes if more else self.ids.axes
        layer = self._fitting(data, axes, "image")
        count = layer.length("C") if "C" in axes else 1
        told = tuple(map(str, range(count) if names is None else names))
        if len(told) != count or len(set(told)) < count:
            raise InputError(
                f"The image has {count} channels, and their names are "
                f"{', '.join(told)}; give each channel a name of its own."
            )
        self.values[tuple(f"channel{i}" for i in range(count))] = layer
        return told

    def _fitting(self, data: Any, axes: str, what: str) -> Layer:
        layer = Layer(as_array(data), axes.upper())
        lengths = {letter: layer.length(letter) for letter in layer.axes}
        lengths.pop("C", None)
        expected = {letter: self.ids.length(letter) for letter in self.ids.axes}
        if lengths != expected:
            raise InputError(
                f"The {what} has shape {layer.data.shape} (axes {layer.axes}), the "
                f"objects have {self.ids.data.shape} (axes {self.ids.axes}); both "
                "must cover the same pixels."
            )
        return layer

    def count(self, step: dict[str, int], span: Span) -> BlockSums | None:
        """Count in one block."""
        return block_sums(
            _checked_ids(self._read_ids(step, span)),
            span,
            self.space.lower(),
            None if self.labels is None else partial(self.labels.read, step),
            {name: partial(each.read, step) for name, each in self.values.items()},
        )

    def _read_ids(self, step: dict[str, int], span: Span) -> NDArray[Any]:
        """Read the ids of a block, those of a plane with a frame around it."""
        if len(span) == 3:
            return self.ids.read(step, span)
        wide = tuple(
            slice(max(side.start - HALO, 0), min(side.stop + HALO, n))
            for side, n in zip(span, self.shape, strict=True)
        )
        missing = [
            (wider.start - side.start + HALO, side.stop + HALO - wider.stop)
            for side, wider in zip(span, wide, strict=True)
        ]
        return np.pad(self.ids.read(step, wide), missing)

    def single_pixel(self) -> BlockSums:
        """Return the sums of an object of one pixel, as if it were there."""
        ids = np.ones((1,) * len(self.space), np.uint8)
        nothing = np.zeros_like(ids)

        def read(_: Span, channels: int = 1) -> NDArray[Any]:
            return np.stack([nothing] * channels) if channels > 1 else nothing

        found = block_sums(
            np.pad(ids, HALO) if ids.ndim == 2 else ids,
            (slice(0, 1),) * ids.ndim,
            self.space.lower(),
            None if self.labels is None else read,
            {names: partial(read, channels=len(names)) for names in self.values},
        )
        total = add_up([found])
        assert total is not None
        return total


def _as_layer(ids: Any, axes: str | None) -> Layer:
    data = as_array(ids)
    if len(data.shape) < 2 or 0 in data.shape:
        raise LabelsError(
            f"An array of shape {data.shape} holds no objects; it has at least the "
            "axes Y and X and is not empty."
        )
    letters = (axes or guess_axes(len(data.shape))).upper()
    if "C" in letters:
        raise InputError(
            f"Axes {letters!r}: ids of objects have no channels; give one of them."
        )
    return Layer(data, letters)


def _checked_ids(ids: NDArray[Any]) -> NDArray[Any]:
    if ids.dtype.kind not in "bui":
        raise LabelsError(
            f"Values of type {ids.dtype} are no ids of objects; convert them to "
            "integers first."
        )
    if ids.dtype.kind == "i" and ids.min() < 0:
        raise LabelsError(
            f"There is an object with the id {ids.min()}; ids are above 0, and 0 is no "
            "object."
        )
    # Files of other machines have other byte orders.
    kind = np.uint8 if ids.dtype == bool else ids.dtype.newbyteorder("=")
    return ids.astype(kind, copy=False)
