"""A mark at the end of each class in a list: whether its objects are counted."""

from __future__ import annotations

from qtpy.QtCore import (
    QAbstractItemModel,
    QEvent,
    QModelIndex,
    QObject,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QHelpEvent, QPainter, QPalette
from qtpy.QtWidgets import (
    QAbstractItemView,
    QListWidget,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolTip,
)

__all__ = ["COUNTABLE", "CountableMarks"]

#: Role of an item: whether its class is countable; None is one that cannot be.
COUNTABLE = Qt.ItemDataRole.UserRole
_WIDTH = 20
_MEANINGS = {
    True: "Countable: each connected piece is an object, which Find objects numbers "
    "and PQ and AP count. Click to make it uncountable.",
    False: "Not countable: an area without single objects. Click to make it countable.",
}


class CountableMarks(QObject):
    """Draws a # behind countable classes, struck through behind the others.

    A click on it changes that, and so does the menu of a right click, which the menu
    key opens, too.

    Signals
    -------
    toggled : (int, bool)
        Row, and whether its class shall be countable.
    """

    toggled = Signal(int, bool)

    def __init__(self, rows: QListWidget) -> None:
        super().__init__(rows)
        self._rows = rows
        self._delegate = _Delegate(rows)
        self._delegate.clicked.connect(self._toggle)
        rows.setItemDelegate(self._delegate)
        rows.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        rows.customContextMenuRequested.connect(self._open_menu)

    def menu(self, row: int) -> QMenu | None:
        """Return the menu of a row, None if there is nothing to choose."""
        item = self._rows.item(row)
        countable = None if item is None else item.data(COUNTABLE)
        if countable is None:
            return None
        menu = QMenu(self._rows)
        menu.setToolTipsVisible(True)
        action = menu.addAction("Countable")
        action.setCheckable(True)
        action.setChecked(countable)
        action.setToolTip(_MEANINGS[countable].partition(" Click")[0])
        action.toggled.connect(lambda on: self.toggled.emit(row, on))
        return menu

    def holds(self, place: QPoint) -> bool:
        """Return whether a place of the list is on a mark."""
        index = self._rows.indexAt(place)
        marked = index.isValid() and index.data(COUNTABLE) is not None
        return marked and _mark(self._rows.visualRect(index)).contains(place)

    def _toggle(self, index: QModelIndex) -> None:
        self.toggled.emit(index.row(), not index.data(COUNTABLE))

    def _open_menu(self, place: QPoint) -> None:
        index = self._rows.indexAt(place)
        menu = self.menu(index.row() if index.isValid() else self._rows.currentRow())
        if menu is not None:
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self._rows.viewport().mapToGlobal(place))


class _Delegate(QStyledItemDelegate):
    clicked = Signal(QModelIndex)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        super().paint(painter, option, index)
        countable = index.data(COUNTABLE)
        if countable is None:
            return
        painter.save()
        color = option.palette.color(QPalette.ColorRole.Text)
        color.setAlpha(255 if countable else 110)
        painter.setPen(color)
        font = painter.font()
        font.setStrikeOut(not countable)
        painter.setFont(font)
        painter.drawText(_mark(option.rect), Qt.AlignmentFlag.AlignCenter, "#")
        painter.restore()

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Let words that do not fit end before the mark."""
        super().initStyleOption(option, index)
        if index.data(COUNTABLE) is not None:
            width = option.rect.width() - _WIDTH
            option.text = option.fontMetrics.elidedText(
                option.text, Qt.TextElideMode.ElideMiddle, width - 48
            )

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the size without the words: a list this narrow has no scroll bar."""
        size = super().sizeHint(option, index)
        return QSize(min(size.width(), self.parent().viewport().width()), size.height())

    def editorEvent(
        self,
        event: QEvent,
        model: QAbstractItemModel,
        option: QStyleOptionViewItem,
        index: QModelIndex,
    ) -> bool:
        """Take a click on the mark."""
        on_mark = (
            index.data(COUNTABLE) is not None
            and event.type() == QEvent.Type.MouseButtonRelease
            and event.button() == Qt.MouseButton.LeftButton
            and _mark(option.rect).contains(event.pos())
        )
        if on_mark:
            self.clicked.emit(index)
            return True
        return bool(super().editorEvent(event, model, option, index))

    def helpEvent(
        self,
        event: QHelpEvent,
        view: QAbstractItemView,
        option: QStyleOptionViewItem,
        index: QModelIndex,
    ) -> bool:
        """Say what the mark means."""
        countable = index.data(COUNTABLE)
        if countable is None or not _mark(option.rect).contains(event.pos()):
            return bool(super().helpEvent(event, view, option, index))
        QToolTip.showText(event.globalPos(), _MEANINGS[countable], view)
        return True


def _mark(row: QRect) -> QRect:
    """Return where the mark of a row is."""
    return row.adjusted(row.width() - _WIDTH, 0, 0, 0)
