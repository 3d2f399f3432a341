"""Versions, history, export and expert options: what one needs now and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem, QMenu, QWidget
from superqt import QCollapsible

from napari_seg._qt.forms import OptionsForm
from napari_seg._qt.panels.common import Panel, button, gate, show_switch, small_label

__all__ = ["LibraryPanel"]


class LibraryPanel(Panel):
    """Collapsed sections at the foot of the dock.

    Parameters
    ----------
    exports : mapping of str to (str, str)
        What can be taken away: key, menu (empty is the first one) and label.
    """

    restoreWanted = Signal(str)
    compareWanted = Signal(list)
    comparisonOver = Signal()
    exportWanted = Signal(str)
    historyWanted = Signal()
    revertWanted = Signal(object)

    def __init__(self, exports: Mapping[str, tuple[str, str]]) -> None:
        super().__init__()
        self._current = ""
        self.versions = QListWidget()
        self.versions.setObjectName("version_list")
        self.versions.setAccessibleName("Versions of the model")
        self.versions.setFixedHeight(84)
        self.restore = button(
            "Restore", "restore_button", "Go back to the version that is marked."
        )
        self.versions.setSelectionMode(QListWidget.SelectionMode.ExtendedSelection)
        self.compare = button(
            "Compare",
            "compare_version_button",
            "Show the view as the marked version would have it, with a line around "
            "what differs from the mask; of two marked versions (Ctrl+click), what "
            "differs between them. Click again to see the mask as it is.",
        )
        self.compare.setCheckable(True)
        self.compared = small_label("compare_version_label")
        self._compare_obstacle = ""
        self.versions.itemSelectionChanged.connect(self._gate_versions)
        self.restore.clicked.connect(self._restore)
        self.compare.clicked.connect(self._compare)
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.restore)
        row.addWidget(self.compare)
        self._section(
            "Versions", "versions_section", self.versions, buttons, self.compared
        )

        self._revert_obstacle = ""
        self.work = small_label("work_label")
        self.moments = QListWidget()
        self.moments.setObjectName("history_list")
        self.moments.setAccessibleName("What happened to the mask, newest first")
        self.moments.setFixedHeight(132)
        self.revert = button(
            "Revert to this moment",
            "revert_button",
            "Bring the mask and what was reviewed back to how they were right after "
            "it. This can be reverted, too.",
        )
        self.moments.currentItemChanged.connect(lambda *_: self._gate_revert())
        self.revert.clicked.connect(self._revert)
        self.history = self._section(
            "History", "history_section", self.work, self.moments, self.revert
        )
        self.history.toggled.connect(self._history_toggled)

        self.export = button("Export", "export_button", "Take results away as files.")
        menu = QMenu(self.export)
        menus = {"": menu}
        for key, (title, label) in exports.items():
            if title not in menus:
                menus[title] = menu.addMenu(title)
            action = menus[title].addAction(label)
            action.setObjectName(f"export_{key}")
            action.triggered.connect(lambda _=False, k=key: self.exportWanted.emit(k))
        self.export.setMenu(menu)
        self._section("Export", "export_section", self.export)
        self.show_compared(on=False, text="", obstacle="")

    def add_form(self, title: str, name: str, form: OptionsForm[Any]) -> None:
        """Add a collapsed section of expert options."""
        self._section(title, name, form)

    def _section(self, title: str, name: str, *content: QWidget) -> QCollapsible:
        section = QCollapsible(title)
        section.setObjectName(name)
        section.layout().setContentsMargins(0, 0, 0, 0)
        section.setDuration(0)
        for widget in content:
            section.addWidget(widget)
        section.collapse(animate=False)
        self.rows.addWidget(section)
        return section

    def show_versions(self, rows: Sequence[tuple[str, str]], current: str) -> None:
        """List versions as (key, text), the newest first, and mark the current one."""
        marked = self._chosen()
        self.versions.blockSignals(True)
        self.versions.clear()
        for key, text in rows:
            item = QListWidgetItem(f"● {text}" if key == current else f"    {text}")
            item.setData(Qt.ItemDataRole.UserRole, key)
            self.versions.addItem(item)
            item.setSelected(key in marked)
        self.versions.blockSignals(False)
        self._current = current
        self._gate_versions()

    def show_compared(self, *, on: bool, text: str, obstacle: str) -> None:
        """Show whether another version's view is on the screen, and how it differs."""
        self._compare_obstacle = obstacle
        show_switch(self.compare, self.compared, on=on, text=text, obstacle=obstacle)
        self._gate_versions()

    def show_gates(self, export: str, revert: str) -> None:
        """Enable export and going back, or say why they cannot work now."""
        gate(self.export, export)
        self._revert_obstacle = revert
        self._gate_revert()

    def show_work(self, text: str) -> None:
        """Show how much work there was."""
        self.work.setText(text)

    def show_moments(self, rows: Sequence[tuple[Any, str]]) -> None:
        """List moments as (data, text), the newest first; the first is the present."""
        current = self.moments.currentItem()
        marked = None if current is None else current.text()
        self.moments.clear()
        for data, text in rows:
            item = QListWidgetItem(text)
            item.setData(Qt.ItemDataRole.UserRole, data)
            self.moments.addItem(item)
            if text == marked:
                self.moments.setCurrentItem(item)
        self._gate_revert()

    @property
    def shows_history(self) -> bool:
        """Whether the section of the history is open."""
        return bool(self.history.isExpanded())

    def _history_toggled(self, opened: bool) -> None:
        if opened:
            self.historyWanted.emit()

    def _gate_revert(self) -> None:
        reason, row = self._revert_obstacle, self.moments.currentRow()
        if not reason and row < 0:
            reason = "Choose a moment in the list."
        elif not reason and row == 0:
            reason = "This is how the mask is now."
        gate(self.revert, reason)

    def _revert(self) -> None:
        item = self.moments.currentItem()
        if item is not None:
            self.revertWanted.emit(item.data(Qt.ItemDataRole.UserRole))

    def _chosen(self) -> list[str]:
        """Return the marked versions, the older ones first."""
        rows = sorted(self.versions.row(i) for i in self.versions.selectedItems())
        items = (self.versions.item(row) for row in reversed(rows))
        return [str(item.data(Qt.ItemDataRole.UserRole)) for item in items]

    def _gate_versions(self) -> None:
        chosen = self._chosen()
        none = ""
        if not self.versions.count():
            none = "There is one version so far."
        elif not chosen:
            none = "Choose a version in the list."
        restore = none
        if len(chosen) > 1:
            restore = "Choose a single version in the list."
        elif chosen == [self._current]:
            restore = "This version is in use."
        gate(self.restore, restore)
        compare = none or self._compare_obstacle
        if len(chosen) > 2:
            compare = "Two versions at the most can be compared."
        gate(self.compare, "" if self.compare.isChecked() else compare)

    def _restore(self) -> None:
        self.restoreWanted.emit(self._chosen()[0])

    def _compare(self, on: bool) -> None:
        if on:
            self.compareWanted.emit(self._chosen())
        else:
            self.comparisonOver.emit()
