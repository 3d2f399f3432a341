"""Models taken away through the menu, and packages opened with the button."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDialogButtonBox,
    QFileDialog,
    QLineEdit,
    QToolButton,
)

from napari_seg import load_model
from napari_seg._qt.signature import SignatureDialog
from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list: the file that dialogs answer with is its last entry."""
    answers: list[Path] = []
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(QFileDialog, name, lambda *_: (str(answers[-1]), ""))
    return answers


def choose_export(person: Person, key: str) -> None:
    """Choose an entry of the menu and its menus."""
    menu = person.button("export_button").menu()
    actions = [*menu.actions()]
    for each in menu.actions():
        actions += each.menu().actions() if each.menu() is not None else []
    next(a for a in actions if a.objectName() == f"export_{key}").trigger()


def saved(person: Person, path: Path) -> None:
    person.wait(lambda: f"Saved {path}" in person.told or person.failures)
    assert not person.failures


def test_onnx_from_the_menu_runs_elsewhere(
    person: Person, model_file: Path, asked: list[Path], tmp_path: Path
) -> None:
    person.predict()
    asked.append(tmp_path / "cells.onnx")
    choose_export(person, "model-onnx")
    saved(person, asked[-1])
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = load_model(model_file)(x).numpy()
    graph = onnxruntime.InferenceSession(asked[-1])
    np.testing.assert_allclose(
        graph.run(None, {"image": x.numpy()})[0], expected, atol=1e-4
    )


def answer(author: str) -> None:
    """Fill in the dialog that will open, and press the button that can be pressed."""

    def fill() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, SignatureDialog)
        ok = dialog.buttons.button(QDialogButtonBox.StandardButton.Ok)
        assert not ok.isEnabled(), "nobody has signed yet"
        dialog.findChild(QLineEdit, "package_author_edit").setText(author)
        dialog.findChild(QComboBox, "package_license_combo").setCurrentText("MIT")
        cancel = dialog.buttons.button(QDialogButtonBox.StandardButton.Cancel)
        hands.press_button(ok if ok.isEnabled() else cancel)

    QTimer.singleShot(100, fill)


def test_a_package_is_signed_and_can_be_opened(
    person: Person, asked: list[Path], tmp_path: Path
) -> None:
    person.predict()
    expected = person.session.mask.reference.copy()
    asked.append(tmp_path / "cells.zip")
    answer("  ")
    choose_export(person, "model-zoo")
    assert not asked[-1].exists()
    answer("Ada Lovelace")
    choose_export(person, "model-zoo")
    saved(person, asked[-1])
    with zipfile.ZipFile(asked[-1]) as archive:
        archive.extractall(tmp_path / "unpacked")
    described = next((tmp_path / "unpacked").glob("*.yaml"))
    assert "Ada Lovelace" in described.read_text()
    # In a folder one can choose a file alone.
    asked.append(described)
    hands.press_button(person.find(QToolButton, "model_file_button"))
    assert person.combo("model_combo").currentText() == "unpacked"
    person.predict()
    np.testing.assert_array_equal(person.session.mask.reference, expected)
    assert not person.button("finetune_button").isEnabled()
    described.write_text("type: model")
    chosen = person.workspace.choice
    hands.press_button(person.find(QToolButton, "model_file_button"))
    assert len(person.failures) == 1
    assert "unpacked" in str(person.failures.pop())
    assert person.workspace.choice == chosen


def test_what_is_missing_is_said_before_anything_is_asked(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.predict()
    monkeypatch.setattr("napari_seg.zoo.extra.find_spec", lambda name: None)
    choose_export(person, "model-zoo")
    assert "pip install 'napari-seg[zoo]'" in str(person.failures.pop())
