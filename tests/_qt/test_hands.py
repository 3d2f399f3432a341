"""The hands reach what they aim at; every other gui test relies on it."""

from __future__ import annotations

import napari
import numpy as np
import pytest
from qtpy.QtWidgets import QComboBox, QPushButton, QVBoxLayout, QWidget

from tests._qt import hands


@pytest.mark.smoke
def test_a_stroke_lands_where_it_was_aimed(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((64, 96), np.uint8), scale=(2, 2))
    layer.mode = "paint"
    layer.brush_size = 1
    hands.drag(viewer, [(10, 10), (10, 30), (40, 30)])
    assert layer.data[10, 10:31].all()
    assert layer.data[10:41, 30].all()
    assert layer.data.sum() == 51


def test_a_click_fills_and_a_key_undoes(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((64, 96), np.uint8))
    layer.mode = "fill"
    hands.click(viewer, (20, 20))
    assert layer.data.all()
    hands.press_key(viewer, "z", hands.CTRL)
    assert not layer.data.any()
    hands.press_key(viewer, "z", hands.CTRL | hands.SHIFT)
    assert layer.data.all()


def test_a_polygon_is_filled(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((64, 96), np.uint8))
    layer.mode = "polygon"
    hands.draw_polygon(viewer, [(10, 10), (10, 50), (40, 50), (40, 10)])
    assert layer.data[25, 30] == 1
    assert not layer.data[5].any()
    assert 1100 < layer.data.sum() < 1400


def test_a_stack_is_painted_in_the_slice_on_the_screen(viewer: napari.Viewer) -> None:
    layer = viewer.add_labels(np.zeros((5, 64, 96), np.uint8))
    viewer.dims.set_point(0, 3)
    layer.mode = "paint"
    hands.click(viewer, (20, 30))
    assert layer.data[3, 20, 30] == 1
    assert layer.data.any(axis=(1, 2)).tolist() == [False, False, False, True, False]


def test_buttons_and_entries(viewer: napari.Viewer) -> None:
    button, combo, heard = QPushButton("Go"), QComboBox(), []
    combo.addItems(["one", "two", "three"])
    button.clicked.connect(lambda: heard.append("clicked"))
    combo.currentTextChanged.connect(heard.append)
    panel = QWidget()
    QVBoxLayout(panel)
    for widget in (button, combo):
        panel.layout().addWidget(widget)
    viewer.window.add_dock_widget(panel)
    hands.press_button(button)
    hands.choose(combo, "three")
    hands.choose(combo, 1)
    assert heard == ["clicked", "two", "three", "two"]
    button.setEnabled(False)
    with pytest.raises(AssertionError, match="disabled"):
        hands.press_button(button)
    with pytest.raises(AssertionError, match="none of"):
        hands.choose(combo, "four")


def test_waiting_ends_with_an_answer(viewer: napari.Viewer) -> None:
    hands.wait_until(lambda: True)
    with pytest.raises(AssertionError, match="the sun did not hold"):
        hands.wait_until(lambda: False, timeout=0.02, what="the sun")
