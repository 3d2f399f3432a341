"""A line with buttons that appears in the dock where there is something to answer."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_seg._qt.panels.common import small_label

__all__ = ["Bar"]


class Bar(QWidget):
    """A hint or a question: it stands in the way of nobody, and waits.

    Parameters
    ----------
    name : str
        Object name; that of its text is ``<name>_label``.
    *buttons : QPushButton
        The answers, beside each other below the text.
    """

    def __init__(self, name: str, *buttons: QPushButton) -> None:
        super().__init__()
        self.setObjectName(name)
        self.label = small_label(f"{name}_label")
        column = QVBoxLayout(self)
        # In line with what stands above and below.
        column.setContentsMargins(0, 2, 0, 2)
        column.setSpacing(4)
        column.addWidget(self.label)
        row = QHBoxLayout()
        for each in buttons:
            row.addWidget(each)
        column.addLayout(row)
        self.hide()

    def ask(self, text: str) -> None:
        """Show the text with its buttons; without a text, nothing."""
        self.label.setText(text)
        self.setAccessibleName(text)
        self.setVisible(bool(text))
