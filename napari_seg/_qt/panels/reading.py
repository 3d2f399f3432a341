"""How the image is read: a line that says so, and lists to change it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_seg._qt.panels.common import small_label

__all__ = ["ReadingRow"]

#: What the letters stand for, for tooltips.
_MEANING = {
    "T": "time",
    "Z": "depth",
    "C": "channels",
    "Q": "anything else, plane by plane",
    "I": "anything else, plane by plane",
    "Y": "rows",
    "X": "columns",
}


class ReadingRow(QWidget):
    """The axes in words, and behind a button a list of letters for each of them.

    Signals
    -------
    axisNamed : int, str
        An axis was given another letter.
    """

    axisNamed = Signal(int, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = small_label("axes_label")
        self.open = QToolButton()
        self.open.setObjectName("axes_button")
        self.open.setText("Axes ▾")
        self.open.setCheckable(True)
        self.open.setToolTip("Say what the axes of the image mean.")
        self.open.setAccessibleName("Change the axes")
        self._editor = QWidget()
        self._editor.setObjectName("axes_editor")
        self._grid = QGridLayout(self._editor)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._combos: list[QComboBox] = []
        self._lengths: tuple[int, ...] = ()
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.label)
        line.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(line)
        column.addWidget(self._editor)
        self.open.toggled.connect(self._editor.setVisible)
        self._editor.hide()
        self.show_axes((), "", "")

    def show_axes(self, lengths: Sequence[int], letters: str, choices: str) -> None:
        """Show the letter of each axis.

        Parameters
        ----------
        lengths : sequence of int
            Of the axes before Y and X.
        letters : str
            One for each axis of the image; those of the first count.
        choices : str
            Letters to choose from.
        """
        can_choose = 0 < len(lengths) <= len(letters)
        self.open.setVisible(can_choose)
        if not can_choose:
            self.open.setChecked(False)
            return
        if tuple(lengths) != self._lengths:
            self._make_lists(lengths, choices)
        for combo, letter in zip(self._combos, letters, strict=False):
            # Rows and columns are no choice here, and leave the list empty.
            combo.setCurrentIndex(combo.findText(letter))
            combo.setToolTip(f"{letter}: {_MEANING[letter]}")

    def _make_lists(self, lengths: Sequence[int], choices: str) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            old = item.widget()
            # It is deleted later, but leaves the dock now.
            old.setParent(None)
            old.deleteLater()
        self._lengths, self._combos = tuple(lengths), []
        for axis, length in enumerate(lengths):
            combo = QComboBox()
            combo.setObjectName(f"axis_combo_{axis}")
            combo.setAccessibleName(f"Meaning of axis {axis}, of length {length}")
            combo.addItems(list(choices))
            combo.textActivated.connect(partial(self.axisNamed.emit, axis))
            self._combos.append(combo)
            self._grid.addWidget(QLabel(str(length)), 0, axis)
            self._grid.addWidget(combo, 1, axis)
