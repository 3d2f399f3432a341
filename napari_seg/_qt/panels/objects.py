"""The objects of the mask: found, counted, measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_seg._qt.panels.common import Panel, button, gate, small_label

__all__ = ["ObjectsPanel"]

#: Ways to tell objects apart: words, and what they mean.
_SPLITS = {
    "shape": ("cut at waists", "Touching objects are told apart by their outline."),
    "none": ("connected pixels", "All that is connected is one object."),
    "probability": (
        "cut where unsure",
        "Touching objects are told apart by their outline, and by seams in which the "
        "model in use is less sure; it looks at the image.",
    ),
    "model": (
        "as the model learned",
        "The model in use has learned to tell objects apart, and looks at the image.",
    ),
}


#: Tools: words, object name, key, what they do.
_TOOLS = {
    "merge": (
        "Merge",
        "merge_objects_button",
        "Shift+M",
        "Make one object of several that you click on or drag over.",
    ),
    "split": (
        "Split",
        "split_object_button",
        "Shift+S",
        "Cut an object, at its waist or along a line that you draw.",
    ),
    "delete": (
        "Delete",
        "delete_object_button",
        "Shift+D",
        "Take an object away: its pixels become background.",
    ),
}


class ObjectsPanel(Panel):
    """A collapsed section.

    Signals
    -------
    findWanted : str
        Number the objects, and how touching ones are told apart.
    tableWanted
        Show the table of measurements.
    toolWanted : str
        Edit objects with this tool; empty to put it down.
    """

    findWanted = Signal(str)
    tableWanted = Signal()
    toolWanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.split = QComboBox()
        self.split.setObjectName("objects_split_combo")
        self.split.setAccessibleName("How touching objects are told apart")
        self.show_splits(("shape", "none"))
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
        self.tools = {
            key: button(words, name, f"{meaning} ({sequence}, on their layer)")
            for key, (words, name, sequence, meaning) in _TOOLS.items()
        }
        for key, tool in self.tools.items():
            tool.setCheckable(True)
            tool.clicked.connect(partial(self._tool_clicked, key))
        self.hint = small_label("objects_hint_label")
        self.told = small_label("objects_label")
        self.find.clicked.connect(
            lambda: self.findWanted.emit(self.split.currentData())
        )
        self.table.clicked.connect(self.tableWanted)
        self._lay_out()
        self.show_objects("")
        self.show_tool("", "")

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        first, second, third = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        label = QLabel("Touching objects:")
        label.setBuddy(self.split)
        first.addWidget(label)
        first.addWidget(self.split, 1)
        second.addWidget(self.find)
        second.addWidget(self.table)
        for tool in self.tools.values():
            third.addWidget(tool)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.told)
        column.addLayout(third)
        column.addWidget(self.hint)
        section = QCollapsible("Objects")
        section.setObjectName("objects_section")
        section.layout().setContentsMargins(0, 0, 0, 0)
        section.setDuration(0)
        section.addWidget(content)
        section.collapse(animate=False)
        self.rows.addWidget(section)

    def _tool_clicked(self, key: str, on: bool) -> None:
        self.toolWanted.emit(key if on else "")

    def show_gates(self, find: str, edit: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        gate(self.find, find)
        for tool in self.tools.values():
            gate(tool, edit)

    def show_splits(self, able: Sequence[str]) -> None:
        """Offer what the model in use can do."""
        wanted = [key for key in _SPLITS if key in able]
        chosen, before = self.split.currentData(), self._splits()
        if wanted == before:
            return
        if "model" in wanted and "model" not in before:
            # What a model has learned is what it is there for.
            chosen = "model"
        self.split.clear()
        for place, key in enumerate(wanted):
            words, meaning = _SPLITS[key]
            self.split.addItem(words, key)
            self.split.setItemData(place, meaning, Qt.ItemDataRole.ToolTipRole)
        self.split.setCurrentIndex(max(self.split.findData(chosen), 0))

    def _splits(self) -> list[str]:
        return [self.split.itemData(i) for i in range(self.split.count())]

    def show_tool(self, key: str, hint: str) -> None:
        """Show which tool is in the hand, and what to do with it."""
        for each, tool in self.tools.items():
            tool.setChecked(each == key)
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))

    def show_objects(self, text: str) -> None:
        """Say how many objects there are, or what is under way."""
        self.told.setText(text)
        self.told.setVisible(bool(text))
