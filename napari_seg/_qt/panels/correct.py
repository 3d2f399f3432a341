"""Classes to paint with, and what was reviewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QMouseEvent, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem

from napari_seg._qt.panels.bar import Bar
from napari_seg._qt.panels.common import Panel, button, gate, link, small_label
from napari_seg._qt.panels.countable import COUNTABLE, CountableMarks
from napari_seg._qt.panels.review import ReviewButtons
from napari_seg.workspace.words import quantity

__all__ = ["ClassRow", "CorrectPanel", "shortened"]

_ROW_HEIGHT = 22
_MOST_ROWS = 6
#: Letters of a name in a line of its own.
_LONGEST = 32


@dataclass(frozen=True)
class ClassRow:
    """One class as the list shows it."""

    name: str
    color: str
    pixels: int | None
    share: float = 0.0
    visible: bool = True
    countable: bool = True

    def text(self, class_id: int) -> str:
        """Return the class as a line: id, name, share of the mask, pixels."""
        text = f"{class_id}  {self.name}"
        if self.pixels is None:
            return text
        return f"{text}   {self.share:.1%}   {quantity(self.pixels)} px"


class _ClassList(QListWidget):
    """Asks for another name where others edit in place."""

    renameWanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.marks = CountableMarks(self)
        self.doubleClicked.connect(lambda at: self.renameWanted.emit(at.row()))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Take two quick clicks on a mark for what they are."""
        if self.marks.holds(event.pos()):
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_F2:
            self.renameWanted.emit(self.currentRow())
        else:
            super().keyPressEvent(event)


class CorrectPanel(Panel):
    """Choose a class, accept what is right, jump to what is doubtful."""

    classChosen = Signal(int)
    classShown = Signal(int, bool)
    classAddWanted = Signal()
    countableWanted = Signal(int, bool)
    renameWanted = Signal(int)
    nextWanted = Signal()
    uncertaintyWanted = Signal(bool)
    toolCancelled = Signal()
    foreignAdded = Signal()
    foreignMistaken = Signal()

    def __init__(self) -> None:
        super().__init__("Correct")
        self.classes = _ClassList()
        self.classes.setObjectName("class_list")
        self.classes.setAccessibleName("Classes")
        self.classes.setToolTip(
            "Choose what the brush paints (Alt+0 … Alt+9). Tick a class to show it in "
            "the mask, click on # to count its objects or not. Double-click, or press "
            "F2, to rename."
        )
        self.classes.setUniformItemSizes(True)
        self.classes.setIconSize(QSize(14, 14))
        self.classes.currentRowChanged.connect(self._chosen)
        self.classes.renameWanted.connect(self.renameWanted)
        self.classes.itemChanged.connect(self._ticked)
        self.classes.marks.toggled.connect(self.countableWanted)
        self.add = button("+", "add_class_button", "Add a class.")
        self.add.setAccessibleName("Add a class")
        self.add.setFixedWidth(28)
        self.add.clicked.connect(self.classAddWanted)
        row = QHBoxLayout()
        row.addWidget(self.classes)
        row.addWidget(self.add, alignment=Qt.AlignmentFlag.AlignTop)
        self.rows.addLayout(row)
        self._make_bars()

        self.review = ReviewButtons()
        self.next = button(
            "→ Next uncertain",
            "next_uncertain_button",
            "Jump to where the model is least sure.",
        )
        self.next.clicked.connect(self.nextWanted)
        self.uncertainty = button(
            "Map",
            "uncertainty_button",
            "Lay a map over the image: magenta where the model is probably wrong.",
        )
        self.uncertainty.setAccessibleName("Show where the model is uncertain")
        self.uncertainty.setCheckable(True)
        self.uncertainty.clicked.connect(self.uncertaintyWanted)
        self.facts = small_label("review_label")
        self.project = small_label("project_label")
        self.project.setOpenExternalLinks(True)
        for widget in (self.foreign, self.review, self.tool):
            self.rows.addWidget(widget)
        doubts = QHBoxLayout()
        doubts.addWidget(self.next, 3)
        doubts.addWidget(self.uncertainty, 1)
        self.rows.addLayout(doubts)
        self.rows.addWidget(self.facts)
        self.rows.addWidget(self.project)

    def _make_bars(self) -> None:
        """Make what appears where there is something to do or to answer."""
        cancel = button("Cancel", "review_cancel_button", "Put the tool down (Esc).")
        cancel.clicked.connect(self.toolCancelled)
        self.tool = Bar("review_bar", cancel)
        self.foreign_add = button(
            "Add class…",
            "foreign_add_button",
            "This is a new class: give it a name. Fine-tuning teaches it to the model.",
        )
        self.foreign_add.clicked.connect(self.foreignAdded)
        mistake = button(
            "It was a mistake",
            "foreign_mistake_button",
            "Give these pixels back what the model said, background where nothing.",
        )
        mistake.clicked.connect(self.foreignMistaken)
        self.foreign = Bar("foreign_bar", self.foreign_add, mistake)

    def _chosen(self, row: int) -> None:
        if row >= 0:
            self.classChosen.emit(row)

    def _ticked(self, item: QListWidgetItem) -> None:
        shown = item.checkState() == Qt.CheckState.Checked
        self.classShown.emit(self.classes.row(item), shown)

    def show_classes(self, rows: Sequence[ClassRow], chosen: int) -> None:
        """List the classes with colour, id and pixels, and mark the chosen one."""
        self.classes.blockSignals(True)
        while self.classes.count() > len(rows):
            self.classes.takeItem(self.classes.count() - 1)
        while self.classes.count() < len(rows):
            self.classes.addItem(QListWidgetItem())
        for class_id, row in enumerate(rows):
            item = self.classes.item(class_id)
            item.setText(row.text(class_id))
            # The background is never drawn in the mask.
            shown = row.visible and class_id > 0
            states = Qt.CheckState
            item.setCheckState(states.Checked if shown else states.Unchecked)
            if class_id == 0:
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsUserCheckable)
            item.setIcon(_swatch(row.color))
            item.setData(COUNTABLE, row.countable if class_id else None)
        self.classes.setCurrentRow(chosen if chosen < len(rows) else -1)
        self.classes.blockSignals(False)
        visible = min(max(len(rows), 2), _MOST_ROWS)
        self.classes.setFixedHeight(visible * _ROW_HEIGHT + 6)

    def show_facts(self, reviewed: float, corrected: int, saved: str) -> None:
        """Show how much was reviewed and corrected, and when it was saved."""
        parts = [f"reviewed {reviewed:.0%}", f"corrected {quantity(corrected)} px"]
        self.facts.setText("   ".join([*parts, saved] if saved else parts))

    def show_project(self, folder: Path | None) -> None:
        """Show where the work is saved, with a link to the folder."""
        self.project.setVisible(folder is not None)
        if folder is not None:
            words = link(folder.as_uri(), escape(shortened(folder.name)))
            self.project.setText(f"Project: {words}")
            self.project.setToolTip(str(folder))

    def show_uncertainty(self, *, on: bool) -> None:
        """Show whether the map of the uncertainty is on the screen."""
        self.uncertainty.setChecked(on)

    def show_foreign(self, label: int, pixels: int) -> None:
        """Ask what a label without a class shall be; nothing if no pixel has it."""
        if pixels:
            self.foreign_add.setText(f"Add class {label}…")
            self.foreign_add.setAccessibleName(self.foreign_add.text())
        question = (
            f"{quantity(pixels)} px have the label {label}, which no class has. They "
            "are neither scored nor learned from."
        )
        self.foreign.ask(question if pixels else "")

    def show_gates(self, review: str, following: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        self.review.show_gates(review)
        gate(self.add, review)
        gate(self.next, following)
        gate(self.uncertainty, "" if self.uncertainty.isChecked() else following)
        self.classes.setEnabled(not review)
        if review:
            self.facts.setText(review)


def shortened(name: str) -> str:
    """Return a name that cannot be wrapped in a length that fits into a narrow dock."""
    if len(name) <= _LONGEST:
        return name
    half = _LONGEST // 2
    return f"{name[:half]}…{name[-half:]}"


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(14, 14)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)
