"""The objects as a napari Labels layer: edits out, new numbers in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_seg._qt.mask_display import Repainter
from napari_seg._qt.mask_edits import UndoSteps, forget_steps_in, step_pixels
from napari_seg.scoring.regions import Box

if TYPE_CHECKING:
    from napari_seg.workspace.object_edits import Edit

__all__ = ["ObjectsLayer"]

OnEdit = Callable[[NDArray[np.int64], NDArray[np.uint32]], None]


class ObjectsLayer:
    """Tell of every step that napari notes for its undo, done or undone.

    Parameters
    ----------
    layer : Labels
        The objects.
    on_edit : callable
        Called with the pixels of a step (places in the flattened array), and the
        numbers that they had before it.
    """

    def __init__(self, layer: Labels, on_edit: OnEdit) -> None:
        self.layer = layer
        self._on_edit = on_edit
        self._steps = UndoSteps(layer)
        self._repainter = Repainter(layer, self._own)
        # Outside of a stroke napari announces a step before it writes the pixels.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.look)
        layer.events.paint.connect(self._look_later)
        layer.events.set_data.connect(self._look_later)

    def close(self) -> None:
        """Listen no more."""
        self.layer.events.paint.disconnect(self._look_later)
        self.layer.events.set_data.disconnect(self._look_later)
        self._timer.stop()
        self._repainter.close()

    def carry_out(self, edit: Edit) -> None:
        """Write numbers as one step that can be undone."""
        self.look()
        numbers = edit.numbers
        one = bool(len(numbers)) and bool((numbers == numbers[0]).all())
        self.layer.data_setitem(edit.where, numbers[0] if one else numbers)
        self.look()

    def renumbered(self, box: Box) -> None:
        """Show numbers that have followed the mask; older steps there are over."""
        self.look()
        forget_steps_in(self.layer, box)
        # That they are gone is no undo.
        self._steps.fresh()
        self._repainter.show(box)

    def look(self) -> None:
        """Report the steps that are new."""
        self._timer.stop()
        fresh = self._steps.fresh()
        done, undone = (
            list(getattr(self.layer, name, ()))
            for name in ("_undo_history", "_redo_history")
        )
        for step in fresh:
            # What is in neither list was too old to be kept.
            back = any(step is each for each in undone)
            if back or any(step is each for each in done):
                where, before = step_pixels(step, self.layer.data.shape, undone=back)
                moved = self.layer.data.reshape(-1)[where] != before
                if moved.any():
                    self._on_edit(where[moved], before[moved])

    def _look_later(self, _: Any = None) -> None:
        self._timer.start(0)

    @contextmanager
    def _own(self) -> Iterator[None]:
        # A repaint makes no step: there is nothing to be told apart.
        yield
