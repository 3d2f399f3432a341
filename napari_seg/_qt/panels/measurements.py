"""The measured objects: a table to sort and to filter, and a histogram."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QModelIndex, QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableView,
    QWidget,
)

from napari_seg._qt.palette import OKABE_ITO
from napari_seg._qt.panels.common import Panel, button, gate, small_label
from napari_seg._qt.plots import HistogramPlot
from napari_seg._qt.table_model import TableModel
from napari_seg.errors import InputError
from napari_seg.objects.columns import describe_column
from napari_seg.objects.query import matching_rows
from napari_seg.workspace.words import quantity

__all__ = ["MeasurementsPanel"]

#: Milliseconds without a key until what was typed is taken for a filter.
_PAUSE = 200
_ROW_HEIGHT = 22
#: Room for the arrow that tells how rows are sorted.
_ARROW = 14
_EXAMPLE = 'area_px > 200 and class == "nucleus"'
#: Vermilion, which stands out on light and dark grounds.
_RED = OKABE_ITO[5]
#: Columns that a histogram says nothing about.
_NO_HISTOGRAM = ("id", "bbox_")


class _Rows(QTableView):
    """A table that tells which row somebody picks, but not which one a program does."""

    rowChosen = Signal(int)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Tell the row that was clicked on."""
        super().mouseReleaseEvent(event)
        index = self.currentIndex()
        if event.button() == Qt.MouseButton.LeftButton and index.isValid():
            self.rowChosen.emit(index.row())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Tell the row that the keys have gone to, or Enter."""
        before = self.currentIndex().row()
        super().keyPressEvent(event)
        row = self.currentIndex().row()
        confirmed = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if row >= 0 and (row != before or confirmed):
            self.rowChosen.emit(row)


class MeasurementsPanel(Panel):
    """A table of objects, as `measure_objects` returns it.

    Signals
    -------
    measureRequested
        The objects shall be measured (again).
    saveRequested
        What :meth:`shownTable` returns shall be saved.
    objectChosen : int
        Somebody has picked the row of this object; :meth:`chosenRow` has all of it.
        An object, since ids go beyond the integers of Qt.
    """

    measureRequested = Signal()
    saveRequested = Signal()
    objectChosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.measure = button(
            "Measure",
            "measure_button",
            "Measure each object: its size, place, shape and intensity.",
        )
        self.save = button(
            "Save…",
            "measurements_save_button",
            "Save the rows that are shown as a table, CSV or Parquet.",
        )
        self.filter = self._make_filter()
        self.problem = small_label("measurements_problem")
        self._model = TableModel()
        self.table = self._make_table()
        self.facts = small_label("measurements_facts")
        self.column = self._make_column()
        self.plot = HistogramPlot()
        self.plot.setObjectName("measurements_plot")
        self.plot.setAccessibleName("Histogram of the shown objects")
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(_PAUSE)
        self._save_obstacle = ""
        # The filter is no condition, and the objects have changed since.
        self._wrong = self._stale = False
        self._chosen: int | None = None
        self._lay_out()
        self._connect()
        self.setTable(pd.DataFrame())

    def _make_filter(self) -> QLineEdit:
        line = QLineEdit()
        line.setObjectName("measurements_filter")
        line.setAccessibleName("Filter of objects")
        line.setPlaceholderText(f"Filter: {_EXAMPLE}")
        line.setToolTip(
            "Show only objects that fulfil a condition: columns compared with numbers, "
            "or with words in quotes, joined by and, or, not: <br>" + escape(_EXAMPLE)
        )
        line.setClearButtonEnabled(True)
        return line

    def _make_table(self) -> _Rows:
        table = _Rows()
        table.setObjectName("measurements_table")
        table.setAccessibleName("Measured objects")
        table.setModel(self._model)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.setEditTriggers(QTableView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        table.setHorizontalScrollMode(QTableView.ScrollMode.ScrollPerPixel)
        table.setWordWrap(False)
        table.setMinimumHeight(8 * _ROW_HEIGHT)
        # With it, Tab would go from cell to cell and never leave the table.
        table.setTabKeyNavigation(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setHighlightSections(False)
        # Rows on the screen tell how wide a column must be, not all of them.
        header.setResizeContentsPrecision(0)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        table.setSortingEnabled(True)
        return table

    def _make_column(self) -> QComboBox:
        combo = QComboBox()
        combo.setObjectName("measurements_column")
        combo.setAccessibleName("Column of the histogram")
        combo.setToolTip("Which column the histogram shows.")
        combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        combo.setMinimumContentsLength(8)
        return combo

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.measure)
        buttons.addWidget(self.save)
        choice = QHBoxLayout()
        choice.addWidget(QLabel("Histogram of"))
        choice.addWidget(self.column, 1)
        # A window of its own, under a title that reaches over its edge.
        self.rows.setContentsMargins(8, 8, 8, 8)
        self.rows.addLayout(buttons)
        self.rows.addWidget(self.filter)
        self.rows.addWidget(self.problem)
        self.rows.addWidget(self.table, 1)
        self.rows.addWidget(self.facts)
        self.rows.addLayout(choice)
        self.rows.addWidget(self.plot)

    def _connect(self) -> None:
        self.measure.clicked.connect(lambda: self.measureRequested.emit())
        self.save.clicked.connect(lambda: self.saveRequested.emit())
        self.filter.textChanged.connect(lambda _: self._typing.start())
        self.filter.returnPressed.connect(self._apply_filter)
        self._typing.timeout.connect(self._apply_filter)
        self.column.currentIndexChanged.connect(lambda _: self._show_histogram())
        self.table.rowChosen.connect(self._choose)
        # Views lose their current row then.
        self._model.modelReset.connect(self._show_choice)

    def setTable(self, frame: pd.DataFrame) -> None:
        """Show a table; filter, order and the chosen object stay as they are.

        Parameters
        ----------
        frame : DataFrame
            With a column ``id``; any other columns.
        """
        self._stale = False
        columns, chosen = list(self._model.table), self.chosenRow()
        self._chosen = None if chosen is None else _find(frame, chosen)
        self._model.set_table(frame)
        if list(frame) != columns:
            self._show_columns()
        self._apply_filter()

    def setStale(self) -> None:
        """Say that the objects have changed since they were measured."""
        if len(self._model.table.columns) and not self._stale:
            self._stale = True
            self._show_facts()

    def shownTable(self) -> pd.DataFrame:
        """Return the rows that are shown, in their order."""
        shown = self._model.table.iloc[self._model.rows()]
        return shown.reset_index(drop=True)

    def chosenRow(self) -> dict[str, Any] | None:
        """Return the chosen row, by column, or None."""
        if self._chosen is None:
            return None
        table = self._model.table
        return {str(name): table[name].iloc[self._chosen] for name in table}

    def selectObject(self, number: int) -> None:
        """Mark the row of an object and scroll to it, without a signal.

        In a movie it is the object of the first step that is shown.  Where there is no
        such row, or the filter hides it, none is marked.
        """
        table = self._model.table
        found = np.zeros(0, int)
        if "id" in table:
            found = np.flatnonzero(table["id"].to_numpy() == number)
            found = found[np.isin(found, self._model.rows())]
        self._chosen = int(found[0]) if len(found) else None
        self._show_choice()

    def show_gates(self, measure: str, save: str = "") -> None:
        """Enable the buttons, or say why they cannot work now."""
        gate(self.measure, measure)
        self._save_obstacle = save
        self._gate_save()

    def set_theme(self, name: str) -> None:
        """Take the colours of one of napari's themes."""
        self.plot.set_theme(name)

    def _gate_save(self) -> None:
        none = "" if self._model.rowCount() else "No object is shown."
        if not len(self._model.table.columns):
            none = "Measure first."
        if self._wrong:
            none = "What is shown is not what the filter says: mend it first."
        gate(self.save, self._save_obstacle or none)

    def _choose(self, row: int) -> None:
        self._chosen = int(self._model.rows()[row])
        self.objectChosen.emit(int(self._model.table["id"].iloc[self._chosen]))

    def _show_choice(self) -> None:
        places = np.flatnonzero(self._model.rows() == self._chosen)
        if not len(places):
            self.table.clearSelection()
            self.table.setCurrentIndex(QModelIndex())
            return
        # The column stays where it is, however far the table was scrolled to the side.
        side = self.table.horizontalScrollBar().value()
        index = self._model.index(int(places[0]), 0)
        self.table.setCurrentIndex(index)
        self.table.scrollTo(index)
        self.table.horizontalScrollBar().setValue(side)

    def _apply_filter(self) -> None:
        self._typing.stop()
        table = self._model.table
        try:
            # Before anything is measured no column is known, and none is wrong.
            text = self.filter.text() if len(table.columns) else ""
            shown = matching_rows(table, text)
        except InputError as error:
            red = f'<span style="color: {_RED}">{escape(str(error))}</span>'
            self.problem.setText(red)
            self.problem.show()
            self._wrong = True
            self._show_facts()
            self._gate_save()
            return
        self._wrong = False
        self.problem.setText("")
        self.problem.hide()
        self._model.set_shown(shown)
        self._show_facts()
        self._gate_save()
        self._show_histogram()

    def _show_facts(self) -> None:
        facts = _facts(self._model.table, self._model.rows())
        old = "Changed since: press Measure. " if self._stale else ""
        self.facts.setText(old + facts)

    def _show_columns(self) -> None:
        """Offer the columns of a new kind of table, and make room for their names."""
        table, before = self._model.table, self.column.currentText()
        with QSignalBlocker(self.column):
            self.column.clear()
            for name in map(str, table):
                numeric = table[name].dtype.kind in "iuf"
                if numeric and not name.startswith(_NO_HISTOGRAM):
                    self.column.addItem(name)
                    hint = describe_column(name).meaning
                    at = self.column.count() - 1
                    self.column.setItemData(at, hint, Qt.ItemDataRole.ToolTipRole)
            self.column.setCurrentIndex(max(self.column.findText(before), 0))
        self.column.setEnabled(self.column.count() > 0)
        self.table.resizeColumnsToContents()
        for number in range(len(table.columns)):
            wide = self.table.columnWidth(number) + _ARROW
            self.table.setColumnWidth(number, wide)

    def _show_histogram(self) -> None:
        name, table = self.column.currentText(), self._model.table
        if name not in table:
            self.plot.set_values(np.zeros(0), "")
            return
        unit = describe_column(name).unit
        values = table[name].to_numpy()[self._model.rows()]
        told = not unit or name.endswith(f"_{unit}")
        self.plot.set_values(values, name if told else f"{name} ({unit})")


def _find(frame: pd.DataFrame, row: dict[str, Any]) -> int | None:
    """Return which row of a table is the same object at the same step."""
    names = list(frame)
    if "id" not in names:
        return None
    same = np.ones(len(frame), bool)
    for name in names[: names.index("id") + 1]:
        same &= frame[name].to_numpy() == row.get(name)
    places = np.flatnonzero(same)
    return int(places[0]) if len(places) else None


def _facts(table: pd.DataFrame, shown: NDArray[np.int64]) -> str:
    """Return how many objects there are, and how large those shown are."""
    if not len(table.columns):
        return "Nothing is measured yet."
    count = len(shown)
    facts = [f"{quantity(len(table))} objects"]
    if count < len(table):
        facts.append(f"{quantity(count)} shown")
    sizes = [
        f"{table[name].to_numpy()[shown].mean():.4g} {describe_column(name).unit}"
        for name in ("area_px", "volume_vox", "area_um2", "volume_um3")
        if name in table and count
    ]
    if sizes:
        what = "volume" if "volume_vox" in table else "area"
        facts.append(f"mean {what} {' = '.join(sizes)}")
    return ", ".join(facts)
