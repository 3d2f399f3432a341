"""Shows the view as another version would have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.layers import Labels

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.palette import class_colormap, class_colors
from napari_seg._qt.panels.library import LibraryPanel
from napari_seg._qt.panels.teach import TeachPanel
from napari_seg._qt.viewer_link import ViewerLink, part_transform
from napari_seg.workspace import Workspace, obstacles
from napari_seg.workspace.comparison import Compared

__all__ = ["ComparePresenter"]

#: Colour of the line around what differs: none of the classes' first colours.
_DIFFERS = "#FF00FF"


class ComparePresenter:
    """Connects the *Compare* buttons with the workspace and two layers of the viewer.

    While they are there the mask is hidden, so that nobody paints on one thing and
    sees another.
    """

    def __init__(
        self,
        teach: TeachPanel,
        library: LibraryPanel,
        workspace: Workspace,
        link: ViewerLink,
        mask: MaskView,
    ) -> None:
        self._teach, self._library = teach, library
        self._workspace, self._link, self._mask = workspace, link, mask
        self._layers: tuple[Labels, ...] = ()
        self._hidden: Labels | None = None
        teach.compareWanted.connect(self._card_clicked)
        library.compareWanted.connect(self._start)
        library.comparisonOver.connect(workspace.comparison.end)
        workspace.comparison.changed.connect(self._changed)
        workspace.changed.connect(self._show_buttons)
        workspace.verdict_changed.connect(self._show_buttons)
        workspace.predicting.connect(self._show_buttons)
        link.viewer.layers.events.removed.connect(self._layer_removed)
        self._show_buttons()

    def stop(self) -> None:
        """Leave the viewer as it is."""
        self._workspace.comparison.changed.disconnect(self._changed)
        self._link.viewer.layers.events.removed.disconnect(self._layer_removed)

    @property
    def _card_version(self) -> str:
        verdict = self._workspace.verdict
        return "" if verdict is None else str(verdict["version"])

    def _card_clicked(self, on: bool) -> None:
        if on:
            self._start([self._card_version])
        else:
            self._workspace.comparison.end()

    def _start(self, versions: Sequence[str]) -> None:
        session, mask = self._workspace.session, self._mask.layer
        if session is None or mask is None:
            return
        self._mask.flush()
        view = self._link.view(mask, session.reading)
        self._workspace.comparison.start(versions, view)
        self._show_buttons()

    def _changed(self) -> None:
        self._remove()
        shown = self._workspace.comparison.shown
        if shown is not None and self._mask.layer is not None:
            self._add(shown, self._mask.layer)
        self._show_buttons()

    def _show_buttons(self, _: Any = None) -> None:
        comparison, card = self._workspace.comparison, self._card_version
        obstacle = obstacles.to_compare(self._workspace)
        text = "Predicting the view …" if comparison.wanted else ""
        if comparison.shown is not None:
            text = comparison.shown.sentence
        by_card = comparison.wanted == (card,)
        for panel, on in (
            (self._teach, by_card),
            (self._library, bool(comparison.wanted) and not by_card),
        ):
            panel.show_compared(on=on, text=text if on else "", obstacle=obstacle)

    def _add(self, shown: Compared, mask: Labels) -> None:
        session = self._workspace.session
        assert session is not None
        ndim = mask.data.ndim
        start = [part.start for part in shown.view.region]
        shape = (1,) * (ndim - 2) + shown.labels.shape
        transform = part_transform(mask, start)
        image = mask.name.removesuffix(" mask")
        name = f"{image} {shown.versions[-1]}"
        colors = class_colors(len(session.classes))
        prediction = Labels(
            shown.labels.reshape(shape),
            name=name,
            opacity=mask.opacity,
            colormap=class_colormap(colors),
            **transform,
        )
        difference = Labels(
            shown.differs.reshape(shape).astype("uint8"),
            name=f"{name} differs",
            opacity=1,
            colormap=class_colormap(("transparent", _DIFFERS)),
            **transform,
        )
        difference.contour = 1
        for layer in (prediction, difference):
            layer.editable = False
            self._link.viewer.add_layer(layer)
        self._layers = prediction, difference
        self._hidden, mask.visible = mask, False

    def _remove(self) -> None:
        layers, self._layers = self._layers, ()
        for layer in layers:
            self._link.remove(layer)
        mask, self._hidden = self._hidden, None
        if mask is not None and mask in self._link.viewer.layers:
            mask.visible = True
            self._link.viewer.layers.selection.active = mask

    def _layer_removed(self, event: Any) -> None:
        if event.value in self._layers:
            self._workspace.comparison.end()
