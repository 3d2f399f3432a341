"""What the viewer shows: an image, and the part of it that is on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_seg.corrections.manifest import AS_GUESSED, ReadAs
from napari_seg.errors import ChannelError, ImageError
from napari_seg.inference.axes import (
    AxesReading,
    as_array,
    channel_choices,
    read_axes,
)
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.regions import Box

__all__ = ["ImageSource", "View"]

#: Between slices, in pixels, where nobody said how far they lie apart.
_USUAL_STEP = 2.0


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
    read_as : ReadAs
        Axes, channels and zoom, where somebody said so. A model that takes another
        number of channels takes the first.
    pixel_size : float or None
        Side of a pixel in micrometres, where it is known.
    project : Path or None
        Folder of the project that it belongs to with others; None is one of its own.
    steps : tuple of float
        From pixel to pixel along each axis but that of RGB; empty where unknown.
    """

    name: str
    data: Any
    rgb: bool = False
    read_as: ReadAs = AS_GUESSED
    pixel_size: float | None = None
    project: Path | None = None
    steps: tuple[float, ...] = ()

    def anisotropy(self, axes: str) -> float | None:
        """Return the step between slices in pixels; None for images without Z.

        Parameters
        ----------
        axes : str
            As they are read, a letter for each.
        """
        if "Z" not in axes:
            return None
        named = dict(zip(axes, self.steps, strict=False))
        z, y = (abs(named.get(letter, 1.0)) for letter in "ZY")
        # Cubes are what viewers show where nobody said anything.
        return round(z / y, 2) if y > 0 and 0 < z != y else _USUAL_STEP

    @property
    def available(self) -> int:
        """Channels that the image is known to have; 1 where nobody said so."""
        shape = as_array(self.data).shape
        if self.rgb:
            return min(int(shape[-1]), 3)
        place = (self.read_as.axes or "").upper().find("C")
        return int(shape[place]) if 0 <= place < len(shape) else 1

    def channel_choices(self, spec: ModelSpec) -> list[tuple[int, ...]]:
        """Return what a model could take of the channels, the first choice first."""
        return channel_choices(self.available, spec)

    def read_for(self, spec: ModelSpec) -> AxesReading:
        """Return what the axes mean to a model.

        Raises
        ------
        ImageError, ChannelError
            If the model cannot take the image, or napari would show the mask beside
            it.
        """
        try:
            reading = self._read(spec, self.read_as.channels)
        except ChannelError:
            choices = self.channel_choices(spec)
            # Of a photograph red alone is nobody's first choice.
            if not choices or (self.rgb and self.read_as.channels is None):
                raise
            reading = self._read(spec, choices[0])
        self._check_layout(reading)
        return reading

    def _read(self, spec: ModelSpec, channels: tuple[int, ...] | None) -> AxesReading:
        image = as_array(self.data)
        axes = self.read_as.axes
        return read_axes(image.shape, image.dtype, spec, axes, self.rgb, channels)

    def _check_layout(self, reading: AxesReading) -> None:
        """Refuse axes in an order in which the viewer cannot show a mask."""
        place = reading.axes.find("C")
        if place > 0 and not self.rgb:
            raise ImageError(
                f"The channels are axis {place} of the image ({reading.axes}), and the "
                "viewer lays a mask over images whose channels come first: open it "
                f"with np.moveaxis(image, {place}, 0), or each channel as a layer with "
                f"add_image(image, channel_axis={place}). napari-seg predict takes it "
                "as it is."
            )
        if not reading.layout.endswith("YX"):
            raise ImageError(
                f"The axes are read as {reading.axes}, and the viewer lays a mask over "
                "images whose last axes are Y and X: open it with these moved there. "
                "napari-seg predict takes it as it is."
            )

    def same_as(self, other: ImageSource | None) -> bool:
        """Whether both are the same pixels, under one name and in one project."""
        return (
            other is not None
            and self.data is other.data
            and (self.name, self.project) == (other.name, other.project)
        )


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
