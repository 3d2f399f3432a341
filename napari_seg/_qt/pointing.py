"""The tools that a user takes in hand to point at a part of the mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_seg._qt.review_outline import line_width
from napari_seg._qt.viewer_link import mask_transform, remove_shapes

__all__ = ["Pencil", "Picker", "Tool"]

#: Modes of the mask layer in which a click changes it.
_BRUSHES = ("paint", "erase", "fill", "polygon")
#: Pixels of the canvas that a mouse may move during a click.
_CLICK = 5
_COLOR = "#F0E442"


class Tool(ABC):
    """A tool in the hand; it gives the brush back when it is put down.

    Parameters
    ----------
    viewer : napari.Viewer
        On whose canvas it is used.
    mask : Labels
        The mask, which is not painted on meanwhile.
    use : callable
        Called with what the user pointed at.
    leave : callable
        Called when the user turns to something else.
    """

    hint = back_hint = ""

    def __init__(
        self,
        viewer: Any,
        mask: Labels,
        use: Callable[..., None],
        leave: Callable[[], None],
    ) -> None:
        self._viewer, self._mask = viewer, mask
        self._layers = viewer.layers
        self._use, self._leave = use, leave
        mode = str(mask.mode)
        self._brush = mode if mode in _BRUSHES else "paint"
        # napari tells of many things while it is still at them.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

    @abstractmethod
    def _look(self) -> None:
        """Look whether there is something to do, now that napari has done its part."""

    @abstractmethod
    def put_down(self) -> None:
        """Leave nothing behind."""


class Picker(Tool):
    """Waits for a click on the canvas; dragging moves the view meanwhile.

    It hands over the world position, and whether the user wants to go on.
    """

    hint = "Click on an object that is right; with Shift, on several. Esc ends."
    back_hint = (
        "Click on an object that is not reviewed after all; with Shift, on several. "
        "Esc ends."
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._layers.selection.active = self._mask
        self._mask.mode = "pan_zoom"
        self._mask.cursor = "cross"
        self._viewer.mouse_drag_callbacks.append(self._pressed)
        self._mask.events.mode.connect(self._look_later)
        self._layers.selection.events.active.connect(self._look_later)

    def put_down(self) -> None:
        self._timer.stop()
        self._mask.events.mode.disconnect(self._look_later)
        self._layers.selection.events.active.disconnect(self._look_later)
        self._viewer.mouse_drag_callbacks.remove(self._pressed)
        if str(self._mask.mode) == "pan_zoom":
            self._mask.mode = self._brush

    def _look(self) -> None:
        # Equal, not the same: napari hands plugins a proxy of everything.
        mode, active = str(self._mask.mode), self._layers.selection.active
        if mode != "pan_zoom" or active != self._mask:
            self._leave()

    def _pressed(self, _viewer: Any, event: Any) -> Iterator[None]:
        if event.button != 1:
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - start).max() <= _CLICK:
            world, more = tuple(event.position), "Shift" in event.modifiers
            # Later: in this event the mask would see the brush already.
            QTimer.singleShot(0, lambda: self._use(world, more))


class Pencil(Tool):
    """A layer of napari's own, to draw one shape on.

    It hands over the (Y, X) of the corners, in pixels of the mask.
    """

    hint = (
        "Draw around what is right: a click for each corner, a double click for the "
        "last one. Esc cancels."
    )
    back_hint = (
        "Draw around what is not reviewed after all: a click for each corner, a "
        "double click for the last one. Esc cancels."
    )

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shapes = Shapes(
            name="polygon to review",
            ndim=2,
            edge_color=_COLOR,
            face_color="transparent",
            **mask_transform(self._mask, 2),
        )
        self._viewer.add_layer(self._shapes)
        self._layers.selection.active = self._shapes
        self._shapes.current_edge_width = line_width(self._viewer, self._shapes)
        self._shapes.mode = "add_polygon"
        self._shapes.events.data.connect(self._look_later)
        self._layers.selection.events.active.connect(self._look_later)

    def put_down(self) -> None:
        self._timer.stop()
        self._shapes.events.data.disconnect(self._look_later)
        self._layers.selection.events.active.disconnect(self._look_later)
        there = self._shapes in self._layers
        chosen = self._layers.selection.active
        if there:
            remove_shapes(self._layers, self._shapes)
        if self._mask in self._layers and (not there or chosen == self._shapes):
            self._layers.selection.active = self._mask
        self._mask.mode = self._brush

    def _look(self) -> None:
        shapes = self._shapes
        if shapes not in self._layers or self._layers.selection.active != shapes:
            self._leave()
        elif shapes.nshapes and not getattr(shapes, "_is_creating", False):
            corners = np.asarray(shapes.data[0], float)
            if shapes.shape_type[0] == "ellipse":
                corners = _ellipse(corners)
            self._use(corners)


def _ellipse(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on the ellipse within the rectangle of four corners, (N, 2)."""
    angle = np.linspace(0, 2 * np.pi, 181)[:-1, None]
    first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    points: NDArray[np.float64] = (
        corners.mean(axis=0) + np.cos(angle) * first + np.sin(angle) * second
    )
    return points
