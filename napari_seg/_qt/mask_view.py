"""Shows the session's mask as a layer, and brings the user's edits back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_seg._qt.mask_layer import MaskLayer
from napari_seg._qt.palette import class_colors
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import Workspace

if TYPE_CHECKING:
    from napari_seg.corrections.history import Stroke
    from napari_seg.workspace.intaking import Taken

__all__ = ["MaskView"]


class MaskView(QObject):
    """The mask layer of the image that is worked on.

    Signals
    -------
    classChosen : int
        The brush paints another class.

    Attributes
    ----------
    hidden_classes : frozenset of int
        Classes that the layer does not show.
    """

    classChosen = Signal(int)

    def __init__(self, workspace: Workspace, link: ViewerLink) -> None:
        super().__init__()
        self._workspace, self._link = workspace, link
        self._mask: MaskLayer | None = None
        self._image: Image | None = None
        self.hidden_classes: frozenset[int] = frozenset()
        self._left: WeakKeyDictionary[Image, Labels] = WeakKeyDictionary()
        workspace.mask_left.connect(self._leave)
        workspace.pixels_changed.connect(self._pixels_changed)
        workspace.changed.connect(self.show_classes)
        workspace.settling.connect(self.flush)
        workspace.strokes_recalled.connect(self._restore_undo)
        workspace.went_back.connect(self._forget_undo)
        workspace.intake.taken.connect(self._add_undo)

    @property
    def layer(self) -> Labels | None:
        """The Labels layer, None without a mask."""
        return None if self._mask is None else self._mask.layer

    @property
    def selected_class(self) -> int:
        """The class that the brush paints."""
        return 0 if self.layer is None else int(self.layer.selected_label)

    @property
    def counting(self) -> bool:
        """Whether edits wait to be counted."""
        return self._mask is not None and self._mask.counting

    def start(self, image: Image) -> None:
        """Show the session's mask over its image."""
        session = self._workspace.session
        if session is None or session.ledger is None:
            return
        self.forget()
        self._link.remove(self._left.pop(image, None))
        layer = self._link.add_mask(image, session.ledger.labels, f"{image.name} mask")
        mask = MaskLayer(
            layer,
            self._workspace.edited,
            self._workspace.replaced,
            self._link.viewer.layers,
        )
        mask.stroke_finished.connect(self._workspace.stroke_finished)
        mask.class_selected.connect(self.classChosen.emit)
        mask.removed.connect(self._removed)
        self._mask, self._image = mask, image
        self.show_classes()

    def forget(self) -> None:
        """Leave the layer to the viewer; its edits are no longer followed."""
        self.flush()
        mask, self._mask = self._mask, None
        if mask is not None:
            mask.close()

    def has_left(self, image: Image | None) -> bool:
        """Whether the image has a mask that was left for another image's."""
        layer = None if image is None else self._left.get(image)
        return layer is not None and layer in self._link.viewer.layers

    def knows(self, layer: Layer) -> bool:
        """Whether a layer is the mask, or one that was left."""
        return layer == self.layer or layer in self._left.values()

    def drop(self, image: Image) -> None:
        """Take the mask of an image that was left out of the viewer."""
        self._link.remove(self._left.pop(image, None))

    def _leave(self) -> None:
        """Lock the layer: what is painted on it now would be saved nowhere."""
        layer, image, self._image = self.layer, self._image, None
        self.forget()
        if layer is not None and image is not None:
            layer.editable = False
            self._left[image] = layer

    def flush(self) -> None:
        """Take in every edit that has not been counted yet."""
        if self._mask is not None:
            self._mask.flush()

    def write(
        self, where: tuple[NDArray[np.intp], ...], classes: NDArray[np.uint8]
    ) -> None:
        """Correct the mask as a stroke that can be undone.

        Parameters
        ----------
        where : tuple of (N,) ndarray of int
            Indices along each axis.
        classes : (N,) ndarray of uint8
            The new labels.
        """
        if self.layer is not None:
            self.flush()
            self.layer.data_setitem(where, classes)
            self.flush()

    def choose_class(self, class_id: int) -> None:
        """Paint this class from now on."""
        layer = self.layer
        if layer is None:
            return
        layer.selected_label = class_id
        if layer.mode not in ("paint", "fill", "polygon"):
            layer.mode = "paint"
        self._link.viewer.layers.selection.active = layer

    def show_class(self, class_id: int, shown: bool) -> None:
        """Show a class in the mask, or hide it; the mask itself stays as it is."""
        hidden = (
            self.hidden_classes - {class_id}
            if shown
            else {
                *self.hidden_classes,
                class_id,
            }
        )
        if hidden != self.hidden_classes:
            self.hidden_classes = frozenset(hidden)
            self.show_classes()

    def show_classes(self) -> None:
        """Give the layer the colours of the classes."""
        session = self._workspace.session
        if self._mask is not None and session is not None:
            names = session.classes
            colors = class_colors(len(names))
            self._mask.set_palette(names, colors, self.hidden_classes)

    def _pixels_changed(self, region: Any) -> None:
        if self._mask is not None:
            self._mask.pixels_changed(region)

    def _restore_undo(self, strokes: Sequence[Stroke]) -> None:
        """Let undo go on where it stood when the image was left."""
        if self._mask is not None:
            self._mask.restore_undo(strokes)

    def _add_undo(self, taken: Taken) -> None:
        """Let undo take a truth from elsewhere back."""
        if self._mask is not None:
            self._mask.add_undo(taken.moved)

    def _forget_undo(self) -> None:
        if self._mask is not None:
            self._mask.forget_undo()

    def _removed(self) -> None:
        self._mask = None
        self._workspace.restart()
