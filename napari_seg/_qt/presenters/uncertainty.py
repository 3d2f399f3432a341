"""Shows where the model is uncertain, as a layer over the image."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from napari.utils import Colormap
from superqt.utils import qthrottled

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.panels.correct import CorrectPanel
from napari_seg._qt.viewer_link import OWN, ViewerLink, coarse_transform
from napari_seg.workspace import Workspace
from napari_seg.workspace.uncertainty import CELL, UncertaintyMap

__all__ = ["UncertaintyPresenter"]

#: Milliseconds between two looks while tiles arrive.
_PAUSE = 200
#: Of two classes the less probable one has no more than this.
_MOST = 0.5
#: Magenta is in neither stains nor the classes' first colours.
_COLOR = (1, 0, 1)


class UncertaintyPresenter:
    """Connects the button *Map* with a layer that follows the predictions.

    A user who removes the layer switches it off.
    """

    def __init__(
        self,
        panel: CorrectPanel,
        workspace: Workspace,
        link: ViewerLink,
        mask: MaskView,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._mask = link, mask
        self._layer: Image | None = None
        self._map: UncertaintyMap | None = None
        panel.uncertaintyWanted.connect(self._switch)
        self._refresh_soon = qthrottled(self._refresh, timeout=_PAUSE)
        workspace.predicting.connect(self._predicting)
        workspace.changed.connect(self._follow)
        link.viewer.layers.events.removed.connect(self._layer_removed)

    def stop(self) -> None:
        """Leave the viewer as it is."""
        self._refresh_soon.cancel()
        self._link.viewer.layers.events.removed.disconnect(self._layer_removed)

    def _switch(self, on: bool) -> None:
        self._remove()
        session, mask = self._workspace.session, self._mask.layer
        if on and mask is not None and session is not None:
            self._add(session.uncertainty)
        self._panel.show_uncertainty(on=self._layer is not None)

    def _add(self, found: UncertaintyMap | None) -> None:
        mask, viewer = self._mask.layer, self._link.viewer
        if found is None or mask is None:
            return
        layer = Image(
            found.density,
            name=f"{mask.name.removesuffix(' mask')} uncertainty",
            colormap=Colormap([(*_COLOR, 0), (*_COLOR, 1)], name="uncertainty"),
            contrast_limits=(0, _MOST),
            opacity=0.8,
            blending="translucent",
            interpolation2d="linear",
            metadata={OWN: "uncertainty"},
            **coarse_transform(mask, CELL),
        )
        self._layer, self._map = layer, found
        viewer.add_layer(layer)
        # Below the mask, which stays the one to paint on.
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(mask))
        viewer.layers.selection.active = mask

    def _predicting(self, progress: Any) -> None:
        if progress is None:
            self._refresh()
        elif self._layer is not None:
            self._refresh_soon()

    def _refresh(self) -> None:
        if self._layer is not None:
            self._layer.refresh()

    def _follow(self) -> None:
        """Go where the mask goes: another image has another map."""
        if self._layer is None:
            return
        session = self._workspace.session
        if session is None or self._mask.layer is None:
            self._switch(on=False)
        elif session.uncertainty is not self._map:
            self._switch(on=session.uncertainty is not None)

    def _remove(self) -> None:
        layer, self._layer, self._map = self._layer, None, None
        self._link.remove(layer)

    def _layer_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self._layer = self._map = None
            self._panel.show_uncertainty(on=False)
