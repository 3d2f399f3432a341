"""Versions, history, export and expert options: what one needs now and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QMenu, QWidget
from superqt import QCollapsible

from napari_seg._qt.forms import OptionsForm
from napari_seg._qt.panels.common import Panel, button, gate, small_label

__all__ = ["LibraryPanel"]


class LibraryPanel(Panel):
    """Collapsed sections at the foot of the dock.

    Parameters
    ----------
    exports : mapping of str to str
        What can be taken away: key and label.
    """

    restoreWanted = Signal(str)
    exportWanted = Signal(str)
    historyWanted = Signal()
    revertWanted = Signal(object)

    def __init__(self, exports: Mapping[str, str]) -> None:
        super().__init__()
        self._current = ""
        self.versions = QListWidget()
        self.versions.setObjectName("version_list")
        self.versions.setAccessibleName("Versions of the model")
        self.versions.setFixedHeight(84)
        self.restore = button(
            "Restore", "restore_button", "Go back to the version that is marked."
        )
        self.versions.currentItemChanged.connect(lambda *_: self._gate_restore())
        self.restore.clicked.connect(self._restore)
        self._section("Versions", "versions_section", self.versions, self.restore)

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
        for key, label in exports.items():
            action = menu.addAction(label)
            action.setObjectName(f"export_{key}")
            action.triggered.connect(lambda _=False, k=key: self.exportWanted.emit(k))
        self.export.setMenu(menu)
        self._section("Export", "export_section", self.export)
        self._gate_restore()

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
        self.versions.clear()
        for key, text in rows:
            item = QListWidgetItem(f"● {text}" if key == current else f"    {text}")
            item.setData(Qt.ItemDataRole.UserRole, key)
            self.versions.addItem(item)
            if key == marked:
                self.versions.setCurrentItem(item)
        self._current = current
        self._gate_restore()

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

    def _chosen(self) -> str | None:
        item = self.versions.currentItem()
        return None if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def _gate_restore(self) -> None:
        chosen = self._chosen()
        reason = ""
        if not self.versions.count():
            reason = "There is one version so far."
        elif chosen is None:
            reason = "Choose a version in the list."
        elif chosen == self._current:
            reason = "This version is in use."
        gate(self.restore, reason)

    def _restore(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.restoreWanted.emit(chosen)
