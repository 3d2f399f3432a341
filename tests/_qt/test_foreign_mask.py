"""A mask of another program, dropped into the viewer and taken in by hand."""

from __future__ import annotations

from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QComboBox, QWidget
from skimage.draw import disk
from tifffile import imread, imwrite

from napari_seg._qt.layer_menu import treat_as_prediction, treat_as_truth
from napari_seg.workspace import intaking
from napari_seg.workspace.exports import export
from tests._qt import hands
from tests._qt.person import SIDE, Person


def cells() -> NDArray[np.uint16]:
    ids = np.zeros((SIDE, SIDE), np.uint16)
    for number, place in enumerate(((30, 20), (30, 41), (70, 70)), start=1):
        ids[disk(place, 11)] = number
    return ids


def drop(person: Person, path: Path, data: NDArray[np.generic]) -> None:
    """Open a file as napari does when it is dropped, and wait for the row."""
    imwrite(path, data)
    person.viewer.open(path, plugin="napari")
    person.wait(row(person).isVisible, what="the row")


def row(person: Person) -> QWidget:
    found: QWidget = person.find(QWidget, "foreign_mask_row")
    return found


def meaning(person: Person) -> QComboBox:
    return person.combo("foreign_mask_combo")


def take(person: Person, name: str) -> None:
    person.press(name)
    intake = person.workspace.intake
    person.wait(lambda: not intake.busy and not row(person).isVisible())
    hands.settle(0.1)


def undo(person: Person, redo: bool = False) -> None:
    (person.mask.redo if redo else person.mask.undo)()
    hands.settle(0.1)


def test_a_dropped_mask_becomes_the_truth_and_back(
    person: Person, tmp_path: Path
) -> None:
    person.predict()
    ledger = person.session.mask
    before = ledger.labels.copy(), ledger.state()
    drop(person, tmp_path / "cells.tif", cells())
    assert person.text("foreign_mask_row_label") == "cells looks like a mask."
    assert meaning(person).currentText() == "3 objects: nucleus"
    assert person.combo("image_combo").currentText() == "plate"
    take(person, "treat_as_truth_button")
    truth = (cells() > 0).astype(np.uint8)
    np.testing.assert_array_equal(person.mask.data, truth)
    np.testing.assert_array_equal(ledger.truth(), truth)
    assert person.viewer.layers.selection.active is person.mask
    assert not person.viewer.layers["cells"].visible
    person.check_scores()
    # What training reads, too.
    assert export(person.workspace, "windows", tmp_path)
    pair = next((tmp_path / "windows" / "labels").glob("*.tif"))
    np.testing.assert_array_equal(imread(pair)[:SIDE, :SIDE], truth)
    objects = person.viewer.layers["plate objects"]
    np.testing.assert_array_equal(objects.data, cells())

    undo(person)
    np.testing.assert_array_equal(person.mask.data, before[0])
    np.testing.assert_array_equal(ledger.state(), before[1])
    assert "plate objects" not in person.viewer.layers
    person.check_scores()
    assert person.button("finetune_button").isEnabled() is bool(before[1].any())
    assert row(person).isVisible(), "one may want to read it in another way"
    undo(person, redo=True)
    np.testing.assert_array_equal(ledger.truth(), truth)
    np.testing.assert_array_equal(person.viewer.layers["plate objects"].data, cells())
    assert not row(person).isVisible()
    assert not person.failures


def test_undo_takes_strokes_back_first(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with a large mask: beside the main thread, in pieces.
    monkeypatch.setattr(intaking, "_AT_ONCE", 0)
    monkeypatch.setattr(intaking, "_PIECE", 2000)
    viewer, mask = person.viewer, person.predict()
    hands.drag(viewer, [(10, 10), (10, 40)])
    first = mask.data.copy()
    drop(person, tmp_path / "cells.tif", (cells() > 0).astype(np.uint8))
    take(person, "treat_as_truth_button")
    truth = mask.data.copy()
    np.testing.assert_array_equal(truth, cells() > 0)
    hands.drag(viewer, [(80, 10), (80, 40)])
    assert not np.array_equal(mask.data, truth)
    for expected in (truth, first):
        hands.press_key(viewer, "z", hands.CTRL)
        person.wait(lambda wanted=expected: np.array_equal(mask.data, wanted))
    person.wait(row(person).isVisible)
    hands.press_key(viewer, "z", hands.CTRL)
    person.wait(lambda: person.session.mask.vouched_pixels == 0)
    person.check_scores()


def test_a_mask_becomes_the_prediction_and_scores_start_at_one(
    person: Person, tmp_path: Path
) -> None:
    drop(person, tmp_path / "cells.tif", (cells() > 0).astype(np.uint8))
    assert meaning(person).currentText() == "classes, by their number"
    take(person, "treat_as_prediction_button")
    np.testing.assert_array_equal(person.mask.data, cells() > 0)
    assert person.shown_scores()["mean"] == ("1.000", "1.000")
    assert person.session.mask.vouched_pixels == 0
    hands.drag(person.viewer, [(80, 10), (80, 40)])
    person.wait(lambda: person.shown_scores()["mean"][0] < "1.000")
    person.check_scores()
    assert not person.failures


def test_the_row_says_why_a_mask_does_not_fit(person: Person) -> None:
    person.viewer.add_labels(np.ones((5, 7), np.uint8), name="small")
    person.wait(row(person).isVisible)
    text = person.text("foreign_mask_row_label")
    assert "(5, 7)" in text
    assert f"({SIDE}, {SIDE})" in text
    assert not person.button("treat_as_truth_button").isEnabled()
    assert person.button("treat_as_truth_button").toolTip() == text
    person.press("foreign_mask_ignore_button")
    assert not row(person).isVisible()
    person.viewer.add_labels(cells().astype(int)[np.newaxis], name="fits")
    person.wait(row(person).isVisible)
    assert "fits looks" in person.text("foreign_mask_row_label")
    take(person, "treat_as_truth_button")
    np.testing.assert_array_equal(person.session.mask.truth(), cells() > 0)


def test_layers_that_are_no_masks_are_left_alone(
    person: Person, field: NDArray[np.uint16]
) -> None:
    viewer = person.viewer
    viewer.add_image(field[::-1], name="other channel")
    viewer.add_image(field.astype(float), name="float")
    viewer.add_labels(np.zeros((SIDE, SIDE), np.uint8), name="empty")
    person.predict()
    person.press("find_objects_button")
    hands.settle(0.5)
    assert not row(person).isVisible()
    # Another image leaves its mask behind.
    hands.choose(person.combo("image_combo"), "other channel")
    hands.settle(0.5)
    assert not row(person).isVisible()
    empty = viewer.layers["empty"]
    empty.data[10:30, 10:30] = 1
    viewer.layers.selection.active = empty
    person.wait(row(person).isVisible)
    viewer.layers.remove(empty)
    hands.settle()
    assert not row(person).isVisible()


def test_the_menu_of_layers_does_the_same(
    person: Person, field: NDArray[np.uint16]
) -> None:
    viewer = person.viewer
    cases = {
        "float": viewer.add_image(field.astype(float), name="float"),
        "RGB": viewer.add_image(np.zeros((SIDE, SIDE, 3), np.uint8), name="colours"),
        "image that is worked on": viewer.layers["plate"],
    }
    for words, layer in cases.items():
        viewer.layers.selection.active = layer
        treat_as_truth(viewer)
        assert words in str(person.failures.pop())
    viewer.layers.selection.active = None
    treat_as_truth(viewer)
    assert "Choose the layer" in str(person.failures.pop())
    labels = viewer.add_labels(cells().astype(int), name="cells")
    viewer.layers.selection.active = labels
    treat_as_prediction(viewer)
    mask = person.dock.mask_view
    person.wait(lambda: mask.layer is not None and not person.workspace.intake.busy)
    np.testing.assert_array_equal(person.session.mask.reference, cells() > 0)
    assert person.workspace.objects.count == 3
    assert not person.failures


def test_without_a_dock_the_menu_opens_one(
    viewer: napari.Viewer, field: NDArray[np.uint16]
) -> None:
    viewer.add_image(field, name="plate")
    viewer.layers.selection.active = viewer.add_labels(cells().astype(int))
    treat_as_truth(viewer)
    names = [name for name in viewer.window.dock_widgets if "Segmentation" in name]
    (dock,) = (viewer.window.dock_widgets[name] for name in names)
    hands.wait_until(lambda: "plate mask" in viewer.layers, 60)
    hands.wait_until(lambda: not dock.workspace.intake.busy, 60)
    mask = viewer.layers["plate mask"]
    assert isinstance(mask, Labels)
    np.testing.assert_array_equal(mask.data, cells() > 0)
    dock.shut_down()


@pytest.mark.parametrize("visible", [True, False])
def test_a_hidden_mask_is_undone_as_well(person: Person, visible: bool) -> None:
    person.predict()
    person.viewer.add_labels(cells().astype(int), name="cells")
    person.wait(row(person).isVisible)
    take(person, "treat_as_truth_button")
    person.mask.visible = visible
    undo(person)
    person.workspace.settling.emit()
    assert person.session.mask.vouched_pixels == 0
