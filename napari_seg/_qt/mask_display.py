"""Show what was written into a mask in place, no more often than eyes can follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_seg._qt.mask_edits import Shown, shown
from napari_seg.scoring.regions import Box, intersection, union

__all__ = ["Repainter"]

_INTERVAL = 50
"""Milliseconds between two repaints."""


class Repainter:
    """Bring the screen up to date with boxes of the mask.

    Parameters
    ----------
    layer : Labels
        The mask.
    own : callable
        Makes the context in which the layer's events are not the user's doing.
    """

    def __init__(
        self, layer: Labels, own: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._layer = layer
        self._own = own
        self._waiting: Box | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL)
        self._timer.timeout.connect(self._repaint_waiting)

    def show(self, box: Box) -> None:
        """Show `box`: at once, or together with others when the time has come."""
        now = shown(self._layer)
        visible = box if now is None else intersection(box, now.box)
        if visible is None:
            return
        self._waiting = union(self._waiting, visible)
        if not self._timer.isActive():
            self._repaint_waiting()

    def close(self) -> None:
        """Show nothing any more."""
        self._timer.stop()
        self._waiting = None

    def _repaint_waiting(self) -> None:
        box, self._waiting = self._waiting, None
        if box is None:
            return
        self._timer.start()
        # The slider may have moved since.
        now = shown(self._layer)
        visible = box if now is None else intersection(box, now.box)
        if visible is not None:
            with self._own():
                self._repaint(visible, now)

    def _repaint(self, box: Box, now: Shown | None) -> None:
        view = None if now is None else self._view(now)
        if now is None or view is None:
            self._layer.refresh(extent=False)
            return
        part = tuple(box[axis] for axis in now.axes)
        offset = [s.start for s in part]
        self._layer.events.labels_update(data=view[part], offset=offset)

    def _view(self, now: Shown) -> NDArray[np.uint8] | None:
        """Return the displayed pixels, if they are those of the mask itself.

        Then a part of them can be sent to the screen as a brush stroke would be;
        otherwise (contours, slices that are still being loaded, another napari) the
        whole slice has to be made anew.
        """
        slices = getattr(self._layer, "_slice", None)
        view = getattr(getattr(slices, "image", None), "view", None)
        if not isinstance(view, np.ndarray) or self._layer.contour > 0:
            return None
        shape = tuple(self._layer.data.shape[axis] for axis in now.axes)
        same = view.shape == shape and np.shares_memory(view, self._layer.data)
        return view if same else None
