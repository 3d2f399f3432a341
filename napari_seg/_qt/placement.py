"""Where a layer lies in the world, so that it can be put back there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

from napari.layers import Layer

__all__ = ["Placement"]

_PARTS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


class Placement:
    """The transform of a layer, as it was before its data lost an axis.

    napari forgets the transform of an axis along with the axis, and tells nobody.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        # napari knows units and names of axes since 0.5.4.
        self._names = [name for name in _PARTS if hasattr(layer, name)]
        self.note()

    def connections(self) -> Iterator[tuple[Any, Callable[..., None]]]:
        """Yield the events after which the layer lies elsewhere, with :meth:`note`."""
        for name in self._names:
            yield getattr(self._layer.events, name), self.note

    def note(self, event: Any = None) -> None:
        """Remember where the layer lies now."""
        parts = {name: getattr(self._layer, name) for name in self._names}
        parts["affine"] = self._layer.affine.affine_matrix
        self._parts = {name: copy(value) for name, value in parts.items()}

    def restore(self) -> None:
        """Put the layer back to where it was."""
        for name, value in self._parts.copy().items():
            setattr(self._layer, name, value)
