"""The whole loop, as a person goes through it with mouse and keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QLabel, QListWidget, QWidget
from tifffile import imread

from napari_seg._qt.forms import OptionsForm
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.workspace.words import quantity
from tests._qt import hands
from tests._qt.person import Person, balanced_model

SIDE = 112


@pytest.fixture(scope="module")
def field() -> NDArray[np.uint16]:
    return synthetic_nuclei((SIDE, SIDE), n=8, seed=3).image


@pytest.fixture
def image(viewer: napari.Viewer, field: NDArray[np.uint16]) -> Image:
    return viewer.add_image(
        field,
        name="plate",
        scale=(0.5, 0.5),
        translate=(3, -7),
        rotate=20,
        affine=[[1, 0.1, 2], [0, 1, 1], [0, 0, 1]],
        units=("um", "um"),
    )


@pytest.fixture
def person(
    viewer: napari.Viewer, image: Image, field: NDArray[np.uint16], tmp_path: Path
) -> Iterator[Person]:
    person = Person(viewer, balanced_model(tmp_path / "tiny", field))
    yield person
    person.leave()


@pytest.mark.smoke
def test_predict_correct_and_see_the_score(person: Person, image: Image) -> None:
    viewer = person.viewer
    assert person.combo("image_combo").currentText() == "plate"
    assert person.combo("model_combo").currentText() == "tiny"
    mask = person.predict("predict_view_button")
    assert mask.name == "plate mask"
    assert viewer.layers.selection.active is mask
    assert mask.mode == "paint"
    for part in ("scale", "translate", "rotate"):
        np.testing.assert_allclose(getattr(mask, part), getattr(image, part))
    np.testing.assert_allclose(mask.affine.affine_matrix, image.affine.affine_matrix)
    assert mask.units == image.units
    assert set(np.unique(mask.data)) == {0, 1}
    assert set(person.shown_scores()) == {"background", "nucleus", "mean"}
    assert person.shown_scores()["mean"] == ("1.000", "1.000")
    person.check_scores()

    mask.brush_size, seen = 12, []
    path = [(20, 20), (40, 40), (40, 70), (70, 90), (90, 90)]

    def between() -> None:
        hands.settle(0.05)
        seen.append(person.shown_scores()["mean"])

    hands.drag(viewer, path, between=between)
    assert len(set(seen)) > 2, f"the score stood still during the stroke: {seen}"
    states = [person.session.mask.reference.copy()]
    _note(person, states)
    mask.mode = "erase"
    hands.drag(viewer, [(20, 90), (90, 20)])
    _note(person, states)
    mask.mode = "fill"
    hands.click(viewer, (55, 55))
    _note(person, states)
    mask.mode, mask.selected_label = "polygon", 0
    hands.draw_polygon(viewer, [(60, 20), (60, 50), (90, 50), (95, 15)])
    _note(person, states)
    for before in states[-2::-1]:
        hands.press_key(viewer, "z", hands.CTRL)
        person.check_scores()
        np.testing.assert_array_equal(mask.data, before)
    assert person.shown_scores()["mean"] == ("1.000", "1.000")
    for after in states[1:3]:
        hands.press_key(viewer, "z", hands.CTRL | hands.SHIFT)
        person.check_scores()
        np.testing.assert_array_equal(mask.data, after)
    corrected = f"corrected {quantity(person.session.mask.corrected_pixels)} px"
    person.wait(lambda: corrected in person.text("review_label"), what=corrected)


def _note(person: Person, states: list[NDArray[np.uint8]]) -> None:
    """Check the scores after something was changed, and remember the mask."""
    assert not np.array_equal(person.mask.data, states[-1]), "nothing was changed"
    person.check_scores()
    states.append(person.mask.data.copy())


def test_both_scopes(person: Person) -> None:
    person.predict()
    viewer, scope = person.viewer, person.combo("score_scope_combo")
    hands.drag(viewer, [(20, 20), (60, 60)])
    hands.choose(scope, "reviewed area")
    assert person.shown_scores()["mean"] == ("–", "–")
    person.camera.zoom *= 4
    hands.settle(0.2)
    person.press("accept_view_button")
    accepted = person.session.mask.accepted_pixels
    assert 0 < accepted < SIDE * SIDE
    person.check_scores()
    reviewed = person.shown_scores()
    hands.choose(scope, "whole image")
    person.check_scores()
    assert person.shown_scores() != reviewed
    person.press("unaccept_view_button")
    assert person.session.mask.accepted_pixels == 0
    person.check_scores()


def _small_training(person: Person) -> None:
    """Choose small crops and batches in the expert form, as on a small machine."""
    form = person.find(QWidget, "expert_finetune").findChild(OptionsForm)
    form.setValue(replace(form.value(), crop=64, batch=2))
    assert "--crop" in person.workspace.finetune_arguments


def test_finetune_keep_and_go_back(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = person.predict()
    viewer, session = person.viewer, person.session
    versions = person.find(QListWidget, "version_list")
    mask.brush_size = 16
    hands.drag(viewer, [(20, 20), (50, 40), (90, 90)])
    person.press("accept_view_button")
    hands.drag(viewer, [(90, 20), (80, 40)])
    vouched = session.mask.truth()
    first = session.mask.reference.copy()
    _small_training(person)
    person.finetune()
    assert not person.failures
    assert person.find(QWidget, "loss_plot").isVisible()
    assert len(person.find(QWidget, "loss_plot").curves()["loss"][0])
    assert person.find(QWidget, "verdict_card").isVisible()
    assert "steps in" in person.find(QLabel, "verdict_label").text()
    assert versions.count() == 1
    np.testing.assert_array_equal(session.mask.reference, first)

    person.press("keep_button")
    person.wait(person.idle)
    assert not person.find(QWidget, "verdict_card").isVisible()
    assert person.combo("model_combo").currentText() == "v001, fine-tuned"
    assert versions.item(0).text().startswith("● v001")
    assert not np.array_equal(session.mask.reference, first)
    kept = vouched != 255
    assert kept.any()
    np.testing.assert_array_equal(mask.data[kept], vouched[kept])
    person.check_scores()

    saved = tmp_path / "mask.tif"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    _export(person, "mask")
    np.testing.assert_array_equal(imread(saved), mask.data)
    saved = tmp_path / "scores.csv"
    _export(person, "scores")
    rows = [line.split(",") for line in saved.read_text().splitlines()]
    assert rows[0][2:5] == ["class", "iou", "dice"]
    shown = person.shown_scores()
    for _, _, name, iou, dice, *_ in rows[1:]:
        assert (f"{float(iou):.3f}", f"{float(dice):.3f}") == shown[name]


def _export(person: Person, kind: str) -> None:
    actions = person.button("export_button").menu().actions()
    next(a for a in actions if a.objectName() == f"export_{kind}").trigger()
    hands.settle()


def test_discard_and_restore(person: Person) -> None:
    mask = person.predict()
    hands.drag(person.viewer, [(20, 20), (50, 40), (90, 90)])
    person.press("accept_view_button")
    first = person.session.mask.reference.copy()
    vouched = mask.data.copy()
    _small_training(person)
    person.finetune()
    person.press("discard_button")
    assert person.combo("model_combo").currentText() == "tiny"
    assert not person.find(QWidget, "verdict_card").isVisible()
    np.testing.assert_array_equal(person.session.mask.reference, first)

    section = person.find(QWidget, "versions_section")
    section.expand(animate=False)
    scroll = person.dock.findChild(QWidget, "qt_scrollarea_viewport").parent()
    assert not person.button("restore_button").isEnabled()
    person.find(QListWidget, "version_list").setCurrentRow(0)
    scroll.ensureWidgetVisible(person.button("restore_button"))
    person.press("restore_button")
    person.wait(person.idle)
    assert person.combo("model_combo").currentText() == "v001, fine-tuned"
    assert not np.array_equal(person.session.mask.reference, first)
    np.testing.assert_array_equal(mask.data, vouched)
    assert not person.button("restore_button").isEnabled()
    assert "in use" in person.button("restore_button").toolTip()
