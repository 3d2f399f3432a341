"""IoU and Dice, per class and mean, while the brush moves."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from qtpy.QtCore import QModelIndex, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QResizeEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
)

from napari_seg._qt.panels.common import Panel, small_label
from napari_seg._qt.panels.object_cells import (
    OBJECT_COLUMNS,
    ObjectCell,
    object_check,
)
from napari_seg._qt.plots import CurvePlot
from napari_seg.scoring.confusion import Scores
from napari_seg.workspace.words import quantity

__all__ = ["SCOPES", "ScorePanel"]

#: Scopes as the ledger knows them, with the words of the user and what they mean.
SCOPES = {
    "whole": (
        "whole image",
        "Optimistic: what you have not touched counts as agreed.",
    ),
    "reviewed": (
        "reviewed area",
        "Honest: only what you accepted is counted.",
    ),
    "slice": (
        "current slice",
        "Only the slice on the screen; optimistic, as the whole image is.",
    ),
}
_COLUMNS = ("Class", "IoU", "Dice", "Pixels", *OBJECT_COLUMNS)
_PIXEL_SCORES, _PIXELS = (1, 2), 3
#: The columns that are there on demand.
_OBJECTS = range(4, 4 + len(OBJECT_COLUMNS))
_ROW_HEIGHT = 22
_MOST_ROWS = 7
_BAR = Qt.ItemDataRole.UserRole


class _Bar(QStyledItemDelegate):
    """Paints a small bar behind a score."""

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        share = index.data(_BAR)
        if share is not None:
            color = QColor(index.data(_BAR + 1))
            color.setAlpha(110)
            area = QRectF(option.rect).adjusted(2, 3, -2, -3)
            area.setWidth(area.width() * share)
            painter.fillRect(area, color)
        super().paint(painter, option, index)


class ScorePanel(Panel):
    """The live score: a table, what it counts, and its curve over the strokes."""

    scopeChosen = Signal(str)
    objectsWanted = Signal(bool)

    def __init__(self) -> None:
        super().__init__("Score")
        self.scope = QComboBox()
        self.scope.setObjectName("score_scope_combo")
        self.scope.setAccessibleName("What the score counts")
        # The dock may be narrow; the list itself shows the words whole.
        self.scope.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.scope.setMinimumContentsLength(8)
        for key, (label, meaning) in SCOPES.items():
            self.scope.addItem(label, key)
            self.scope.setItemData(
                self.scope.count() - 1, meaning, Qt.ItemDataRole.ToolTipRole
            )
        self.scope.activated.connect(
            lambda _: self.scopeChosen.emit(self.scope.currentData())
        )
        row = QHBoxLayout()
        row.addWidget(QLabel("Model vs mask in"))
        row.addWidget(self.scope, 1)
        self.rows.addLayout(row)
        self.objects = object_check()
        self.objects.clicked.connect(self.objectsWanted)
        # No wider than its words: a click beside them would do nothing.
        self.rows.addWidget(self.objects, alignment=Qt.AlignmentFlag.AlignLeft)
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setObjectName("score_table")
        self.table.setAccessibleName("Scores")
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        # All scores stand side by side.
        header.moveSection(_PIXELS, len(_COLUMNS) - 1)
        for column, meaning in zip(_OBJECTS, OBJECT_COLUMNS.values(), strict=True):
            self.table.horizontalHeaderItem(column).setToolTip(meaning)
        self._bars = _Bar(self.table)
        for column in (*_PIXEL_SCORES, *_OBJECTS):
            self.table.setItemDelegateForColumn(column, self._bars)
        self.rows.addWidget(self.table)
        self.meaning = small_label("score_meaning")
        self.rows.addWidget(self.meaning)
        self.plot = CurvePlot("your strokes", bounded=True, counted=True)
        self.plot.setObjectName("score_plot")
        self.plot.setAccessibleName("Mean scores over your strokes")
        self.rows.addWidget(self.plot)
        self.show_scores([], [], None)
        self.show_objects([], on=False, obstacle="")
        self.show_scope("whole")

    def show_scope(
        self, scope: str, counting: bool = False, no_slice: str = ""
    ) -> None:
        """Mark the scope, and say what it means or that edits are being counted.

        Parameters
        ----------
        scope : str
            A key of :data:`SCOPES`.
        counting : bool
            Whether the numbers do not hold every edit yet.
        no_slice : str
            Why there are no slices to choose, or nothing.
        """
        meaning = SCOPES[scope][1]
        self.scope.setCurrentIndex(self.scope.findData(scope))
        self.scope.setToolTip(meaning)
        self.meaning.setText("counting…" if counting else meaning)
        index = self.scope.findData("slice")
        self.scope.model().item(index).setEnabled(not no_slice)
        hint = no_slice or SCOPES["slice"][1]
        self.scope.setItemData(index, hint, Qt.ItemDataRole.ToolTipRole)

    def show_scores(
        self, names: Sequence[str], colors: Sequence[str], scores: Scores | None
    ) -> None:
        """Show a row for each class and one for the mean; an absent class is "–"."""
        rows: list[tuple[str, float, float, int | None, str]] = []
        if scores is not None:
            pixels = scores.truth_pixels
            rows = [
                (name, scores.iou[i], scores.dice[i], int(pixels[i]), colors[i])
                for i, name in enumerate(names)
            ]
            rows.append(("mean", scores.mean_iou, scores.mean_dice, None, "#888888"))
        self.table.setRowCount(len(rows))
        for index, (name, iou, dice, pixels_of, color) in enumerate(rows):
            count = "" if pixels_of is None else quantity(pixels_of)
            self._set(index, 0, name)
            self._set(index, 1, _digits(iou), iou, color)
            self._set(index, 2, _digits(dice), dice, color)
            self._set(index, _PIXELS, count)
            self.table.item(index, 0).setToolTip(name)
        visible = min(max(len(rows), 2), _MOST_ROWS)
        header = self.table.horizontalHeader().sizeHint().height()
        self.table.setFixedHeight(visible * _ROW_HEIGHT + header + 4)

    def show_objects(
        self, cells: Sequence[Sequence[ObjectCell]], *, on: bool, obstacle: str
    ) -> None:
        """Show PQ and AP of each row, or hide them.

        Parameters
        ----------
        cells : sequence of sequence of ObjectCell
            Of each row of the table.
        on : bool
            Whether they are wanted.
        obstacle : str
            Why there can be none now, or nothing.
        """
        self.objects.setChecked(on)
        self.objects.setEnabled(on or not obstacle)
        self.objects.setToolTip(obstacle or self.objects.property("hint"))
        for column in _OBJECTS:
            self.table.setColumnHidden(column, not on)
        self._fit_columns()
        for row, each in enumerate(cells if on else ()):
            for column, cell in zip(_OBJECTS, each, strict=True):
                color = self.table.item(row, 1).data(_BAR + 1)
                self._set(row, column, cell.text, cell.share, color)
                self.table.item(row, column).setToolTip(cell.meaning)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the new width among the columns."""
        super().resizeEvent(event)
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Leave the names what the numbers do not need, or all the same width."""
        header, modes = self.table.horizontalHeader(), QHeaderView.ResizeMode
        digits = self.table.fontMetrics().horizontalAdvance(" 0.000 ") + 6
        numbers = (*_PIXEL_SCORES, *_OBJECTS)
        needed = len(numbers) * digits + self.table.sizeHintForColumn(_PIXELS)
        narrow = self.table.viewport().width() - needed < 2 * digits
        alike = narrow or self.table.isColumnHidden(_OBJECTS[0])
        for column in numbers:
            mode = modes.Stretch if alike else modes.Fixed
            header.setSectionResizeMode(column, mode)
            if not alike:
                header.resizeSection(column, digits)
        mode = modes.Stretch if alike else modes.ResizeToContents
        header.setSectionResizeMode(_PIXELS, mode)

    def show_history(self, iou: Sequence[float], dice: Sequence[float]) -> None:
        """Show the mean scores after each stroke."""
        x = list(range(len(iou)))
        self.plot.set_curves({"mean IoU": (x, iou), "mean Dice": (x, dice)})

    def _set(
        self,
        row: int,
        column: int,
        text: str,
        share: float | None = None,
        color: str = "",
    ) -> None:
        item = self.table.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            if column:
                item.setTextAlignment(
                    Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
            self.table.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
        if share is not None:
            item.setData(_BAR, None if isnan(share) else float(share))
            item.setData(_BAR + 1, color)


def _digits(score: float) -> str:
    return "–" if isnan(score) else f"{score:.3f}"
