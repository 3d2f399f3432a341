"""*Compare*: the view as another version would have it, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QListWidget, QWidget

import napari_seg
from napari_seg._qt.forms import OptionsForm
from napari_seg.workspace.lesson import add_version
from tests._qt import hands
from tests._qt.person import Person, balanced_model

SCORES = {"mean_dice": 0.5}
RESULT = {"before": SCORES, "after": SCORES, "seconds": 1.0}


@pytest.fixture
def person(turned: Person) -> Person:
    turned.viewer.dims.set_point(0, 3)
    turned.viewer.reset_view()
    return turned


@pytest.fixture
def versions(person: Person, field: NDArray[np.uint16], tmp_path: Path) -> QListWidget:
    """Return the list with two versions of a mask that is partly accepted."""
    person.predict()
    for seed in (3, 4):
        model = balanced_model(tmp_path / f"other{seed}", field, seed=seed)
        add_version(person.session, {**RESULT, "model": str(model)}, "tiny")
    person.workspace.changed.emit()
    section = person.find(QWidget, "versions_section")
    section.expand(animate=False)
    scroll = person.dock.findChild(QWidget, "qt_scrollarea_viewport").parent()
    hands.settle()
    scroll.ensureWidgetVisible(person.button("compare_version_button"))
    return person.find(QListWidget, "version_list")


def layer(person: Person, name: str) -> Labels:
    return person.viewer.layers[name]


def test_the_view_as_a_version_has_it(person: Person, versions: QListWidget) -> None:
    viewer, mask = person.viewer, person.mask
    assert viewer.dims.current_step[0] == 1
    before = mask.data.copy()
    button = person.button("compare_version_button")
    assert not button.isEnabled()
    assert "Choose a version" in button.toolTip()
    hands.click_row(versions, 1)
    person.camera.zoom *= 4
    hands.settle(0.2)
    view = person.dock.link.view(mask, person.session.reading)
    assert view.rows.start > 0
    assert view.columns.start > 0
    person.press("compare_version_button")
    person.wait(lambda: person.workspace.comparison.shown)
    assert person.failures == []
    assert button.isChecked()
    assert "v001 differs from the mask in" in person.text("compare_version_label")

    shown, differs = layer(person, "plate v001"), layer(person, "plate v001 differs")
    assert (mask.visible, shown.visible, differs.visible) == (False, True, True)
    assert viewer.layers.selection.active is not mask
    first = napari_seg.load_model(person.session.versions()[0].path)
    image = viewer.layers["plate"].data
    expected = napari_seg.predict(first, image).labels[1]
    np.testing.assert_array_equal(shown.data[0], expected[view.box])
    np.testing.assert_array_equal(
        differs.data[0] > 0, (expected != before[1])[view.box]
    )
    # It lies where it belongs, in the same colours.
    here = (1, view.rows.start + 5, view.columns.start + 7)
    np.testing.assert_allclose(
        shown.data_to_world((0, 5, 7)), mask.data_to_world(here), atol=1e-9
    )
    np.testing.assert_array_equal(shown.get_color(1), mask.get_color(1))
    hands.drag(viewer, [(1, 40, 40), (1, 60, 60)], layer=mask)
    np.testing.assert_array_equal(mask.data, before)

    person.press("compare_version_button")
    assert mask.visible
    assert viewer.layers.selection.active is mask
    assert {each.name for each in viewer.layers} == {"plate", "plate mask"}
    assert person.text("compare_version_label") == ""
    # The drag has moved the view; after that nothing changes, and it is there at once.
    person.press("compare_version_button")
    person.wait(lambda: person.workspace.comparison.shown)
    person.press("compare_version_button")
    person.press("compare_version_button")
    assert layer(person, "plate v001").visible
    viewer.layers.remove("plate v001")
    assert mask.visible
    assert not button.isChecked()
    assert {each.name for each in viewer.layers} == {"plate", "plate mask"}


def test_two_marked_versions(person: Person, versions: QListWidget) -> None:
    hands.click_row(versions, 0)
    hands.click_row(versions, 1, hands.CTRL)
    assert "single version" in person.button("restore_button").toolTip()
    person.press("compare_version_button")
    person.wait(lambda: person.workspace.comparison.shown)
    assert "v002 differs from v001 in" in person.text("compare_version_label")
    assert layer(person, "plate v002").visible
    person.press("predict_view_button")
    person.wait(person.idle)
    assert person.mask.visible
    assert "plate v002" not in person.viewer.layers


def test_on_the_card(person: Person) -> None:
    mask = person.predict()
    person.press("accept_view_button")
    form = person.find(QWidget, "expert_finetune").findChild(OptionsForm)
    form.setValue(replace(form.value(), crop=64, batch=2))
    person.finetune()
    person.press("compare_button")
    person.wait(lambda: person.workspace.comparison.shown)
    # Everything in view is accepted, and stays as it is.
    assert person.text("compare_label") == "v001 and the mask are alike in this view."
    assert not mask.visible
    person.press("discard_button")
    assert mask.visible
    assert not person.button("compare_button").isChecked()
