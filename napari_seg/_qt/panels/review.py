"""Buttons and menus to accept a part of the mask, and to take that back."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAction, QHBoxLayout, QMenu, QPushButton, QWidget

from napari_seg._qt.panels.common import button, gate

__all__ = ["WAYS", "ReviewButtons"]

#: Ways to say what is meant, apart from the view: words, what is accepted.
WAYS = {
    "object": ("object (click it)", "The connected pixels of a class that you click."),
    "polygon": ("polygon (draw it)", "What lies inside of a polygon that you draw."),
    "plane": ("slice", "All of the slice on the screen, also beyond the view."),
    "everything": ("everything", "The whole image, with all of its slices."),
}


class ReviewButtons(QWidget):
    """Accept, or take back: what is on the screen, or by one of :data:`WAYS`.

    Signals
    -------
    wanted : str, bool
        "view" or a key of :data:`WAYS`; whether acceptance is taken back.
    opening
        A menu is about to open: gate its entries.
    """

    wanted = Signal(str, bool)
    opening = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._ways: list[tuple[str, QAction]] = []
        self.accept = self._button(
            "✓ Accept view",
            "accept_view_button",
            "Everything on the screen is right now: count it as reviewed.",
            back=False,
        )
        self.accept_menu = self._menu_button(
            "Accept", "accept_menu_button", "Accept something else than the view."
        )
        self.unaccept = self._button(
            "Take back",
            "unaccept_view_button",
            "What is on the screen is not reviewed after all.",
            back=True,
        )
        self.unaccept_menu = self._menu_button(
            "Take back", "unaccept_menu_button", "Take back something else."
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.accept, 3)
        row.addWidget(self.accept_menu)
        row.addSpacing(4)
        row.addWidget(self.unaccept, 2)
        row.addWidget(self.unaccept_menu)

    def _button(self, text: str, name: str, tooltip: str, *, back: bool) -> QPushButton:
        made = button(text, name, tooltip)
        made.clicked.connect(lambda: self.wanted.emit("view", back))
        return made

    def _menu_button(self, verb: str, name: str, tooltip: str) -> QPushButton:
        made = button("▾", name, tooltip)
        made.setAccessibleName(f"{verb}: more ways")
        made.setFixedWidth(24)
        menu = QMenu(made)
        menu.setObjectName(name.replace("_button", ""))
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self.opening)
        for way, (words, _) in WAYS.items():
            self._ways.append((way, self._entry(menu, way, f"{verb} {words}")))
        # A menu of the button's own would be drawn with a second arrow.
        made.clicked.connect(
            lambda: menu.popup(made.mapToGlobal(made.rect().bottomLeft()))
        )
        return made

    def _entry(self, menu: QMenu, way: str, text: str) -> QAction:
        back = text.startswith("Take back")
        action: QAction = menu.addAction(text)
        action.setObjectName(f"{menu.objectName()}_{way}")
        action.triggered.connect(lambda: self.wanted.emit(way, back))
        return action

    def show_gates(self, review: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        for each in (
            self.accept,
            self.accept_menu,
            self.unaccept,
            self.unaccept_menu,
        ):
            gate(each, review)

    def show_ways(self, obstacles: Mapping[str, str]) -> None:
        """Enable the entries of the menus, or say why they cannot work now."""
        for way, action in self._ways:
            obstacle = obstacles.get(way, "")
            action.setEnabled(not obstacle)
            action.setToolTip(obstacle or WAYS[way][1])
