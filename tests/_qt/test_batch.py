"""The images of a folder, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import napari
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFileDialog, QTableWidget

from napari_seg.inference.predict import PredictOptions
from napari_seg.synthetic import synthetic_nuclei
from tests._qt import hands
from tests._qt.person import SIDE, Person, balanced_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plates"
    folder.mkdir()
    for number in range(3):
        sample = synthetic_nuclei((SIDE, SIDE), n=6, seed=number)
        tifffile.imwrite(folder / f"{number}.tif", sample.image)
    return folder


@pytest.fixture
def person(
    viewer: napari.Viewer,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    image = tifffile.imread(folder / "0.tif")
    person = Person(viewer, balanced_model(tmp_path / "tiny", image))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    section = person.dock.batch._panel.section
    section.expand(animate=False)
    person.dock._scroll.ensureWidgetVisible(section)
    hands.press_button(person.button("batch_open_button"))
    wait_for(person, 0)
    yield person
    person.leave()


def rows(person: Person) -> list[list[str]]:
    table = person.find(QTableWidget, "batch_table")
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


def images(person: Person) -> list[str]:
    return [layer.name for layer in person.viewer.layers if isinstance(layer, Image)]


def masks(person: Person) -> list[str]:
    return [layer.name for layer in person.viewer.layers if isinstance(layer, Labels)]


def accept(person: Person) -> None:
    hands.press_button(person.button("accept_view_button"))
    person.wait(lambda: "reviewed 100%" in person.text("review_label"))


def turn(person: Person, place: int, button: str) -> None:
    hands.press_button(person.button(button))
    wait_for(person, place)


def wait_for(person: Person, place: int) -> None:
    person.wait(lambda: rows(person)[place][0].startswith("●"), what="the image")


def test_through_a_folder(person: Person, folder: Path) -> None:
    assert [row[:2] for row in rows(person)] == [
        ["●\N{NO-BREAK SPACE}0.tif", "new"],
        ["1.tif", "new"],
        ["2.tif", "new"],
    ]
    assert images(person) == ["0"]
    assert not person.button("batch_previous_button").isEnabled()
    first = person.predict().data.copy()
    accept(person)
    person.wait(lambda: rows(person)[0][1] == "corrected")
    assert rows(person)[0][2:] == ["100%", "1.00", "1.00"]

    hands.press_key(
        person.viewer, Qt.Key.Key_PageDown, Qt.KeyboardModifier.ShiftModifier
    )
    wait_for(person, 1)
    # One image and one mask at a time.
    assert images(person) == ["1"]
    assert not masks(person)
    assert person.predict().name == "1 mask"
    hands.press_button(person.find(QCheckBox, "batch_done_check"))
    assert rows(person)[1][1] == "done"

    # Back: the mask and what was accepted are there without being asked for.
    turn(person, 0, "batch_previous_button")
    person.wait(lambda: masks(person) == ["0 mask"])
    np.testing.assert_array_equal(person.mask.data, first)
    person.wait(lambda: "reviewed 100%" in person.text("review_label"))

    # What was accepted has become training windows of the common project.
    project = person.session.project.folder
    windows = sorted((project / "windows" / "images").glob("*.tif"))
    assert windows
    assert {path.name[0] for path in windows} == {"0"}
    assert len(json.loads((project / "project.json").read_text())["images"]) == 2
    assert not person.failures


def test_all_images_are_predicted_unseen(person: Person, folder: Path) -> None:
    person.predict()
    hands.press_button(person.button("batch_predict_button"))
    person.wait(lambda: all(row[1] == "predicted" for row in rows(person)))
    person.wait(lambda: not person.workspace.batch.busy)
    assert images(person) == ["0"]
    turn(person, 1, "batch_next_button")
    person.wait(lambda: masks(person) == ["1 mask"])
    assert person.mask.data.any()
    unseen = person.mask.data.copy()
    np.testing.assert_array_equal(person.predict().data, unseen)
    assert not person.failures


def test_all_of_it_is_there_on_another_day(
    person: Person, folder: Path, viewer: napari.Viewer
) -> None:
    person.predict()
    accept(person)
    hands.press_button(person.find(QCheckBox, "batch_done_check"))
    person.dock.batch.open(folder)
    wait_for(person, 0)
    assert rows(person)[0][:3] == ["●\N{NO-BREAK SPACE}0.tif", "done", "100%"]
    person.wait(lambda: masks(person) == ["0 mask"])
    person.wait(lambda: "reviewed 100%" in person.text("review_label"))
    assert not person.failures


def test_a_file_that_is_no_image(person: Person, folder: Path) -> None:
    (folder / "0b.tif").write_bytes(b"no image")
    person.dock.batch.open(folder)
    wait_for(person, 0)
    person.predict()
    hands.press_button(person.button("batch_predict_button"))
    person.wait(lambda: not person.workspace.batch.busy)
    (failure,) = person.failures
    person.failures.clear()
    assert "0b.tif cannot be read: not a TIFF file" in str(failure)
    # The others are done all the same.
    assert [row[1] for row in rows(person)] == [
        "predicted",
        "new",
        "predicted",
        "predicted",
    ]


def test_cancel(person: Person) -> None:
    hands.press_button(person.button("batch_predict_button"))
    hands.press_button(person.button("batch_cancel_button"))
    assert not person.workspace.batch.busy
    person.wait(lambda: person.dock._runner.running == 0)
    assert rows(person)[2][1] == "new"
    assert person.button("batch_predict_button").isEnabled()


def test_turning_to_the_image_that_is_being_predicted(person: Person) -> None:
    person.predict()
    batch, turned = person.workspace.batch, []

    def turn_to_it(told: object) -> None:
        if batch.predicting == 1 and batch._unseen is not None and not turned:
            turned.append(True)
            person.dock.batch.turn_to(1)

    batch.progress.connect(turn_to_it)
    person.workspace.predict_options = PredictOptions(tile=32)
    hands.press_button(person.button("batch_predict_button"))
    wait_for(person, 1)
    assert turned
    # It is the user's now: nobody else writes to its mask, and the next is done.
    person.wait(lambda: not batch.busy)
    assert rows(person)[2][1] == "predicted"
    mask = person.predict()
    hands.drag(person.viewer, [(10, 10), (30, 30)])
    painted = mask.data.copy()
    turn(person, 2, "batch_next_button")
    turn(person, 1, "batch_previous_button")
    person.wait(lambda: masks(person) == ["1 mask"])
    np.testing.assert_array_equal(person.mask.data, painted)
    assert not person.failures


def test_strokes_write_no_list_and_leave_the_table_where_it_is(
    person: Person,
) -> None:
    person.predict()
    listed = person.session.project.folder / "batch.json"
    before = listed.stat().st_mtime_ns if listed.exists() else None
    changed: list[object] = []
    person.workspace.batch.changed.connect(lambda: changed.append(None))
    accept(person)
    assert rows(person)[0][1] == "corrected"
    assert (listed.stat().st_mtime_ns if listed.exists() else None) == before
    assert not changed
    turn(person, 1, "batch_next_button")
    assert json.loads(listed.read_text())["images"][0]["corrected"]


def test_the_table_as_a_file(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.predict()
    accept(person)
    target = tmp_path / "scores.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    hands.press_button(person.button("batch_export_button"))
    lines = target.read_text().splitlines()
    assert lines[0] == "image,state,reviewed,mean_iou,mean_dice"
    assert lines[1] == "0.tif,corrected,1.0000,1.0000,1.0000"
    assert lines[2] == "1.tif,new,0.0000,,"


def test_an_image_fills_the_view_whatever_else_there_is(
    person: Person, folder: Path
) -> None:
    hands.settle(0.2)
    alone = person.camera.zoom
    person.viewer.add_image(np.zeros((4 * SIDE, 4 * SIDE), np.uint8), name="large")
    person.dock.batch.open(folder)
    wait_for(person, 0)
    person.wait(lambda: images(person)[-1] == "0")
    hands.settle(0.2)
    assert not person.viewer.layers["large"].visible
    assert person.camera.zoom == pytest.approx(alone, rel=0.05)
    assert person.camera.center[-2:] == pytest.approx(((SIDE - 1) / 2,) * 2, abs=1)


def test_an_empty_folder(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    person.dock.batch.open(empty)
    (failure,) = person.failures
    person.failures.clear()
    assert "There is no image in" in str(failure)
    # The folder from before is still there.
    assert len(rows(person)) == 3


def test_fine_tuning_learns_from_all_of_them(person: Person) -> None:
    for place in (1, 2):
        person.predict()
        accept(person)
        turn(person, place, "batch_next_button")
    person.predict()
    accept(person)
    person.wait(lambda: person.dock._runner.running == 0)
    person.finetune()
    person.wait_for_training()
    project = person.session.project
    names = {p.name[0] for p in (project.windows_folder / "images").glob("*.tif")}
    assert names == {"0", "1", "2"}
    (version,) = project.versions
    assert version.card is not None
