"""Published weights by hand: choose, watch, cancel, go on, and be told why not."""

from __future__ import annotations

from collections.abc import Iterator

import napari
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QCheckBox, QLabel, QProgressBar

from napari_seg.errors import DownloadError
from napari_seg.models import fetch
from napari_seg.models.base import SegmentationModel
from napari_seg.models.published import ENCODERS, MODELS
from tests._qt import hands
from tests._qt.person import Person
from tests.weight_server import WeightServer

SIDE = 96


@pytest.fixture
def person(viewer: napari.Viewer, voc_tiny: SegmentationModel) -> Iterator[Person]:
    photograph = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    viewer.add_image(photograph, name="photograph", rgb=True)
    person = Person(viewer)
    yield person
    person.leave()


def progress_of(person: Person) -> QProgressBar:
    return person.find(QProgressBar, "progress_bar")


def fetching(person: Person) -> bool:
    return progress_of(person).text().startswith("fetching")


def test_a_download_is_shown_cancelled_and_gone_on_with(
    person: Person, weight_server: WeightServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PACE", 0)
    part = MODELS["voc-tiny"].file.part
    weight_server.waits_after = 4 << 16
    hands.choose(person.combo("model_combo"), "voc-tiny")
    person.press("predict_all_button")
    person.wait(lambda: fetching(person) and progress_of(person).value() > 0)
    # The window goes on working meanwhile.
    hands.choose(person.combo("score_scope_combo"), 0)
    person.press("cancel_button")
    person.wait(person.idle)
    assert not fetching(person)
    weight_server.go_on.set()
    person.wait(lambda: person.dock._runner.running == 0)
    here = part.stat().st_size
    assert here > 0
    labels = np.asarray(person.predict().data)
    assert labels.shape == (SIDE, SIDE)
    assert weight_server.ranges == [None, f"bytes={here}-"]
    assert person.combo("model_combo").currentText() == "voc-tiny"
    assert person.text("model_note") == ""
    assert person.failures == []


def test_offline_says_where_to_put_the_file(
    person: Person, weight_server: WeightServer
) -> None:
    weight_server.stop()
    hands.choose(person.combo("model_combo"), "voc-tiny")
    note = "model_note"
    assert person.text(note) == "0 MB are fetched before the first prediction."
    person.press("predict_view_button")
    person.wait(lambda: person.failures)
    person.wait(person.idle)
    (failure,) = person.failures
    assert isinstance(failure, DownloadError)
    person.wait(lambda: notification_manager.records)
    shown = notification_manager.records[-1].message
    file = MODELS["voc-tiny"].file
    assert file.address in shown
    assert str(file.path) in shown
    assert person.button("predict_view_button").isEnabled()
    assert f'href="{file.address}"' in person.text(note)
    assert f'href="{file.path.parent.as_uri()}"' in person.text(note)
    assert file.path.parent.is_dir()
    hands.choose(person.combo("model_combo"), "nuclei")
    assert not person.find(QLabel, note).isVisible()


def test_a_new_model_starts_from_imagenet_on_request(
    person: Person, published_resnet18: WeightServer
) -> None:
    check = person.find(QCheckBox, "imagenet_check")
    assert not check.isVisible(), "the bundled model has learned already"
    hands.choose(person.combo("model_combo"), "New U-Net, small")
    assert not check.isVisible()
    hands.choose(person.combo("model_combo"), "New U-Net, ResNet-18")
    assert check.isVisible()
    assert not check.isChecked()
    assert person.text("model_note") == ""
    hands.press_button(check)
    size = ENCODERS["resnet18"].megabytes
    assert person.text("model_note") == f"{size} MB are fetched before training."
    assert check.isChecked()
    assert person.combo("model_combo").currentText() == "New U-Net, ResNet-18"
    choice = person.workspace.choice
    assert choice is not None
    assert choice.imagenet
    hands.press_button(check)
    assert not person.workspace.choice.imagenet
    hands.press_button(check)
    _stop_while_fetching(person, published_resnet18)


def _stop_while_fetching(person: Person, server: WeightServer) -> None:
    """Paint something, press Fine-tune, and Stop before training has begun."""
    server.waits_after = 8 << 20
    person.press("predict_view_button")
    hands.settle(0.1)
    person.mask.data_setitem(tuple(np.mgrid[:64, :64].reshape(2, -1)), 1)
    person.wait(lambda: person.button("finetune_button").isEnabled())
    person.press("finetune_button")
    label = "finetune_label"
    person.wait(lambda: person.text(label).startswith("fetching"))
    assert person.button("finetune_stop_button").isEnabled()
    person.press("finetune_stop_button")
    server.go_on.set()
    person.wait_for_training()
    assert ENCODERS["resnet18"].part.exists()
    assert person.failures == []
