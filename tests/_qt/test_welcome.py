"""The first steps, where there is no image yet."""

from __future__ import annotations

import napari
import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QDialog, QFileDialog, QLabel, QWidget

from napari_seg.inference.predict import PredictOptions
from tests._qt import hands
from tests._qt.person import Person


def test_three_steps_until_there_is_an_image(
    viewer: napari.Viewer, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(viewer)
    panel = person.find(QWidget, "welcome_panel")
    assert panel.isVisible()
    path = f"{tmp_path}/mine.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (path, ""))
    hands.press_button(person.button("open_image_button"))
    assert [layer.name for layer in viewer.layers] == ["mine"]
    assert not panel.isVisible()
    assert person.combo("image_combo").currentText() == "mine"
    viewer.layers.clear()
    assert panel.isVisible()
    hands.press_button(person.button("sample_button"))
    person.wait(lambda: len(viewer.layers) > 0)
    assert not panel.isVisible()
    person.leave()


def test_a_file_that_is_no_image(
    viewer: napari.Viewer, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(viewer)
    said: list[Exception] = []
    monkeypatch.setattr("napari_seg._qt.presenters.welcome.show_failure", said.append)
    path = f"{tmp_path}/no.image"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (path, ""))
    hands.press_button(person.button("open_image_button"))
    assert path in str(said[0])
    person.leave()


def test_the_computer_is_checked(viewer: napari.Viewer) -> None:
    person = Person(viewer)
    person.find(QLabel, "check_link").linkActivated.emit("doctor")
    person.wait(lambda: person.find(QDialog, "doctor_dialog") is not None, 60)
    report = person.find(QLabel, "doctor_label").text()
    assert "torch" in report
    assert "napari" in report
    person.find(QDialog, "doctor_dialog").close()
    person.leave()


def test_napari_lists_what_is_under_way(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_seg._qt import activity_dock

    shown: list[tuple[str, int]] = []

    class Told:
        n = 0

        def __init__(self, total: int, desc: str) -> None:
            self.desc = desc

        def update(self, steps: int) -> None:
            self.n += steps
            shown.append((self.desc, self.n))

        def close(self) -> None:
            shown.append((self.desc, -1))

    monkeypatch.setattr(activity_dock, "progress", Told)
    person.workspace.predict_options = PredictOptions(tile=32)
    person.predict()
    steps = [step for title, step in shown if title == "Predicting"]
    assert len(steps) > 2
    assert steps[-1] == -1
    assert steps[:-1] == sorted(steps[:-1])
