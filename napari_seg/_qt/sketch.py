"""A layer of napari's own, for the user to draw one shape on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_seg._qt.review_outline import line_width
from napari_seg._qt.viewer_link import mask_transform, remove_shapes

__all__ = ["Sketch"]

_COLOR = "#F0E442"


class Sketch:
    """Waits until a shape is complete, and hands over its corners.

    Parameters
    ----------
    viewer : napari.Viewer
        On whose canvas it is drawn.
    over : Image or Labels
        In whose pixels the corners are.
    name, mode : str
        Name of the layer, and what is drawn: one of napari's modes of Shapes layers.
    use : callable
        Called with the corners, (N, 2) of float, Y and X, in pixels.
    leave : callable
        Called when the user turns to something else.
    """

    def __init__(
        self,
        viewer: Any,
        over: Image | Labels,
        name: str,
        mode: str,
        use: Callable[[NDArray[np.float64]], None],
        leave: Callable[[], None],
    ) -> None:
        self._layers = viewer.layers
        self._use, self._leave = use, leave
        # napari tells of many things while it is still at them.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        self._shapes = Shapes(
            name=name,
            ndim=2,
            edge_color=_COLOR,
            face_color="transparent",
            **mask_transform(over, 2),
        )
        viewer.add_layer(self._shapes)
        self._layers.selection.active = self._shapes
        self._shapes.current_edge_width = line_width(viewer, self._shapes)
        self._shapes.mode = mode
        self._shapes.events.data.connect(self._look_later)
        self._layers.selection.events.active.connect(self._look_later)

    def put_down(self, back_to: Layer | None) -> None:
        """Leave nothing behind; select `back_to`, unless the user chose something."""
        self._timer.stop()
        self._shapes.events.data.disconnect(self._look_later)
        self._layers.selection.events.active.disconnect(self._look_later)
        there = self._shapes in self._layers
        chosen = self._layers.selection.active
        remove_shapes(self._layers, self._shapes)
        if back_to in self._layers and (not there or chosen == self._shapes):
            self._layers.selection.active = back_to

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

    def _look(self) -> None:
        shapes = self._shapes
        if shapes not in self._layers or self._layers.selection.active != shapes:
            self._leave()
        elif shapes.nshapes and not getattr(shapes, "_is_creating", False):
            corners = np.asarray(shapes.data[0], float)
            is_ellipse = shapes.shape_type[0] == "ellipse"
            self._use(_ellipse(corners) if is_ellipse else corners)


def _ellipse(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on the ellipse within the rectangle of four corners, (N, 2)."""
    angle = np.linspace(0, 2 * np.pi, 181)[:-1, None]
    first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    points: NDArray[np.float64] = (
        corners.mean(axis=0) + np.cos(angle) * first + np.sin(angle) * second
    )
    return points
