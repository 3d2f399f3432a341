"""What the viewer shows: an image, and the part of it that is on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_seg.inference.axes import AxesReading, as_array, read_axes
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.regions import Box

__all__ = ["ImageSource", "View"]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image as the viewer shows it.

    Attributes
    ----------
    name : str
        Name of the layer.
    data : array
        The pixels: NumPy, dask, zarr, or a list of levels.
    rgb : bool
        Whether the last axis is RGB or RGBA.
    axes : str or None
        What the axes mean, where somebody said so.
    """

    name: str
    data: Any
    rgb: bool = False
    axes: str | None = None

    def read_for(self, spec: ModelSpec) -> AxesReading:
        """Return what the axes mean to a model.

        Raises
        ------
        ImageError, ChannelError
            If the model cannot take the image.
        """
        image = as_array(self.data)
        return read_axes(image.shape, image.dtype, spec, self.axes, self.rgb)

    def same_as(self, other: ImageSource | None) -> bool:
        """Whether both are the same pixels under the same name."""
        return other is not None and self.data is other.data and self.name == other.name


@dataclass(frozen=True)
class View:
    """What the user sees of a mask.

    Attributes
    ----------
    index : tuple of int
        The plane shown, one number for each axis before Y and X.
    rows, columns : slice
        The visible pixels of it.
    """

    index: tuple[int, ...]
    rows: slice
    columns: slice

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return self.rows, self.columns

    def beside(self, plane_shape: tuple[int, int]) -> bool:
        """Whether nothing of a plane is seen: viewers then tell its outermost line."""
        sides = zip(self.box, plane_shape, strict=True)
        return any(side.stop - side.start <= 1 < length for side, length in sides)

    @property
    def region(self) -> Box:
        """The view as slices into the mask (..., Y, X)."""
        return (*(slice(i, i + 1) for i in self.index), self.rows, self.columns)
