"""What a window needs; loads no Qt."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from napari_seg.errors import InputError

__all__ = ["INSTALL_QT", "check_qt", "check_screen", "has_display", "qt_bindings"]

INSTALL_QT = 'pip install "napari-seg[pyqt6]"'


def qt_bindings() -> list[str]:
    """Return the Qt bindings that are installed."""
    return [name for name in ("PyQt5", "PyQt6", "PySide6") if find_spec(name)]


def has_display() -> bool:
    """Tell whether a window can be opened here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def check_qt() -> None:
    """Raise InputError if no Qt binding is installed."""
    if not qt_bindings():
        raise InputError(
            f"No Qt binding is installed, so no window can open: {INSTALL_QT}. The "
            "other commands work without one."
        )


def check_screen() -> None:
    """Raise InputError if there is no display."""
    if not has_display():
        raise InputError(
            "There is no display here, so no window can open: run this in a desktop "
            "session, or 'napari-seg demo --tour', which brings a virtual one."
        )
