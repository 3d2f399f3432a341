"""Whatever is wrong, there is one clear message, and nothing is lost."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_seg.corrections import durable, segments
from napari_seg.errors import ModelFileError, NothingToLearnError, StorageError
from napari_seg.workspace import ImageSource
from tests._qt import hands
from tests._qt.person import Person, balanced_model


@pytest.fixture
def empty(viewer: napari.Viewer, model_file: Path) -> Iterator[Person]:
    person = Person(viewer, model_file)
    yield person
    person.leave()


@pytest.fixture(autouse=True)
def notifications() -> Iterator[list[Any]]:
    """Return what napari shows, beginning with nothing."""
    notification_manager.records.clear()
    yield notification_manager.records
    notification_manager.records.clear()


def _one_message(person: Person, kind: type[Exception], *words: str) -> None:
    """Check that there was one error of this kind, and that it was shown once."""
    person.wait(lambda: person.failures)
    hands.settle(0.1)
    assert [type(error) for error in person.failures] == [kind]
    text = str(person.failures[0])
    for word in words:
        assert word in text
    shown = [record.message for record in notification_manager.records]
    assert shown.count(text) == 1
    person.failures.clear()
    notification_manager.records.clear()


def _refused(person: Person, *words: str) -> None:
    """Check that prediction is off, with the reason on the buttons and in the dock."""
    for name in ("predict_view_button", "predict_all_button"):
        button = person.button(name)
        assert not button.isEnabled()
        for word in words:
            assert word in button.toolTip(), button.toolTip()
    assert not person.failures


# Images and models ------------------------------------------------------------


def test_no_image(empty: Person) -> None:
    _refused(empty, "Open an image", "Open Sample")
    assert "Open an image" in empty.text("welcome_label")
    for name in ("accept_view_button", "finetune_button", "export_button"):
        assert not empty.button(name).isEnabled()
        assert empty.button(name).toolTip()


def test_a_labels_layer_is_not_offered(empty: Person) -> None:
    empty.viewer.add_labels(np.ones((64, 64), np.uint8))
    assert empty.combo("image_combo").count() == 1
    assert empty.combo("image_combo").currentData() is None
    _refused(empty, "Open an image")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((0, 64), np.uint8), "empty"),
        (np.zeros((40, 40), complex), "complex"),
        (np.zeros(64), "axes"),
    ],
)
def test_what_is_no_image(empty: Person, data: NDArray[Any], words: str) -> None:
    # napari cannot make a layer of these; whoever adds them otherwise is told.
    empty.workspace.set_image(ImageSource("odd", data))
    _refused(empty, words)


def test_an_image_that_is_too_small(empty: Person) -> None:
    empty.viewer.add_image(np.zeros((16, 400), np.uint8), name="strip")
    _refused(empty, "32")
    assert "32" in empty.text("axes_label")
    empty.viewer.layers.clear()
    hands.settle()


def test_a_model_for_three_channels_on_one(
    person: Person, field: NDArray[np.uint16], tmp_path: Path
) -> None:
    before = person.predict().data.copy()
    person.workspace.open_model(balanced_model(tmp_path / "c3", field, in_channels=3))
    hands.settle()
    _refused(person, "channel")
    assert "channel" in person.text("axes_label")
    np.testing.assert_array_equal(person.mask.data, before)
    hands.choose(person.combo("model_combo"), "tiny")
    assert person.button("predict_all_button").isEnabled()


def test_a_pickled_model(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    hands.press_button(person.find(QWidget, "model_file_button"))
    _one_message(person, ModelFileError, "pickle")
    assert person.combo("model_combo").currentText() == "tiny"
    assert person.button("predict_all_button").isEnabled()


# Fine-tuning ------------------------------------------------------------------


def test_nothing_to_learn_from(person: Person) -> None:
    button = person.button("finetune_button")
    assert "no mask yet" in button.toolTip()
    person.predict()
    assert not button.isEnabled()
    assert "nothing to learn from" in button.toolTip()
    assert "Accept view" in button.toolTip()
    hands.drag(person.viewer, [(40, 40), (60, 60)])
    hands.settle(0.2)
    assert button.isEnabled()
    hands.press_key(person.viewer, "z", hands.CTRL)
    hands.settle(0.2)
    assert not button.isEnabled(), "what was undone is no correction"


def test_too_little_to_learn_from(person: Person) -> None:
    mask = person.predict()
    mask.brush_size = 1
    y, x = np.argwhere(mask.data == 0)[500]
    mask.selected_label = 1
    hands.click(person.viewer, (y, x))
    hands.settle(0.2)
    assert 0 < person.session.mask.corrected_pixels < 64
    person.finetune()
    _one_message(person, NothingToLearnError, "Too few pixels", "64")
    assert person.button("finetune_button").isEnabled()
    assert person.session.mask.corrected_pixels > 0


# A full disk ------------------------------------------------------------------


class Disk:
    """A disk that is full until it is freed."""

    full = False

    def check(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    def guarded(function: Any) -> Any:
        def write(*arguments: Any, **settings: Any) -> Any:
            disk.check()
            return function(*arguments, **settings)

        return write

    for module, name in (
        (segments, "write_all"),
        (durable, "write_atomically"),
        (tifffile, "imwrite"),
        (tifffile.TiffWriter, "write"),
    ):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))
    return disk


def test_the_journal_on_a_full_disk(person: Person, disk: Disk) -> None:
    mask = person.predict()
    assert person.session.flush(20)
    disk.full = True
    hands.drag(person.viewer, [(30, 30), (60, 60)])
    _one_message(person, StorageError, "No space left", "kept in memory")
    painted = mask.data.copy()
    hands.drag(person.viewer, [(60, 30), (30, 60)])
    assert not person.failures, "it is said once"
    assert person.session.pending > 0
    assert "saving" in person.text("review_label")
    assert not np.array_equal(mask.data, painted), "one can go on painting"
    person.check_scores()
    disk.full = False
    person.wait(lambda: person.session.pending == 0, 20)
    person.wait(lambda: "saved" in person.text("review_label"))
    painted = mask.data.copy()
    person.viewer.layers.remove(mask)
    again = person.predict()
    np.testing.assert_array_equal(again.data, painted)


def test_windows_on_a_full_disk(person: Person, disk: Disk) -> None:
    person.predict()
    person.press("accept_view_button")
    assert person.session.flush(20)
    disk.full = True
    person.finetune()
    _one_message(person, StorageError, "No space left")
    disk.full = False
    assert person.session.mask.reviewed_fraction == 1
    assert person.button("finetune_button").isEnabled()


@pytest.mark.parametrize("kind", ["mask", "windows"])
def test_exports_on_a_full_disk(
    person: Person,
    disk: Disk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    mask = person.predict()
    person.press("accept_view_button")
    assert person.session.flush(20)
    before = mask.data.copy()
    target = str(tmp_path / "taken")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (target, ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: target)
    actions = person.button("export_button").menu().actions()
    action = next(a for a in actions if a.objectName() == f"export_{kind}")
    disk.full = True
    action.trigger()
    _one_message(person, StorageError, "No space left")
    np.testing.assert_array_equal(mask.data, before)
    disk.full = False
    action.trigger()
    assert not person.failures
    assert person.told[-1].startswith("Saved")


def test_a_folder_that_nobody_may_write_to(
    person: Person, user_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_home.parent.mkdir(exist_ok=True)
    user_home.write_text("a file where the folder should be")
    person.press("predict_all_button")
    _one_message(person, StorageError, str(user_home))
    assert person.idle()
    assert person.dock.mask_view.layer is None
    user_home.unlink()
    person.predict()
    assert not person.failures
