"""A person leaves, comes back, and goes on; or back in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import napari
import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QWidget

from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def place(
    person: Person, field: NDArray[np.uint16]
) -> Iterator[tuple[napari.Viewer, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Leave a mask with two strokes; return the viewer, and the mask before and after.

    The viewer shows the image again, without a dock.
    """
    viewer = person.viewer
    mask = person.predict()
    before = mask.data.copy()
    for y in (30, 60):
        mask.selected_label = 1 - int(mask.data[y, 40])
        hands.drag(viewer, [(y, 40), (y, 60)])
    after = mask.data.copy()
    viewer.window.remove_dock_widget(person.dock)
    person.leave()
    viewer.layers.clear()
    viewer.add_image(field.copy(), name="plate")
    return viewer, before, after


def test_the_dock_offers_to_go_on(
    place: tuple[napari.Viewer, NDArray[np.uint8], NDArray[np.uint8]],
    model_file: Path,
) -> None:
    viewer, _, after = place
    person = Person(viewer, model_file)
    bar = person.find(QWidget, "saved_bar")
    person.wait(bar.isVisible, what="the offer to go on")
    assert "worked on this image before" in person.text("saved_bar_label")

    person.press("go_on_button")

    np.testing.assert_array_equal(person.mask.data, after)
    assert not bar.isVisible()
    person.check_scores()
    curve = person.find(QWidget, "score_plot").curves()["mean Dice"]
    assert len(curve[0]) == 3
    person.leave()


def test_undo_goes_on_where_it_stood(
    place: tuple[napari.Viewer, NDArray[np.uint8], NDArray[np.uint8]],
    model_file: Path,
) -> None:
    viewer, before, after = place
    person = Person(viewer, model_file)
    person.wait(person.find(QWidget, "saved_bar").isVisible)
    person.press("go_on_button")
    person.wait(lambda: person.mask._undo_history, what="the strokes of before")
    ctrl = Qt.KeyboardModifier.ControlModifier

    hands.press_key(viewer, Qt.Key.Key_Z, ctrl)
    hands.settle(0.2)
    assert 0 < (person.mask.data != before).sum() < (after != before).sum()
    hands.press_key(viewer, Qt.Key.Key_Z, ctrl)
    hands.settle(0.2)

    np.testing.assert_array_equal(person.mask.data, before)
    person.check_scores()
    assert person.session.mask.corrected_pixels == 0
    hands.press_key(viewer, Qt.Key.Key_Z, ctrl | Qt.KeyboardModifier.ShiftModifier)
    hands.settle(0.2)
    assert (person.mask.data != before).any()
    person.check_scores()
    person.leave()


def test_the_history_goes_back_and_forth(person: Person) -> None:
    mask = person.predict()
    before = mask.data.copy()
    mask.selected_label = 1 - int(mask.data[30, 40])
    hands.drag(person.viewer, [(30, 40), (30, 60)])
    after = mask.data.copy()
    person.press("accept_view_button")
    person.find(QWidget, "history_section").expand(animate=False)
    moments = person.find(QListWidget, "history_list")
    person.wait(lambda: moments.count() == 4, what="the list of moments")
    assert "accepted" in moments.item(0).text()
    assert "1 stroke," in moments.item(1).text()
    assert "prediction" in moments.item(2).text()
    assert not person.button("revert_button").isEnabled()
    assert "1 stroke" in person.text("work_label")

    moments.setCurrentRow(2)
    person.dock._scroll.ensureWidgetVisible(person.button("revert_button"))
    hands.settle(0.1)
    person.press("revert_button")
    person.wait(lambda: not person.workspace.past.busy)
    np.testing.assert_array_equal(mask.data, before)
    assert person.session.mask.accepted_pixels == 0
    person.check_scores()
    hands.press_key(person.viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    hands.settle(0.2)
    np.testing.assert_array_equal(mask.data, before)

    person.wait(lambda: moments.count() == 5, what="the revert in the list")
    moments.setCurrentRow(1)
    person.press("revert_button")
    person.wait(lambda: not person.workspace.past.busy)
    np.testing.assert_array_equal(mask.data, after)
    assert person.session.mask.accepted_pixels == mask.data.size
    person.check_scores()


def test_the_current_slice_is_scored(viewer: napari.Viewer, model_file: Path) -> None:
    rng = np.random.default_rng(0)
    viewer.add_image(rng.integers(0, 200, (3, 64, 80), np.uint16), name="stack")
    person = Person(viewer, model_file)
    person.predict()
    viewer.dims.set_point(0, 1)
    hands.choose(person.combo("score_scope_combo"), "current slice")
    mask = person.mask
    mask.selected_label = 1 - int(mask.data[1, 20, 20])
    hands.drag(viewer, [(20, 20), (20, 40)])
    hands.settle(0.2)
    assert float(person.shown_scores()["mean"][1]) < 1

    viewer.dims.set_point(0, 2)
    person.wait(lambda: person.shown_scores()["mean"][1] == "1.000")
    viewer.dims.set_point(0, 1)
    person.wait(lambda: person.shown_scores()["mean"][1] != "1.000")
    person.leave()
