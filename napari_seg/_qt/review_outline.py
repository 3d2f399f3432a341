"""A thin line around what was reviewed."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels, Shapes
from numpy.typing import NDArray
from skimage.measure import find_contours

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.viewer_link import ViewerLink, mask_transform
from napari_seg.corrections.ledger import ACCEPTED
from napari_seg.workspace import Workspace

__all__ = ["ReviewOutline"]

#: Longest side of the grid on which the line is found, in samples.
_GRID = 512
_COLOR = "#F0E442"


class ReviewOutline:
    """Shows the accepted part of the current plane as a layer of lines.

    The layer comes with the first acceptance, and goes with the mask.
    """

    def __init__(self, workspace: Workspace, link: ViewerLink, mask: MaskView) -> None:
        self._workspace, self._link, self._mask = workspace, link, mask
        self._layer: Shapes | None = None
        workspace.reviewed.connect(self.show)
        workspace.mask_started.connect(self.show)
        workspace.changed.connect(self._forget_with_mask)
        link.viewer.dims.events.current_step.connect(self._plane_changed)

    def _plane_changed(self, _: object = None) -> None:
        session = self._workspace.session
        if self._layer is not None and session is not None and session.reading.leading:
            self.show()

    def _forget_with_mask(self) -> None:
        if self._mask.layer is None:
            self.remove()

    def remove(self) -> None:
        """Take the layer away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._link.viewer.layers:
            self._link.viewer.layers.remove(layer)

    def show(self) -> None:
        """Draw the line anew."""
        session, mask = self._workspace.session, self._mask.layer
        if session is None or session.ledger is None or mask is None:
            return
        if not session.ledger.accepted_pixels:
            self.remove()
            return
        index = self._link.view(mask, session.reading).index
        plane = (*(slice(i, i + 1) for i in index), slice(None), slice(None))
        state = session.ledger.state(plane)
        lines = outlines(state.reshape(state.shape[-2:]) & ACCEPTED > 0)
        layer = self._layer
        if layer is None or layer not in self._link.viewer.layers:
            layer = self._layer = self._add(mask)
        layer.data = []
        if lines:
            layer.add_paths(lines, edge_width=_edge_width(mask), edge_color=_COLOR)
        layer.editable = False

    def _add(self, mask: Labels) -> Shapes:
        layers = self._link.viewer.layers
        active = layers.selection.active
        name = f"{mask.name.removesuffix(' mask')} reviewed"
        layer = Shapes(name=name, ndim=2, opacity=0.8, **mask_transform(mask, 2))
        self._link.viewer.add_layer(layer)
        layers.selection.active = active
        return layer

    def disconnect(self) -> None:
        """Forget the viewer; the layer stays with it."""
        self._link.viewer.dims.events.current_step.disconnect(self._plane_changed)


def outlines(accepted: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the borders of a region as lines of (Y, X) points.

    Parameters
    ----------
    accepted : ndarray of bool, (Y, X)
        The region; it is sampled on a grid of at most 512 points a side.
    """
    step = -(-max(accepted.shape) // _GRID)
    # The frame closes the line where the region meets the border of the image.
    grid = np.pad(accepted[::step, ::step], 1).astype(np.float32)
    return [(line - 1) * step for line in find_contours(grid, 0.5)]


def _edge_width(mask: Labels) -> float:
    """Return a width that is thin on the screen, whatever the size of the image."""
    height, width = mask.data.shape[-2:]
    return float(max(1.0, height / 400, width / 400))
