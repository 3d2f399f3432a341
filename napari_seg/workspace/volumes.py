"""From what the user vouches for in a stack to windows of volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.blocks import (
    MOST_VOXELS,
    Block,
    Slices,
    cut_block,
    keep_within,
    plan_blocks,
)
from napari_seg.corrections.windows import PixelSize, Window
from napari_seg.inference.axes import as_array
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.regions import Box
from napari_seg.workspace.session import Session

if TYPE_CHECKING:
    from napari_seg.workspace.lesson import VouchedPlane

__all__ = ["VolumeWindows", "why_no_volumes"]


def why_no_volumes(session: Session) -> str:
    """Return why a model of volumes cannot learn from an image, or nothing."""
    if "Z" not in session.reading.axes:
        return (
            "This model learns from volumes, and the image has no Z axis: give Z to "
            "one of its axes under Axes, or choose a model that sees planes."
        )
    if session.source.read_as.zoom != 1:
        return "This model learns from volumes as they are: set the zoom to 1 first."
    return ""


class VolumeWindows:
    """The windows of one image, for a model of volumes.

    Parameters
    ----------
    session : Session
        The image; its intensities are known.
    planes : sequence of VouchedPlane
        What is vouched for in each of its planes; each time point is a volume.
    spec : ModelSpec
        Of the model.

    Attributes
    ----------
    passed_over : int
        Number of windows that would be too much for the memory.
    """

    def __init__(
        self, session: Session, planes: Sequence[VouchedPlane], spec: ModelSpec
    ) -> None:
        self._session = session
        self._image = as_array(session.source.data)
        reading = session.reading
        self._volumes: dict[tuple[int, ...], dict[int, NDArray[np.uint8]]] = {}
        for plane in planes:
            volume, z = reading.volume_of(plane.index)
            self._volumes.setdefault(volume, {})[z] = plane.truth
        planned = [
            block
            for volume, slices in self._volumes.items()
            for block in self._plan(volume, slices, spec.anisotropy or 1.0)
        ]
        channels = reading.channels
        sizes = [(block.vouched, block.voxels * channels) for block in planned]
        kept = keep_within(sizes, MOST_VOXELS)
        self._blocks = list(compress(planned, kept))
        self.passed_over = len(planned) - len(self._blocks)

    def _plan(
        self, volume: tuple[int, ...], slices: Slices, anisotropy: float
    ) -> list[Block]:
        reading = self._session.reading
        shape = (reading.depth, *reading.plane_shape)
        return plan_blocks(slices, shape, volume, anisotropy)

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Window]:
        """Read one window after the other."""
        session = self._session
        size = PixelSize(micrometres=session.source.pixel_size)
        for block in self._blocks:
            truth = self._volumes[block.index]
            yield cut_block(
                block, truth, self._read, session.image_id, session.ranges, size
            )

    def _read(self, volume: tuple[int, ...], box: Box) -> NDArray[Any]:
        z, y, x = box
        voxels = self._session.reading.volume(self._image, volume, z, (y, x))
        return voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, 1)
