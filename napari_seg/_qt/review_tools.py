"""Pointing at what is right: a click on an object, a polygon around a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_seg._qt.escape import EscapeKey
from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.pointing import Pencil, Picker, Tool
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import Workspace

__all__ = ["ReviewTools"]


class ReviewTools(QObject):
    """At most one tool in the user's hand, taken up for one acceptance.

    The tool is put down when it has done its work, by Esc, by choosing another tool
    or layer, and when the mask goes; then the brush is back.

    Signals
    -------
    hintChanged : str
        What to do with the tool in hand; empty without one.
    """

    hintChanged = Signal(str)

    def __init__(self, workspace: Workspace, link: ViewerLink, mask: MaskView) -> None:
        super().__init__()
        self._workspace, self._link, self._mask = workspace, link, mask
        self._tool: Tool | None = None
        self._back = False
        self._escape = EscapeKey(self.cancel)
        workspace.mask_left.connect(self.cancel)

    def obstacle(self) -> str:
        """Return why nothing can be pointed at now, or nothing."""
        dims = self._link.viewer.dims
        last_two = {dims.ndim - 2, dims.ndim - 1}
        if dims.ndisplay != 2 or set(dims.displayed) != last_two:
            return (
                "The viewer shows no plane of rows and columns: go back to 2-D, with "
                "the button below the layer list."
            )
        return ""

    def pick_object(self, *, back: bool = False) -> None:
        """Accept the object that is clicked next, or take it back."""
        self._take_up(Picker, self._pick, back)

    def draw_polygon(self, *, back: bool = False) -> None:
        """Accept what lies inside of the polygon that is drawn next."""
        self._take_up(Pencil, self._drawn, back)

    def _take_up(self, kind: Any, use: Callable[..., None], back: bool) -> None:
        self.cancel()
        layer = self._mask.layer
        if layer is None:
            return
        obstacle = self.obstacle()
        if obstacle:
            self._workspace.told.emit(obstacle)
            return
        self._back = back
        self._tool = kind(self._link.viewer, layer, use, self.cancel)
        # napari's own Esc would complete the polygon.
        self._escape.listen()
        self.hintChanged.emit(kind.back_hint if back else kind.hint)

    def cancel(self) -> None:
        """Put the tool down, if there is one in hand."""
        tool, self._tool = self._tool, None
        if tool is not None:
            self._escape.stop()
            tool.put_down()
            self.hintChanged.emit("")

    def _index(self, layer: Labels) -> tuple[int, ...]:
        assert self._workspace.session is not None
        return self._link.view(layer, self._workspace.session.reading).index

    def _pick(self, world: tuple[float, ...], more: bool) -> None:
        layer = self._mask.layer
        if layer is not None:
            y, x = layer.world_to_data(world)[-2:]
            done = self._workspace.review.object_at(
                self._index(layer), (y, x), back=self._back
            )
            if done and not more:
                self.cancel()

    def _drawn(self, corners: NDArray[np.float64]) -> None:
        layer = self._mask.layer
        if layer is not None:
            index = self._index(layer)
            self.cancel()
            self._workspace.review.polygon(index, corners, back=self._back)
