"""Merging, splitting and deleting objects with the mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_seg._qt.escape import EscapeKey
from napari_seg._qt.keys import taken
from napari_seg._qt.objects_layer import ObjectsLayer
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import Workspace

# Objects are edited long after the dock has opened, and scikit-image takes its time.
if TYPE_CHECKING:
    from napari_seg.workspace.object_edits import Edit

__all__ = ["KEYS", "ObjectTools"]

#: Keys of the tools while the objects are the active layer, in napari's spelling.
KEYS = {"merge": "Shift-M", "split": "Shift-S", "delete": "Shift-D"}
_HINTS = {
    "merge": "Click on two objects, or drag from one over others: they get the first "
    "one's number. With Shift, click on more. Esc ends.",
    "split": "Click on an object to cut it at its waist, or drag a line across it. "
    "Esc ends.",
    "delete": "Click on an object: its pixels become background. Esc ends.",
}
#: Pixels of the canvas that a mouse may move during a click.
_CLICK = 5


class ObjectTools(QObject):
    """At most one tool in the user's hand, until it is put down.

    It is put down by Esc, by another layer or another mode of the layer.

    Signals
    -------
    changed : str, str
        Which tool is in the hand, empty for none, and what to do with it, or what it
        has done.
    """

    changed = Signal(str, str)

    def __init__(self, workspace: Workspace, link: ViewerLink) -> None:
        super().__init__()
        self._workspace, self._link = workspace, link
        self._objects: ObjectsLayer | None = None
        self._tool = ""
        self._first: tuple[int, ...] | None = None
        self._escape = EscapeKey(self.put_down)
        # napari tells of many things while it is still at them.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)

    def use_on(self, objects: ObjectsLayer | None) -> None:
        """Work on another layer, or on none."""
        self.put_down()
        self._objects = objects
        if objects is not None:
            for tool, key in KEYS.items():
                if not taken(objects.layer, key):
                    objects.layer.bind_key(key, self._taking(tool))

    def _taking(self, tool: str) -> Callable[[Any], None]:
        # napari asks for the function's name.
        def take(_: Any) -> None:
            self.take("" if self._tool == tool else tool)

        return take

    def take(self, tool: str) -> None:
        """Take a tool: merge, split or delete; with an empty name, put it down."""
        self.put_down()
        if not tool or self._objects is None:
            self.changed.emit("", "")
            return
        dims = self._link.viewer.dims
        if dims.ndisplay != 2 or set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
            self._workspace.told.emit(
                "The viewer shows no plane of rows and columns: go back to 2-D, with "
                "the button below the layer list."
            )
            self.changed.emit("", "")
            return
        layer, viewer = self._objects.layer, self._link.viewer
        self._tool = tool
        viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"
        layer.cursor = "cross"
        # Dragging means something else than moving the view.
        layer.mouse_pan = tool == "delete"
        viewer.mouse_drag_callbacks.append(self._pressed)
        layer.events.mode.connect(self._look_later)
        viewer.layers.selection.events.active.connect(self._look_later)
        self._escape.listen()
        self.changed.emit(tool, _HINTS[tool])

    def put_down(self) -> None:
        """Have no tool in the hand; the layer can be moved again."""
        if not self._tool or self._objects is None:
            return
        self._tool, self._first = "", None
        layer, viewer = self._objects.layer, self._link.viewer
        self._timer.stop()
        self._escape.stop()
        layer.events.mode.disconnect(self._look_later)
        viewer.layers.selection.events.active.disconnect(self._look_later)
        viewer.mouse_drag_callbacks.remove(self._pressed)
        layer.mouse_pan = str(layer.mode) == "pan_zoom"
        if layer.mouse_pan:
            layer.cursor = "standard"
        self.changed.emit("", "")

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

    def _look(self) -> None:
        # Equal, not the same: napari hands plugins a proxy of everything.
        if self._objects is not None:
            active = self._link.viewer.layers.selection.active
            layer = self._objects.layer
            if active != layer or str(layer.mode) != "pan_zoom":
                self.put_down()

    # The mouse ----------------------------------------------------------------

    def _pressed(self, _viewer: Any, event: Any) -> Iterator[None]:
        if event.button != 1 or self._objects is None:
            return
        layer, start = self._objects.layer, np.asarray(event.pos)
        path = [self._place(layer, event)]
        far = False
        yield
        while event.type == "mouse_move":
            path.append(self._place(layer, event))
            far |= bool(np.abs(np.asarray(event.pos) - start).max() > _CLICK)
            yield
        more = "Shift" in event.modifiers
        points = np.array(path if far else path[:1])
        if not far or self._tool != "delete":
            # Later: napari is still at this event.
            QTimer.singleShot(0, lambda: self._use(points, more))

    def _place(self, layer: Labels, event: Any) -> NDArray[np.float64]:
        return np.asarray(layer.world_to_data(event.position), float)[-layer.ndim :]

    def _use(self, path: NDArray[np.float64], more: bool) -> None:
        objects = self._workspace.objects
        if not self._tool or self._objects is None or objects.ids is None:
            return
        edit: Edit | None = None
        if self._tool == "merge":
            edit = self._merge(objects.ids, path, more)
        elif self._tool == "split":
            edit = objects.split(path)
        else:
            edit = objects.delete(_pixel(path[0]))
        if edit is not None:
            self._objects.carry_out(edit)
            self.changed.emit(self._tool, edit.words)

    def _merge(
        self, ids: NDArray[np.uint32], path: NDArray[np.float64], more: bool
    ) -> Edit | None:
        """Return the merge of what a drag has met, or of two clicks."""
        from napari_seg.workspace.object_edits import number_at

        places = _along(path)
        if len(path) > 1:
            self._first = None
            return self._workspace.objects.merge(places)
        place = places[0]
        number = number_at(ids, place)
        first = self._first
        if not number or first is None or not number_at(ids, first):
            self._first = place if number else None
            words = f"Object {number}: click on what belongs to it." if number else ""
            self.changed.emit(self._tool, words or _HINTS[self._tool])
            return None
        if number == number_at(ids, first):
            return None
        self._first = first if more else None
        return self._workspace.objects.merge([first, place])


def _pixel(point: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(at) for at in np.rint(point))


def _along(path: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Return the pixels on a line through points, in its order."""
    found = [_pixel(path[0])]
    for start, end in pairwise(path):
        steps = int(np.ceil(np.abs(end - start).max())) + 1
        found += [_pixel(point) for point in np.linspace(start, end, steps + 1)]
    return list(dict.fromkeys(found))
