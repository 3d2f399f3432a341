"""The keys of the dock, and the sheet that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_seg._qt.notify import show_info

__all__ = ["Keys", "taken"]

#: What the button of that object name is pressed with, in napari's spelling. None of
#: them is one of napari's own in the viewer or on Image and Labels layers.
_BUTTONS = {
    "predict_view_button": "Shift-P",
    "predict_all_button": "Shift-E",
    "cancel_button": "Shift-C",
    "accept_view_button": "Shift-A",
    "next_uncertain_button": "Shift-N",
    "uncertainty_button": "Shift-U",
    "finetune_button": "Shift-F",
    "batch_previous_button": "Shift-PageUp",
    "batch_next_button": "Shift-PageDown",
    "keys_button": "F1",
}
_WORDS = {
    "predict_view_button": "Predict view",
    "predict_all_button": "Predict all",
    "cancel_button": "Cancel the prediction",
    "accept_view_button": "Accept view",
    "next_uncertain_button": "Next uncertain place",
    "uncertainty_button": "Map of the uncertainty",
    "finetune_button": "Fine-tune",
    "batch_previous_button": "Previous image of the folder",
    "batch_next_button": "Next image of the folder",
    "keys_button": "This sheet",
}
#: Keys of napari that one needs for correcting.
_NAPARIS = {
    "napari:activate_labels_paint_mode": "Brush",
    "napari:activate_labels_fill_mode": "Fill",
    "napari:activate_labels_polygon_mode": "Polygon",
    "napari:activate_labels_erase_mode": "Eraser",
    "napari:activate_labels_picker_mode": "Take the class under the cursor",
    "napari:decrease_brush_size": "Smaller brush",
    "napari:increase_brush_size": "Larger brush",
    "napari:toggle_preserve_labels": "Paint over the background only",
    "napari:activate_labels_pan_zoom_mode": "Move the image",
    "napari:hold_for_pan_zoom": "Move the image while it is held",
    "napari:toggle_selected_visibility": "Show or hide the mask",
}
_UNDO = (("Ctrl+Z", "Undo a stroke"), ("Ctrl+Shift+Z", "Redo it"))
_OBJECTS = (
    ("Shift+M", "On the layer of objects: merge"),
    ("Shift+S", "… split"),
    ("Shift+D", "… delete"),
)
_CLASSES = 10
_ROW_HEIGHT = 24


@dataclass(frozen=True)
class _Key:
    sequence: str
    words: str
    press: Callable[[], None]


class Keys:
    """Presses the dock's buttons from the keyboard, while the canvas has the focus.

    The keys are bound to one viewer and not to its layers, whose own keys come first.
    One that something else has taken is left to it.

    Parameters
    ----------
    dock : QWidget
        Has the buttons.
    viewer : napari.Viewer
        Where the keys are pressed.
    choose_class : callable
        Called with the class whose number was pressed with Alt.
    """

    def __init__(
        self,
        dock: QWidget,
        viewer: napari.Viewer,
        choose_class: Callable[[int], None],
    ) -> None:
        self._viewer = viewer
        self._sheet: QDialog | None = None
        self._dock = dock
        self._bound: list[_Key] = []
        for key in [*self._of_buttons(), *_of_classes(choose_class)]:
            if not taken(viewer, key.sequence):
                viewer.bind_key(key.sequence, _pressing(key.press))
                self._bound.append(key)

    def _of_buttons(self) -> Iterator[_Key]:
        for name, sequence in _BUTTONS.items():
            found = self._dock.findChild(QWidget, name)
            hint = found.property("hint")
            if hint:
                found.setProperty("hint", f"{hint} ({_shown(sequence)})")
                found.setToolTip(found.property("hint"))
            yield _Key(sequence, _WORDS[name], partial(_press, found))

    def stop(self) -> None:
        """Give the keys back."""
        for key in self._bound:
            self._viewer.bind_key(key.sequence, None)
        self._bound = []
        if self._sheet is not None:
            self._sheet.close()

    def show_sheet(self) -> None:
        """List the keys of the dock, and those of napari for correcting."""
        if self._sheet is None:
            own = [(_shown(key.sequence), key.words) for key in self._bound]
            classes = [row for row in own if row[0].startswith("Alt+")]
            rows = [row for row in own if row not in classes]
            if classes:
                span = f"{classes[0][0]} … {classes[-1][0][-1]}"
                rows.append((span, "Paint class 0 … 9"))
            self._sheet = _Sheet([*rows, *_naparis(), *_UNDO, *_OBJECTS], self._dock)
        self._sheet.show()
        self._sheet.raise_()


class _Sheet(QDialog):
    """A window with a table of keys, beside which one can go on working."""

    def __init__(self, rows: Sequence[tuple[str, str]], parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("keys_sheet")
        self.setWindowTitle("Keys")
        table = QTableWidget(len(rows), 2)
        table.setObjectName("keys_table")
        table.setAccessibleName("Keys")
        table.setHorizontalHeaderLabels(["Key", "With the image in focus"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        for number, texts in enumerate(rows):
            for column, text in enumerate(texts):
                table.setItem(number, column, QTableWidgetItem(text))
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(table)
        layout.addWidget(buttons)
        height = table.verticalHeader().length() + header.height() + 70
        self.resize(380, min(height, 620))


def _of_classes(choose: Callable[[int], None]) -> Iterator[_Key]:
    for number in range(_CLASSES):
        yield _Key(f"Alt-{number}", f"Paint class {number}", partial(choose, number))


def _press(button: QPushButton) -> None:
    """Click on a button, or say why it cannot be clicked on."""
    if button.isEnabled():
        button.click()
    else:
        show_info(button.toolTip())


def _pressing(press: Callable[[], None]) -> Callable[[Any], None]:
    # napari asks for the function's name.
    def pressed(_: Any) -> None:
        press()

    return pressed


def taken(holder: Any, sequence: str) -> bool:
    """Return whether a viewer or a layer has something else under that key."""
    held = [*holder.keymap, *holder.class_keymap]
    return _normal(sequence) in {_normal(str(key)) for key in held}


def _normal(sequence: str) -> tuple[str, ...]:
    return tuple(sorted(part.lower() for part in sequence.replace("-", "+").split("+")))


def _shown(sequence: str) -> str:
    return sequence.replace("-", "+")


def _naparis() -> Iterator[tuple[str, str]]:
    """Yield keys of napari as its settings have them."""
    shortcuts = get_settings().shortcuts.shortcuts
    for name, words in _NAPARIS.items():
        keys = " or ".join(str(key) for key in shortcuts.get(name, ()))
        if keys:
            yield keys, words
