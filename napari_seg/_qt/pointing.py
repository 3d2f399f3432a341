"""The tools that a user takes in hand to point at a part of the mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_seg._qt.sketch import Sketch

__all__ = ["Pencil", "Picker", "Tool"]

#: Modes of the mask layer in which a click changes it.
_BRUSHES = ("paint", "erase", "fill", "polygon")
#: Pixels of the canvas that a mouse may move during a click.
_CLICK = 5


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
        # napari tells of many things while it is still at them.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
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

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

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
    """Draws a polygon on the canvas.

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
        self._sketch = Sketch(
            self._viewer,
            self._mask,
            "polygon to review",
            "add_polygon",
            self._use,
            self._leave,
        )

    def put_down(self) -> None:
        self._sketch.put_down(self._mask)
        self._mask.mode = self._brush
