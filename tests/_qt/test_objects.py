"""Objects of the mask under somebody's hands: found, measured, taken away."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QTableView
from skimage.draw import disk
from superqt import QCollapsible
from tifffile import imread

from napari_seg._qt.panels.measurements import MeasurementsPanel
from napari_seg.objects.numbering import number_objects
from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def person(turned: Person) -> Person:
    turned.find(QCollapsible, "objects_section").expand(animate=False)
    return turned


def draw_cells(person: Person) -> Labels:
    """Predict, and replace the mask by cells: two that touch, one in both planes."""
    mask = person.predict()
    drawn = np.zeros(mask.data.shape, np.uint8)
    for place in ((0, 30, 20), (0, 30, 38), (0, 70, 70), (1, 70, 72)):
        drawn[place[0]][disk(place[1:], 11)] = 1
    mask.data[:] = drawn
    mask.refresh()
    hands.settle()
    return mask


def objects_layer(person: Person) -> Labels | None:
    found = [each for each in person.viewer.layers if each.name.endswith(" objects")]
    return found[0] if found else None


def find(person: Person) -> Labels:
    person.press("find_objects_button")
    objects = person.dock.workspace.objects
    person.wait(lambda: not objects.busy and objects.ids is not None)
    layer = objects_layer(person)
    assert layer is not None
    return layer


def table(person: Person) -> MeasurementsPanel:
    person.press("measurements_button")
    shown = person.dock.objects._table
    assert shown is not None
    person.wait(lambda: len(shown.shownTable()) > 0)
    return shown


def test_cut_where_the_model_is_unsure(person: Person) -> None:
    draw_cells(person)
    hands.choose(person.combo("objects_split_combo"), "cut where unsure")
    find(person)
    assert person.dock.workspace.objects.count
    assert not person.failures


def test_finding_again_shows_new_numbers_in_the_same_layer(person: Person) -> None:
    mask = draw_cells(person)
    layer = find(person)
    layer.data_setitem(tuple(np.array([i]) for i in (0, 30, 20)), 99)
    hands.settle()
    mask.data[:] = 0
    mask.data[0][disk((50, 50), 9)] = 1
    mask.refresh()
    again = find(person)
    assert again is layer
    assert layer.data is person.dock.workspace.objects.ids
    assert set(np.unique(layer.data)) == {0, 1}
    before = layer.data.copy()
    layer.undo()
    hands.settle()
    np.testing.assert_array_equal(layer.data, before)


def test_the_table_says_when_it_is_out_of_date(person: Person) -> None:
    mask = draw_cells(person)
    find(person)
    shown = table(person)
    assert "press Measure" not in shown.facts.text()
    hands.drag(person.viewer, [(0, 90, 90), (0, 90, 94)], layer=mask)
    person.wait(lambda: "press Measure" in shown.facts.text())
    hands.press_button(shown.measure)
    person.wait(lambda: "press Measure" not in shown.facts.text())


def test_the_window_closes_with_the_table_open(person: Person) -> None:
    draw_cells(person)
    find(person)
    table(person)
    workspace = person.workspace
    person.viewer.close()
    hands.wait_until(lambda: workspace.session is None)
    assert not person.failures


def test_the_model_is_asked_only_if_it_has_learned_that(person: Person) -> None:
    combo = person.find(QComboBox, "objects_split_combo")
    workspace = person.dock.workspace
    assert combo.findData("model") == -1
    choice = workspace.choice
    assert choice is not None
    workspace.set_model(replace(choice, spec=replace(choice.spec, object_head=True)))
    assert combo.currentData() == "model", "as on the command line"
    workspace.set_model(choice)
    assert combo.findData("model") == -1
    assert combo.currentData() == "shape"


def test_objects_are_a_layer_over_the_mask(person: Person) -> None:
    assert not person.button("find_objects_button").isEnabled()
    mask = draw_cells(person)
    layer = find(person)
    expected = number_objects(np.asarray(mask.data), "Z")
    np.testing.assert_array_equal(layer.data, expected)
    assert expected.max() == 3
    assert person.find(QLabel, "objects_label").text() == "3 objects"
    place = (1, 10, 20)
    np.testing.assert_allclose(layer.data_to_world(place), mask.data_to_world(place))
    assert person.viewer.layers.selection.active is mask, "one goes on painting"
    assert person.combo("image_combo").findText(layer.name) == -1


def test_found_again_they_are_those_of_the_mask_as_it_is_now(person: Person) -> None:
    draw_cells(person)
    before = find(person)
    assert before.data.max() == 3
    person.session.mask.labels[0] = 0
    person.mask.refresh()
    hands.settle()
    layer = find(person)
    assert not layer.data[0].any()
    assert layer.data.max() == 1
    names = [each.name for each in person.viewer.layers]
    assert names.count(layer.name) == 1


def test_a_removed_layer_takes_its_objects_with_it(person: Person) -> None:
    draw_cells(person)
    person.viewer.layers.remove(find(person))
    hands.settle()
    assert person.dock.workspace.objects.ids is None
    assert not person.find(QLabel, "objects_label").isVisible()
    assert find(person) is objects_layer(person)


def test_another_image_has_none(person: Person, field: NDArray[np.uint16]) -> None:
    draw_cells(person)
    find(person)
    person.viewer.add_image(field, name="other")
    hands.choose(person.combo("image_combo"), "other")
    hands.settle()
    assert objects_layer(person) is None


def test_a_row_of_the_table_leads_to_its_object(person: Person) -> None:
    draw_cells(person)
    layer = find(person)
    shown = table(person)
    rows = shown.shownTable()
    assert len(rows) == layer.data.max()
    assert set(rows["class"]) == {"nucleus"}
    assert rows["volume_vox"].sum() == np.count_nonzero(layer.data)
    view = shown.findChild(QTableView, "measurements_table")
    place = view.model().index(len(rows) - 1, 0)
    view.scrollTo(place)
    QTest.mouseClick(
        view.viewport(),
        Qt.MouseButton.LeftButton,
        pos=view.visualRect(place).center(),
    )
    hands.settle()
    row = shown.chosenRow()
    assert row is not None
    assert layer.selected_label == row["id"]
    centre = [row[f"{axis}_px"] for axis in "zyx"]
    world = layer.data_to_world([round(each) for each in centre])
    assert person.viewer.dims.point[0] == pytest.approx(world[0], abs=1.5)
    np.testing.assert_allclose(person.camera.center[-2:], world[-2:], atol=1e-6)


def test_the_table_is_saved(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_cells(person)
    find(person)
    shown = table(person)
    target = tmp_path / "cells.csv"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), "")
    )
    shown.saveRequested.emit()
    person.wait(target.exists)
    with target.open() as file:
        assert len(list(csv.DictReader(file))) == len(shown.shownTable())
    target = tmp_path / "no" / "folder" / "cells.csv"
    shown.saveRequested.emit()
    person.wait(lambda: person.failures)
    assert "no folder" in str(person.failures.pop())
    assert not target.exists()


def test_objects_are_exported_once_they_are_found(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_cells(person)
    target = tmp_path / "objects.tif"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), "")
    )
    menus = [each.menu() for each in person.button("export_button").menu().actions()]
    actions = [
        action for menu in menus if menu is not None for action in menu.actions()
    ]
    action = next(a for a in actions if a.objectName() == "export_objects-tiff")
    action.trigger()
    assert "Find objects" in str(person.failures[-1])
    person.failures.clear()
    layer = find(person)
    action.trigger()
    person.wait(target.exists)
    np.testing.assert_array_equal(imread(target), layer.data)


def test_a_closed_dock_takes_the_table_with_it(
    person: Person, viewer: napari.Viewer
) -> None:
    draw_cells(person)
    find(person)
    table(person)
    person.leave()
    hands.settle()
    assert "Measurements" not in viewer.window.dock_widgets


# Edited -----------------------------------------------------------------------

LEFT, RIGHT, THIRD = (0, 30, 20), (0, 30, 38), (0, 70, 70)


def hint(person: Person) -> str:
    return str(person.find(QLabel, "objects_hint_label").text())


def click(person: Person, layer: Labels, place: Any, *modifiers: Any) -> None:
    hands.click(person.viewer, place[1:], *modifiers, layer=layer)
    # Two clicks in one place are a double click.
    hands.settle(0.1)


def undo(person: Person, layer: Labels) -> None:
    person.viewer.layers.selection.active = layer
    hands.press_key(person.viewer, "z", hands.CTRL)
    hands.settle(0.2)


def test_two_are_merged_by_clicks(person: Person) -> None:
    mask = draw_cells(person)
    assert not person.button("merge_objects_button").isEnabled()
    layer = find(person)
    before = layer.data.copy()
    person.press("merge_objects_button")
    assert person.viewer.layers.selection.active is layer
    click(person, layer, LEFT)
    assert f"Object {before[LEFT]}" in hint(person)
    click(person, layer, RIGHT)
    assert layer.data[LEFT] == layer.data[RIGHT] == before[LEFT]
    assert person.text("objects_label") == "2 objects"
    assert not np.array_equal(layer.data, before)
    undo(person, layer)
    np.testing.assert_array_equal(layer.data, before)
    assert person.text("objects_label") == "3 objects"
    # A drag does the same, Esc ends it.
    zoom, centre = person.camera.zoom, person.camera.center
    hands.drag(person.viewer, [LEFT[1:], (30, 29), RIGHT[1:]], layer=layer)
    hands.settle(0.1)
    assert layer.data[LEFT] == layer.data[RIGHT] == before[LEFT]
    assert (person.camera.zoom, person.camera.center) == (zoom, centre)
    hands.press_key(person.viewer, Qt.Key.Key_Escape)
    assert not person.button("merge_objects_button").isChecked()
    assert not hint(person)
    assert mask.data.any()
    assert not person.failures


def test_one_is_split_at_its_waist_and_along_a_line(person: Person) -> None:
    draw_cells(person)
    layer = find(person)
    before = layer.data.copy()
    person.press("split_object_button")
    hands.drag(person.viewer, [(52, 66), (70, 66), (88, 66)], layer=layer)
    hands.settle(0.1)
    # The cell goes on in the other slice, and so does the cut.
    assert layer.data[0, 70, 75] == layer.data[1, 70, 75] == before[THIRD]
    assert layer.data[0, 70, 61] == layer.data[1, 70, 62] == 4
    assert "4" in hint(person)
    np.testing.assert_array_equal(layer.data > 0, before > 0)
    undo(person, layer)
    np.testing.assert_array_equal(layer.data, before)
    click(person, layer, THIRD)
    assert "drag a line" in person.told[-1]
    np.testing.assert_array_equal(layer.data, before)


def test_one_is_deleted_and_comes_back(person: Person) -> None:
    mask = draw_cells(person)
    layer = find(person)
    before, labels = layer.data.copy(), np.array(mask.data)
    person.press("delete_object_button")
    click(person, layer, LEFT)
    gone = before == before[LEFT]
    assert not layer.data[gone].any()
    assert not mask.data[gone].any()
    np.testing.assert_array_equal(mask.data[~gone], labels[~gone])
    np.testing.assert_array_equal(person.session.mask.labels, mask.data)
    person.check_scores()
    undo(person, layer)
    np.testing.assert_array_equal(layer.data, before)
    np.testing.assert_array_equal(mask.data, labels)
    click(person, layer, RIGHT)
    assert not mask.data[RIGHT]
    undo(person, mask)
    np.testing.assert_array_equal(mask.data, labels)
    np.testing.assert_array_equal(layer.data, before)
    assert not person.button("delete_object_button").isChecked(), "another layer"
    person.check_scores()


def test_numbers_follow_the_brush(person: Person) -> None:
    mask = draw_cells(person)
    layer = find(person)
    before = layer.data.copy()
    mask.brush_size = 4
    mask.mode = "erase"
    hands.drag(person.viewer, [(30, 20), (30, 8)], layer=mask)
    hands.drag(person.viewer, [(55, 70), (70, 70), (85, 70)], layer=mask)
    hands.settle(0.2)
    np.testing.assert_array_equal(layer.data > 0, np.asarray(mask.data) > 0)
    assert not layer.data[LEFT]
    assert {layer.data[0, 70, 62], layer.data[0, 70, 78]} == {before[THIRD], 4}
    assert person.text("objects_label") == "4 objects"
    mask.mode = "paint"
    hands.drag(person.viewer, [(10, 80), (10, 85)], layer=mask)
    hands.settle(0.2)
    assert layer.data[0, 10, 82] == 5
    for _ in range(3):
        undo(person, mask)
    np.testing.assert_array_equal(layer.data, before)
    assert person.text("objects_label") == "3 objects"


def test_the_brush_on_the_objects_corrects_the_mask(person: Person) -> None:
    mask = draw_cells(person)
    layer = find(person)
    before, labels = layer.data.copy(), np.array(mask.data)
    person.viewer.layers.selection.active = layer
    layer.brush_size = 5
    layer.selected_label = int(before[THIRD])
    layer.mode = "paint"
    hands.drag(person.viewer, [(70, 80), (70, 88)], layer=layer)
    hands.settle(0.2)
    assert layer.data[0, 70, 86] == before[THIRD]
    assert mask.data[0, 70, 86] == 1
    layer.mode = "erase"
    hands.drag(person.viewer, [(70, 70), (70, 72)], layer=layer)
    hands.settle(0.2)
    assert not mask.data[0, 70, 71]
    np.testing.assert_array_equal(layer.data > 0, np.asarray(mask.data) > 0)
    undo(person, layer)
    undo(person, layer)
    np.testing.assert_array_equal(layer.data, before)
    np.testing.assert_array_equal(mask.data, labels)
    person.check_scores()


def test_keys_of_the_tools_are_those_of_the_layer(person: Person) -> None:
    mask = draw_cells(person)
    layer = find(person)
    hands.press_key(person.viewer, "m", hands.SHIFT)
    assert not person.button("merge_objects_button").isChecked(), "the mask is active"
    person.viewer.layers.selection.active = layer
    hands.settle()
    for key, name in (
        ("m", "merge_objects_button"),
        ("s", "split_object_button"),
        ("d", "delete_object_button"),
    ):
        hands.press_key(person.viewer, key, hands.SHIFT)
        assert person.button(name).isChecked()
    person.viewer.layers.selection.active = mask
    hands.settle(0.1)
    assert not person.button("delete_object_button").isChecked()
    assert not hint(person)


def test_the_same_numbers_are_there_again(person: Person) -> None:
    draw_cells(person)
    layer = find(person)
    person.press("merge_objects_button")
    click(person, layer, LEFT)
    click(person, layer, RIGHT)
    expected = layer.data.copy()
    hands.press_key(person.viewer, Qt.Key.Key_Escape)
    # Both layers are gone, as when the viewer is closed.
    person.viewer.layers.remove(layer)
    person.viewer.layers.remove(person.mask)
    hands.settle(0.2)
    person.predict("predict_view_button")
    person.wait(lambda: objects_layer(person) is not None)
    again = objects_layer(person)
    assert again is not None
    np.testing.assert_array_equal(again.data[0, :60, :60], expected[0, :60, :60])
    assert not person.failures


def test_a_dock_that_closes_puts_the_tool_down(
    person: Person, viewer: napari.Viewer
) -> None:
    draw_cells(person)
    layer = find(person)
    callbacks = list(viewer.mouse_drag_callbacks)
    person.press("split_object_button")
    assert not layer.mouse_pan
    hands.drag(viewer, [(52, 66), (88, 66)], layer=layer)
    person.leave()
    hands.settle()
    assert list(viewer.mouse_drag_callbacks) == callbacks
    assert layer.mouse_pan
    hands.press_key(viewer, Qt.Key.Key_Escape)
