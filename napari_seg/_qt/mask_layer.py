"""The mask as a napari Labels layer: the user's edits out, the model's pixels in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import LayerList
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_seg._qt.idle import IdleBoxes
from napari_seg._qt.marked_steps import MarkedSteps
from napari_seg._qt.mask_array import as_mask
from napari_seg._qt.mask_display import Repainter
from napari_seg._qt.mask_edits import (
    UndoSteps,
    forget_steps,
    restore_steps,
    shown,
    step_boxes,
    updated_box,
)
from napari_seg._qt.palette import class_colormap
from napari_seg._qt.placement import Placement
from napari_seg.errors import LabelsError
from napari_seg.scoring.regions import Box, Region, as_box, pixels

if TYPE_CHECKING:
    from napari_seg.corrections.history import Stroke

__all__ = ["MaskLayer"]

_AT_ONCE = 1 << 22
"""Pixels that are reported within the event that changed them."""

_SLIDER_RESTS = 250
"""Milliseconds without a new slice, after which the displayed one is looked at."""


class MaskLayer:
    """Tell of every edit to a Labels layer, however it was made.

    napari tells of strokes while they are made, of undo and redo only through its
    lists of undo steps, of an assignment into ``layer.data[...]`` only by the
    refresh that follows, and of none of them while the layer is hidden.  Here all
    of this becomes "in this box something may have changed".

    Parameters
    ----------
    layer : Labels
        The mask.  Integers of another type are converted to uint8; ``layer.data`` is
        another array then.
    on_edit : callable
        Called with a box, one slice per axis of the array, in which the user may
        have changed something: during a stroke, after everything else.  A box that
        is expensive to compare comes later, in pieces: see :meth:`flush`.
    on_replace : callable
        Called with the new mask when ``layer.data`` was assigned.
    layers : LayerList, optional
        Where the layer lives; needed to notice that it was removed.

    Attributes
    ----------
    stroke_finished : Signal
        A stroke, a fill, an undo or anything else is complete and reported.  Also
        emitted after a refresh that turns out to have changed nothing.
    class_selected : Signal(int)
        Another label was selected to paint with.
    removed : Signal
        The layer is gone from `layers`; everything was reported and disconnected.

    Raises
    ------
    LabelsError
        If the layer cannot be edited, or holds what is no class id.  Raised to the
        caller of ``layer.data = x``, too, if `x` has another shape or other values
        than a mask; the layer then shows its old data.
    """

    stroke_finished = Signal()
    class_selected = Signal(int)
    removed = Signal()

    def __init__(
        self,
        layer: Labels,
        on_edit: Callable[[Box], object],
        on_replace: Callable[[NDArray[np.uint8]], object],
        layers: LayerList | None = None,
    ) -> None:
        if layer.multiscale:
            raise LabelsError(
                f"The layer {layer.name!r} is multiscale, and napari cannot edit it; "
                "choose a layer with its finest level alone."
            )
        self._layer = layer
        self._layers = layers
        self._on_edit = on_edit
        self._on_replace = on_replace
        self._is_own = False
        self._mask = as_mask(layer.data, tuple(layer.data.shape))
        if self._mask is not layer.data:
            layer.data = self._mask
        self._waiting = IdleBoxes(self._edited, self._finish)
        self._repainter = Repainter(layer, self._own)
        self._steps = UndoSteps(layer)
        self._marked = MarkedSteps(layer)
        self._place = Placement(layer)
        self._shown = shown(layer)
        self._selected = int(layer.selected_label)
        self._was_hidden = not layer.visible
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(_SLIDER_RESTS)
        self._rest.timeout.connect(self._look_at_slice)
        for event, callback in self._connections():
            event.connect(callback)

    def _connections(self) -> Iterator[tuple[Any, Callable[..., None]]]:
        events = self._layer.events
        yield events.labels_update, self._on_labels_update
        yield events.paint, self._on_paint
        yield events.set_data, self._on_set_data
        yield events.data, self._on_data
        yield events.visible, self._on_visible
        yield events.selected_label, self._on_selected_label
        yield from self._place.connections()
        if self._layers is not None:
            yield self._layers.events.removed, self._on_removed

    # For the owner ------------------------------------------------------------

    @property
    def layer(self) -> Labels:
        """The napari layer."""
        return self._layer

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The mask, ``layer.data``."""
        return self._mask

    @property
    def counting(self) -> bool:
        """Whether edits wait to be reported."""
        return bool(self._waiting) or self._rest.isActive()

    def flush(self) -> None:
        """Report now whatever waits; afterwards every edit napari knows of is told."""
        self._marked.look()
        self._report_steps(self._steps.fresh())
        self._report(step_boxes(self._steps.unfinished(), self._mask.shape))
        if self._rest.isActive():
            self._rest.stop()
            self._look_at_slice()
        self._waiting.flush()

    def pixels_changed(self, region: Region = None) -> None:
        """Show what was written into the mask in place, without calling it an edit.

        With None the layer is refreshed as a whole, with its thumbnail, at once.
        """
        if region is not None:
            self._repainter.show(as_box(region, self._mask.shape))
            return
        with self._own():
            self._layer.refresh()

    def restore_undo(self, strokes: Sequence[Stroke]) -> None:
        """Let the user undo what was painted before the mask was opened again.

        Parameters
        ----------
        strokes : sequence of sequence of (box, before, after)
            What each undo shall take back, oldest first: where, and the labels there
            before and after, uint8 of the shape of the box.  napari keeps as many as
            of its own, and changes only pixels that differ.  They come after what was
            painted since.  With a napari that keeps undo in another way nothing
            happens, but for a line in the log.
        """
        self._report_steps(self._steps.fresh())
        restore_steps(self._layer, strokes)
        # They are no news to be reported.
        self._steps.fresh()

    def add_undo(self, moved: Callable[[bool], None]) -> None:
        """Let the next undo take back something that was not painted.

        Parameters
        ----------
        moved : callable
            Called with True when the step was undone, with False when it was redone.
            It changes the mask itself, and reports what it changes.
        """
        self._report_steps(self._steps.fresh())
        self._marked.add(moved)
        # That it is there is no edit.
        self._steps.fresh()

    def forget_undo(self) -> None:
        """Undo and redo nothing from before: the mask is another one now."""
        self._report_steps(self._steps.fresh())
        forget_steps(self._layer)
        # That they are gone is no undo.
        self._steps.fresh()

    def set_palette(
        self,
        names: Sequence[str],
        colors: Sequence[str],
        hidden: Set[int] = frozenset(),
    ) -> None:
        """Give the classes names and colours; the background is transparent.

        Parameters
        ----------
        names, colors : sequence of str
            One per class, in the order of the ids; colours as "#rrggbb".
        hidden : set of int
            Classes that are transparent, too.
        """
        with self._own():
            self._layer.colormap = class_colormap(colors, hidden)
            # napari shows them beside the value under the cursor.
            table = {"index": np.arange(len(names)), "class": list(names)}
            self._layer.features = table

    def close(self) -> None:
        """Listen no more; what waits to be reported is forgotten."""
        for event, callback in self._connections():
            event.disconnect(callback)
        self._waiting.clear()
        self._repainter.close()
        self._rest.stop()

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Within, the layer's events are our own doing."""
        before, self._is_own = self._is_own, True
        try:
            yield
        finally:
            self._is_own = before

    # What napari tells --------------------------------------------------------

    def _on_labels_update(self, event: Any) -> None:
        if not self._is_own:
            box = updated_box(self._layer, event.offset, event.data)
            self._report([box or as_box(None, self._mask.shape)])

    def _on_paint(self, event: Any) -> None:
        # Outside of a stroke napari announces a step before it writes the pixels.
        steps = {id(step): step for step in [event.value, *self._steps.fresh()]}
        for step in steps.values():
            for box in step_boxes(step, self._mask.shape):
                self._waiting.add(box)
        if not self._layer.visible:
            # napari to 0.7 also writes to where it believes the shown slice to be.
            self._waiting.add(as_box(None, self._mask.shape))

    def _on_set_data(self, event: Any = None) -> None:
        if self._is_own or self._layer.data is not self._mask:
            return
        self._marked.look()
        now = shown(self._layer)
        moved, self._shown = now != self._shown, now
        # Of what was assigned to a hidden layer nothing tells but that it appears.
        appeared, self._was_hidden = self._was_hidden, False
        if self._report_steps(self._steps.fresh()) and not appeared:
            return
        if moved and not appeared:
            self._rest.start()
            return
        self._report([as_box(None, self._mask.shape)])
        if self._waiting:
            self._look_at_slice()
        else:
            self._finish()

    def _on_data(self, event: Any = None) -> None:
        new = self._layer.data
        if self._is_own or new is self._mask:
            return
        try:
            mask = as_mask(new, self._mask.shape)
        except LabelsError:
            with self._own():
                self._layer.data = self._mask
                self._place.restore()
            raise
        if mask is not new:
            with self._own():
                self._layer.data = mask
        self._waiting.clear()
        self._mask, self._shown = mask, shown(self._layer)
        self._on_replace(mask)
        self._finish()

    def _on_visible(self, event: Any = None) -> None:
        self._was_hidden |= not self._layer.visible

    def _on_selected_label(self, event: Any = None) -> None:
        selected = int(self._layer.selected_label)
        if selected != self._selected:
            self._selected = selected
            self.class_selected.emit(selected)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self.flush()
            self.close()
            self.removed.emit()

    # What becomes of it -------------------------------------------------------

    def _report(self, boxes: Iterable[Box]) -> None:
        for box in boxes:
            if pixels(box) <= _AT_ONCE:
                self._edited(box)
            else:
                self._waiting.add(box)

    def _report_steps(self, steps: list[Any]) -> bool:
        """Report undo steps that were moved; return whether there was one."""
        for step in steps:
            self._report(step_boxes(step, self._mask.shape))
        if steps and not self._waiting:
            self._finish()
        return bool(steps)

    def _look_at_slice(self) -> None:
        if self._shown is not None:
            self._report([self._shown.box])

    def _edited(self, box: Box) -> None:
        if pixels(box):
            self._on_edit(box)

    def _finish(self) -> None:
        self.stroke_finished.emit()
