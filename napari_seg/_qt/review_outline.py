"""A thin line around what was reviewed."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Vectors
from qtpy.QtCore import QTimer

from napari_seg._qt.accepted_cells import AcceptedCells, outline
from napari_seg._qt.idle import IdleBoxes
from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.viewer_link import ViewerLink, camera, mask_transform, remove_shapes
from napari_seg.scoring.regions import Box, as_box, intersection, union
from napari_seg.workspace import Workspace

__all__ = ["ReviewOutline", "line_width"]

_COLOR = "#F0E442"
#: Milliseconds after which a line is as thin again on the screen as it shall be.
_ZOOM_RESTS = 100


class ReviewOutline:
    """Shows the accepted part of the current plane as a layer of lines.

    The layer comes with the first acceptance, and goes with the mask.  A user who
    removes it has no line until something else is accepted.
    """

    def __init__(self, workspace: Workspace, link: ViewerLink, mask: MaskView) -> None:
        self._workspace, self._link, self._mask = workspace, link, mask
        self._layer: Vectors | None = None
        self._cells: AcceptedCells | None = None
        self._changed: Box | None = None
        self._waiting = IdleBoxes(self._look, self._draw)
        self._zoomed = QTimer()
        self._zoomed.setSingleShot(True)
        self._zoomed.setInterval(_ZOOM_RESTS)
        self._zoomed.timeout.connect(self._make_thin)
        workspace.review.changed.connect(self._note)
        workspace.reviewed.connect(self._reviewed)
        workspace.mask_started.connect(self._reviewed)
        workspace.changed.connect(self._forget_with_mask)
        for event, callback in self._connections():
            event.connect(callback)

    def _connections(self) -> list[tuple[Any, Any]]:
        viewer = self._link.viewer
        return [
            (viewer.dims.events.current_step, self._plane_changed),
            (camera(viewer).events.zoom, self._zoom_changed),
        ]

    @property
    def _shown(self) -> bool:
        return self._layer is not None and self._layer in self._link.viewer.layers

    def _note(self, box: Box) -> None:
        self._changed = union(self._changed, box)

    def _reviewed(self) -> None:
        """Look at what changed, at everything where that is not known."""
        changed, self._changed = self._changed, None
        cells = self._cells_of_plane()
        if cells is None:
            return
        if cells is not self._cells or changed is None:
            self._cells = cells
            changed = as_box(None, cells.ledger.shape)
        visible = intersection(changed, cells.plane)
        if visible is not None:
            self._waiting.add(visible)
        else:
            self._draw()

    def _plane_changed(self, _: object = None) -> None:
        # Where the line is gone it stays so until something is accepted.
        cells = self._cells_of_plane() if self._shown else None
        if cells is not None and cells is not self._cells:
            self._cells = cells
            self._waiting.clear()
            self._waiting.add(cells.plane)

    def _cells_of_plane(self) -> AcceptedCells | None:
        """Return the cells of the plane on the screen, new ones if it is another."""
        session, mask = self._workspace.session, self._mask.layer
        if session is None or session.ledger is None or mask is None:
            return None
        index = self._link.view(mask, session.reading).index
        cells = self._cells
        if cells is None or cells.ledger is not session.ledger or cells.index != index:
            return AcceptedCells(session.ledger, index)
        return cells

    def _look(self, box: Box) -> None:
        if self._cells is not None:
            self._cells.look(box)

    def _draw(self) -> None:
        mask, cells = self._mask.layer, self._cells
        if mask is None or cells is None or not cells.ledger.accepted_pixels:
            self.remove()
            return
        if not self._shown:
            self._layer = self._add(mask)
        assert self._layer is not None
        self._layer.data = outline(cells.accepted, cells.step, cells.ledger.shape[-2:])
        # New data make a layer editable again.
        self._layer.editable = False

    def _add(self, mask: Labels) -> Vectors:
        layers = self._link.viewer.layers
        active, selected = layers.selection.active, set(layers.selection)
        layer = Vectors(
            np.zeros((0, 2, 2)),
            name=f"{mask.name.removesuffix(' mask')} reviewed",
            ndim=2,
            opacity=0.8,
            edge_color=_COLOR,
            vector_style="line",
            **mask_transform(mask, 2),
        )
        layer.edge_width = line_width(self._link.viewer, layer)
        self._link.viewer.add_layer(layer)
        # napari selects what is new.
        if active is not None:
            layers.selection.active = active
        else:
            layers.selection.clear()
            layers.selection.update(selected)
        return layer

    def _zoom_changed(self, _: object = None) -> None:
        if self._shown:
            self._zoomed.start()

    def _make_thin(self) -> None:
        if self._shown and self._layer is not None:
            width = line_width(self._link.viewer, self._layer)
            if not 0.8 < width / self._layer.edge_width < 1.25:
                self._layer.edge_width = width

    def _forget_with_mask(self) -> None:
        if self._mask.layer is None:
            self._waiting.clear()
            self._cells = self._changed = None
            self.remove()

    def remove(self) -> None:
        """Take the layer away."""
        layer, self._layer = self._layer, None
        if layer is not None:
            remove_shapes(self._link.viewer.layers, layer)

    def disconnect(self) -> None:
        """Forget the viewer; the layer stays with it."""
        self._waiting.clear()
        self._zoomed.stop()
        for event, callback in self._connections():
            event.disconnect(callback)


def line_width(viewer: Any, layer: Layer, pixels: float = 2.0) -> float:
    """Return the width, in pixels of a layer, of a line that is thin on the screen."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    sides = [
        np.linalg.norm(np.asarray(layer.data_to_world(unit)) - origin)
        for unit in np.eye(layer.ndim)
    ]
    return float(pixels / camera(viewer).zoom / np.mean(sides))
