"""Presents the objects of the mask: a layer of numbers, and a table."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog

from napari_seg._qt.mask_edits import forget_steps_in
from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.object_tools import ObjectTools
from napari_seg._qt.objects_layer import ObjectsLayer
from napari_seg._qt.palette import object_colormap
from napari_seg._qt.panels.objects import ObjectsPanel
from napari_seg._qt.viewer_link import OWN, ViewerLink
from napari_seg.scoring.regions import Box
from napari_seg.workspace import Workspace
from napari_seg.workspace.exports import save_beside
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg._qt.panels.measurements import MeasurementsPanel

__all__ = ["ObjectsPresenter"]

_TABLES = "CSV (*.csv);;Parquet (*.parquet)"


class ObjectsPresenter:
    """Connects :class:`ObjectsPanel` and the table with the workspace and the viewer.

    A user who removes the layer has no objects any more; one who edits it with napari's
    brush, eraser or bucket edits the objects, and the mask with them.
    """

    def __init__(
        self,
        panel: ObjectsPanel,
        workspace: Workspace,
        link: ViewerLink,
        mask: MaskView,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._mask = link, mask
        self._objects = workspace.objects
        self._followed: ObjectsLayer | None = None
        self._tools = ObjectTools(workspace, link)
        self._tools.changed.connect(panel.show_tool)
        self._table: MeasurementsPanel | None = None
        panel.findWanted.connect(self._objects.find)
        panel.tableWanted.connect(self._open_table)
        panel.toolWanted.connect(self._tools.take)
        self._objects.write_mask = mask.write
        self._objects.renumbered.connect(self._renumbered)
        workspace.settling.connect(self._look)
        self._objects.changed.connect(self._show)
        self._objects.measured.connect(self._show_table)
        workspace.changed.connect(self._show)
        workspace.predicting.connect(self._show)
        link.viewer.layers.events.removed.connect(self._layer_removed)
        self._show()

    def stop(self) -> None:
        """Leave the viewer as it is."""
        self._objects.changed.disconnect(self._show)
        self._objects.renumbered.disconnect(self._renumbered)
        self._workspace.settling.disconnect(self._look)
        self._tools.changed.disconnect(self._panel.show_tool)
        self._tools.use_on(None)
        if self._followed is not None:
            self._followed.close()
            self._followed = None
        self._objects.measured.disconnect(self._show_table)
        self._workspace.changed.disconnect(self._show)
        self._workspace.predicting.disconnect(self._show)
        self._link.viewer.layers.events.removed.disconnect(self._layer_removed)
        if self._table is not None:
            # A window that is closing may have taken it apart already, and itself.
            with suppress(RuntimeError, LookupError, AttributeError):
                self._link.viewer.window.remove_dock_widget(self._table)
            with suppress(RuntimeError):
                self._table.deleteLater()
            self._table = None

    def take_theme(self, name: str) -> None:
        """Draw the histogram in the colours of napari's theme."""
        if self._table is not None:
            self._table.set_theme(name)

    def _show(self, _: Any = None) -> None:
        objects = self._objects
        self._panel.show_gates(objects.obstacle, objects.editing_obstacle)
        self._panel.show_splits(objects.splits)
        if self._table is not None:
            self._table.show_gates(objects.measuring_obstacle)
        self._panel.show_objects(self._words())
        self._show_layer()

    def _words(self) -> str:
        if self._objects.busy:
            return "Looking at the objects…"
        count = self._objects.count
        return "" if count is None else f"{quantity(count)} object{'s' * (count != 1)}"

    # The layer ----------------------------------------------------------------

    def _show_layer(self) -> None:
        ids, layer = self._objects.ids, self._layer
        if layer is not None and layer.data is ids:
            return
        self._follow(None)
        mask = self._mask.layer
        if ids is not None and mask is not None and layer is not None:
            # A new layer takes napari several times as long.
            forget_steps_in(layer, tuple(slice(0, n) for n in ids.shape))
            layer.data = ids
            self._follow(layer)
            return
        self._link.remove(layer)
        if ids is None or mask is None:
            return
        layer = Labels(
            ids,
            name=f"{mask.name.removesuffix(' mask')} objects",
            opacity=1.0,
            colormap=object_colormap(),
            scale=mask.scale,
            translate=mask.translate,
            rotate=mask.rotate,
            shear=mask.shear,
            units=mask.units,
            metadata={OWN: "objects"},
        )
        layer.contour = 1
        self._follow(layer)
        viewer = self._link.viewer
        viewer.add_layer(layer)
        # The mask stays the one to paint on.
        viewer.layers.selection.active = mask

    def _layer_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self._follow(None)
            self._objects.forget()

    @property
    def _layer(self) -> Labels | None:
        return None if self._followed is None else self._followed.layer

    def _follow(self, layer: Labels | None) -> None:
        """Listen to another layer, or to none."""
        followed = self._followed
        if followed is not None:
            followed.look()
        self._tools.use_on(None)
        if followed is not None:
            followed.close()
        self._followed = layer and ObjectsLayer(layer, self._edited)
        self._tools.use_on(self._followed)

    def _edited(self, where: NDArray[np.int64], before: NDArray[np.uint32]) -> None:
        layer = self._layer
        # Objects that were found anew are no edit of those before.
        if layer is not None and layer.data is self._objects.ids:
            self._objects.edited(where, before, self._mask.selected_class or 1)
            if self._table is not None:
                self._table.setStale()

    def _renumbered(self, box: Box) -> None:
        if self._table is not None:
            self._table.setStale()
        if self._followed is not None:
            self._followed.renumbered(box)

    def _look(self) -> None:
        if self._followed is not None:
            self._followed.look()

    # The table ----------------------------------------------------------------

    def _open_table(self) -> None:
        # Late, as pandas takes its time to load.
        from napari_seg._qt.panels.measurements import MeasurementsPanel

        if self._table is None:
            table = self._table = MeasurementsPanel()
            table.measureRequested.connect(self._objects.measure)
            table.saveRequested.connect(self._save)
            table.objectChosen.connect(self._go_to)
            table.destroyed.connect(self._table_closed)
            table.set_theme(self._link.viewer.theme)
            self._link.viewer.window.add_dock_widget(
                table, name="Measurements", area="right", tabify=True
            )
        self._show()
        if not self._objects.measuring_obstacle:
            self._objects.measure()

    def _table_closed(self) -> None:
        self._table = None

    def _show_table(self, table: Any) -> None:
        if self._table is not None:
            self._table.setTable(table)

    def _save(self) -> None:
        from napari_seg.objects.tables import write_table

        table, session = self._table, self._workspace.session
        if table is None or session is None:
            return
        path, _ = QFileDialog.getSaveFileName(
            table, "Save table", f"{session.source.name}_objects.csv", _TABLES
        )
        if not path:
            return
        rows, target = table.shownTable(), Path(path)
        save_beside(self._workspace, target, lambda: write_table(rows, target))

    def _go_to(self, number: int) -> None:
        """Bring an object to the middle of the screen."""
        layer, table = self._layer, self._table
        row = None if table is None else table.chosenRow()
        if layer is None or row is None:
            return
        layer.selected_label = number
        session = self._workspace.session
        assert session is not None
        axes = session.reading.leading + "YX"
        place = [
            row.get(f"{letter.lower()}_px", row.get(letter.lower(), 0))
            for letter in axes
        ]
        box = tuple(slice(round(at), round(at) + 1) for at in place)
        self._link.show(layer, box)
