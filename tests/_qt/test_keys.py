"""The dock's keys, pressed with the canvas in focus."""

from __future__ import annotations

import napari
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QTableWidget, QToolButton

from tests._qt import hands
from tests._qt.person import Person

SHIFT, ALT = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.AltModifier


@pytest.mark.smoke
def test_predict_accept_and_paint_from_the_keyboard(person: Person) -> None:
    hands.press_key(person.viewer, Qt.Key.Key_E, SHIFT)
    person.wait(person.idle)
    assert person.mask.data.any()
    hands.press_key(person.viewer, Qt.Key.Key_A, SHIFT)
    person.wait(lambda: "reviewed 100%" in person.text("review_label"))
    hands.press_key(person.viewer, Qt.Key.Key_0, ALT)
    assert person.mask.selected_label == 0
    hands.press_key(person.viewer, Qt.Key.Key_1, ALT)
    assert person.mask.selected_label == 1
    # There is no class 7.
    hands.press_key(person.viewer, Qt.Key.Key_7, ALT)
    assert person.mask.selected_label == 1


def test_a_key_whose_button_is_disabled_says_why(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("napari_seg._qt.keys.show_info", said.append)
    hands.press_key(person.viewer, Qt.Key.Key_A, SHIFT)
    assert said == [person.button("accept_view_button").toolTip()]
    assert "There is no mask yet" in said[0]


def test_the_sheet(person: Person) -> None:
    hands.press_key(person.viewer, Qt.Key.Key_F1)
    sheet = person.find(QDialog, "keys_sheet")
    assert sheet.isVisible()
    table = person.find(QTableWidget, "keys_table")
    rows = {
        table.item(row, 0).text(): table.item(row, 1).text()
        for row in range(table.rowCount())
    }
    assert rows["Shift+A"] == "Accept view"
    assert rows["Alt+0 … 9"].startswith("Paint class")
    assert rows["["] == "Smaller brush"
    sheet.close()
    hands.press_button(person.find(QToolButton, "keys_button"))
    assert sheet.isVisible()
    assert "(Shift+P)" in person.button("predict_view_button").toolTip()
    sheet.close()


def test_what_others_have_taken_is_left_to_them(viewer: napari.Viewer) -> None:
    pressed: list[str] = []
    viewer.bind_key("Shift-A", lambda _: pressed.append("theirs"))
    person = Person(viewer)
    hands.press_key(viewer, Qt.Key.Key_A, SHIFT)
    assert pressed == ["theirs"]
    before = len(viewer.keymap)
    person.dock.shut_down()
    # The dock gives its keys back, and only those.
    assert len(viewer.keymap) < before
    hands.press_key(viewer, Qt.Key.Key_A, SHIFT)
    assert pressed == ["theirs", "theirs"]
    person.leave()
    viewer.bind_key("Shift-A", None)


def test_none_of_napari_is_shadowed(person: Person) -> None:
    from napari.layers import Image, Labels

    own = {str(key) for key in person.viewer.keymap}
    for kind in (type(person.viewer), Image, Labels):
        assert not own & {str(key) for key in kind.class_keymap}
