"""The objects of the mask: found, counted, measured."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_seg._qt.panels.common import Panel, button, gate, small_label

__all__ = ["ObjectsPanel"]

#: Ways to tell objects apart: words, and what they mean.
_SPLITS = {
    "shape": ("cut at waists", "Touching objects are told apart by their outline."),
    "none": ("connected pixels", "All that is connected is one object."),
}


class ObjectsPanel(Panel):
    """A collapsed section.

    Signals
    -------
    findWanted : str
        Number the objects, and how touching ones are told apart.
    tableWanted
        Show the table of measurements.
    """

    findWanted = Signal(str)
    tableWanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.split = QComboBox()
        self.split.setObjectName("objects_split_combo")
        self.split.setAccessibleName("How touching objects are told apart")
        for place, (key, (words, meaning)) in enumerate(_SPLITS.items()):
            self.split.addItem(words, key)
            self.split.setItemData(place, meaning, Qt.ItemDataRole.ToolTipRole)
        self.split.setToolTip("How touching objects are told apart.")
        self.find = button(
            "Find objects",
            "find_objects_button",
            "Give each object of the mask a number, as a layer of their own. Objects "
            "that were found before are replaced.",
        )
        self.table = button(
            "Measurements…",
            "measurements_button",
            "A table with a row for each object: size, place, shape, intensity.",
        )
        self.told = small_label("objects_label")
        self.find.clicked.connect(
            lambda: self.findWanted.emit(self.split.currentData())
        )
        self.table.clicked.connect(self.tableWanted)
        self._lay_out()
        self.show_objects("")

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        first, second = QHBoxLayout(), QHBoxLayout()
        label = QLabel("Touching objects:")
        label.setBuddy(self.split)
        first.addWidget(label)
        first.addWidget(self.split, 1)
        second.addWidget(self.find)
        second.addWidget(self.table)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.told)
        section = QCollapsible("Objects")
        section.setObjectName("objects_section")
        section.layout().setContentsMargins(0, 0, 0, 0)
        section.setDuration(0)
        section.addWidget(content)
        section.collapse(animate=False)
        self.rows.addWidget(section)

    def show_gates(self, find: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        gate(self.find, find)

    def show_objects(self, text: str) -> None:
        """Say how many objects there are, or what is under way."""
        self.told.setText(text)
        self.told.setVisible(bool(text))
