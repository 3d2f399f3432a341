"""A table of pandas as Qt's views read it: cell by cell, sorted and filtered."""

from __future__ import annotations

from math import floor, isnan, log10
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_seg.objects.columns import describe_column

__all__ = ["TableModel"]

_DIGITS = 4
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter


class TableModel(QAbstractTableModel):
    """Rows of a table in an order of their own; cells become text when they are shown.

    Sorting and filtering move numbers of rows about, not rows, so that a table of
    100 000 rows answers at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sorting: tuple[str, bool] | None = None
        self._take(pd.DataFrame())

    def set_table(self, frame: pd.DataFrame) -> None:
        """Show another table, in the order in which this one was sorted."""
        self.beginResetModel()
        self._take(frame)
        self._arrange()
        self.endResetModel()

    def set_shown(self, shown: NDArray[np.bool_]) -> None:
        """Show these rows of the table alone."""
        self.beginResetModel()
        self._shown = shown
        self._arrange()
        self.endResetModel()

    def _take(self, frame: pd.DataFrame) -> None:
        self.table = frame.reset_index(drop=True)
        self._shown = np.ones(len(frame), bool)
        self._rows = np.arange(len(frame))
        self._columns = [self.table[name].to_numpy() for name in frame]
        self._decimals = [_decimals(column) for column in self._columns]

    def rows(self) -> NDArray[np.int64]:
        """Return the numbers of the table's rows that are shown, in their order."""
        return self._rows

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Sort by a column, what is no number last; -1 is the order of the table."""
        name = self.table.columns[column] if 0 <= column < len(self._columns) else None
        upwards = order == Qt.SortOrder.AscendingOrder
        self.beginResetModel()
        self._sorting = None if name is None else (name, upwards)
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        rows = np.flatnonzero(self._shown)
        if self._sorting is not None and self._sorting[0] in self.table:
            name, upwards = self._sorting
            values = self.table[name].iloc[rows]
            rows = values.sort_values(ascending=upwards, kind="stable").index.to_numpy()
        self._rows = rows

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many rows are shown."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many columns there are."""
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text and alignment of a cell."""
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            value = self._columns[column][self._rows[index.row()]]
            return _text(value, self._decimals[column])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(column)
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return a column's name, as filters know it, and its meaning as tooltip."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self._columns):
            return None
        name = str(self.table.columns[section])
        if role == Qt.ItemDataRole.DisplayRole:
            return name
        if role == Qt.ItemDataRole.TextAlignmentRole:
            # On the right is the arrow that tells how rows are sorted.
            return _LEFT
        if role == Qt.ItemDataRole.ToolTipRole:
            column = describe_column(name)
            unit = f" In {column.unit}." if column.unit else ""
            return f"{column.meaning or f'The column {name}.'}{unit} Click to sort."
        return None

    def _alignment(self, column: int) -> Qt.AlignmentFlag:
        numeric = self._columns[column].dtype.kind in "iuf"
        return _RIGHT if numeric else _LEFT


def _decimals(column: NDArray[Any]) -> int | None:
    """Return how many digits after the point a column needs; None is as they come.

    All cells of a column have as many, so that their points stand below each other.
    """
    if column.dtype.kind != "f":
        return None
    finite = np.abs(column[np.isfinite(column)])
    largest = float(finite.max()) if len(finite) else 0.0
    if largest == 0:
        return 0
    return min(max(_DIGITS - 1 - floor(log10(largest)), 0), _DIGITS + 4)


def _text(value: Any, decimals: int | None) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if decimals is None:
        return str(value)
    return "–" if isnan(value) else f"{value:.{decimals}f}"
