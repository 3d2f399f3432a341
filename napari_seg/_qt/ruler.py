"""A line across an object, drawn by the user to tell how large objects are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import QTimer

from napari_seg._qt.review_outline import line_width
from napari_seg._qt.viewer_link import mask_transform, remove_shapes

__all__ = ["Ruler"]

_COLOR = "#F0E442"


class Ruler:
    """A layer of napari's own, to draw one line on.

    Parameters
    ----------
    viewer : napari.Viewer
        On whose canvas it is used.
    image : Image
        In whose pixels the line is measured.
    use : callable
        Called once with the length of the line in pixels.
    leave : callable
        Called when the user turns to something else.
    """

    def __init__(
        self,
        viewer: Any,
        image: Image,
        use: Callable[[float], None],
        leave: Callable[[], None],
    ) -> None:
        self._layers, self._image = viewer.layers, image
        self._use, self._leave = use, leave
        self._before = self._layers.selection.active
        # napari tells of many things while it is still at them.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        self._shapes = Shapes(
            name="diameter of an object",
            ndim=2,
            edge_color=_COLOR,
            **mask_transform(image, 2),
        )
        viewer.add_layer(self._shapes)
        self._layers.selection.active = self._shapes
        self._shapes.current_edge_width = line_width(viewer, self._shapes)
        self._shapes.mode = "add_line"
        self._shapes.events.data.connect(self._look_later)
        self._layers.selection.events.active.connect(self._look_later)

    def put_down(self) -> None:
        """Leave nothing behind, and select the layer that was selected before."""
        self._timer.stop()
        self._shapes.events.data.disconnect(self._look_later)
        self._layers.selection.events.active.disconnect(self._look_later)
        chosen = self._layers.selection.active
        if self._shapes in self._layers:
            remove_shapes(self._layers, self._shapes)
        stay = self._before is not None and self._before in self._layers
        if stay and (chosen is None or chosen == self._shapes):
            self._layers.selection.active = self._before

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

    def _look(self) -> None:
        shapes = self._shapes
        if shapes not in self._layers or self._layers.selection.active != shapes:
            self._leave()
        elif shapes.nshapes and not getattr(shapes, "_is_creating", False):
            start, end = np.asarray(shapes.data[0], float)[[0, -1]]
            self._use(float(np.hypot(*(end - start))))
