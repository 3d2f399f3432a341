"""What the panels share."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_seg._qt.palette import OKABE_ITO

__all__ = [
    "Panel",
    "button",
    "gate",
    "heading",
    "link",
    "show_switch",
    "small_label",
]


class Panel(QWidget):
    """A section of the dock: a heading and what stands below it."""

    def __init__(self, title: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = QVBoxLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setSpacing(4)
        if title:
            self.rows.addWidget(heading(title))


def heading(text: str) -> QWidget:
    """Return the title of a section with a line above it."""
    box = QWidget()
    layout = QVBoxLayout(box)
    layout.setContentsMargins(0, 6, 0, 0)
    layout.setSpacing(4)
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    layout.addWidget(line)
    layout.addWidget(label)
    return box


def button(text: str, name: str, tooltip: str) -> QPushButton:
    """Return a push button with its object name, accessible name and tooltip."""
    made = QPushButton(text)
    made.setObjectName(name)
    made.setAccessibleName(text)
    made.setToolTip(tooltip)
    made.setProperty("hint", tooltip)
    # Buttons share the width of the dock, however long their words are.
    made.setMinimumWidth(24)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def gate(target: QPushButton, obstacle: str) -> None:
    """Enable a button, or disable it with the reason as its tooltip."""
    target.setEnabled(not obstacle)
    target.setToolTip(obstacle or target.property("hint"))


def show_switch(
    target: QPushButton, label: QLabel, *, on: bool, text: str, obstacle: str
) -> None:
    """Show the state of a button that stays pressed, and what there is to say of it."""
    target.setChecked(on)
    gate(target, "" if on else obstacle)
    label.setText(text)
    label.setVisible(bool(text))


def link(address: str, words: str) -> str:
    """Return a link in rich text; Qt's own blue disappears on a dark ground."""
    style = f"color: {OKABE_ITO[1]}"
    return f'<a href="{address}" title="{address}" style="{style}">{words}</a>'


def small_label(name: str = "") -> QLabel:
    """Return a label for a line of facts; long lines wrap."""
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    # A wrapping label asks for little; it shall take the whole width.
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
    return label
