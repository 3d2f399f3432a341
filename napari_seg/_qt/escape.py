"""The Esc key, wherever the keyboard's focus is."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QApplication

__all__ = ["EscapeKey"]


class EscapeKey(QObject):
    """Calls somebody when Esc is pressed, before napari sees it.

    Parameters
    ----------
    pressed : callable
        What to do then.
    """

    def __init__(self, pressed: Callable[[], None]) -> None:
        super().__init__()
        self._pressed = pressed

    def listen(self) -> None:
        """Take the key from now on."""
        QApplication.instance().installEventFilter(self)

    def stop(self) -> None:
        """Leave it to others."""
        QApplication.instance().removeEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Act on Esc, unless it is for a menu or a dialog."""
        kind = event.type()
        if kind not in (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride):
            return False
        if event.key() != Qt.Key.Key_Escape or _something_is_open():
            return False
        event.accept()
        if kind == QEvent.Type.KeyPress:
            self._pressed()
        return True


def _something_is_open() -> bool:
    open_one = QApplication.activePopupWidget() or QApplication.activeModalWidget()
    return open_one is not None
