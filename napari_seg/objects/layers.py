"""Arrays over the same pixels, read box by box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError

__all__ = ["Layer", "blocks", "spatial_axes", "steps"]

_SPATIAL = "ZYX"
#: Sides of a block of a plane and of a stack: a million pixels, and whole chunks of
#: most files.
_SIDES = {2: (1024, 1024), 3: (16, 256, 256)}

Span = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """An array whose axes are known.

    Attributes
    ----------
    data : array
        NumPy, memory map, dask or zarr: anything with a shape, a dtype and slices.
    axes : str
        One letter for each axis: C holds the channels, Z, Y and X are space, any
        other is gone through step by step.
    """

    data: Any
    axes: str

    def __post_init__(self) -> None:
        fits = len(self.axes) == len(self.data.shape) == len(set(self.axes))
        if not fits or not set("YX") <= set(self.axes):
            raise InputError(
                f"Axes {self.axes!r} do not fit an array of shape {self.data.shape}: "
                "give each axis one letter, Y and X among them, none twice."
            )

    def length(self, letter: str) -> int:
        """Return the length of an axis."""
        return int(self.data.shape[self.axes.index(letter)])

    def read(self, step: Mapping[str, int], span: Span) -> NDArray[Any]:
        """Read a box, and nothing else of a lazy array.

        Parameters
        ----------
        step : mapping
            Position along each axis that is neither space nor channels.
        span : tuple of slice
            The box, in the order of :func:`spatial_axes`.

        Returns
        -------
        ndarray
            The box with its axes in that order, after C if there are channels.
        """
        place = dict(zip(spatial_axes(self.axes), span, strict=True))
        key = {**step, **place, "C": slice(None)}
        part = np.asarray(self.data[tuple(key[letter] for letter in self.axes)])
        kept = [letter for letter in self.axes if letter not in step]
        wanted = [letter for letter in "C" + _SPATIAL if letter in kept]
        return part.transpose([kept.index(letter) for letter in wanted])


def spatial_axes(axes: str) -> str:
    """Return the letters of space in `axes`, as ``ZYX`` or ``YX``."""
    return "".join(letter for letter in _SPATIAL if letter in axes)


def steps(layer: Layer) -> Iterator[dict[str, int]]:
    """Yield each position along the axes that are gone through step by step."""
    others = [a for a in layer.axes if a not in "C" + _SPATIAL]
    for place in product(*(range(layer.length(letter)) for letter in others)):
        yield dict(zip(others, place, strict=True))


def blocks(shape: tuple[int, ...]) -> list[Span]:
    """Cut a plane or a stack into boxes of at most a million pixels."""
    sides = _SIDES[len(shape)]
    starts = product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True)))
    return [
        tuple(
            slice(start, min(start + side, n))
            for start, side, n in zip(corner, sides, shape, strict=True)
        )
        for corner in starts
    ]
