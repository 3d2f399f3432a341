"""The tour, with a tiny image, a tiny model and a few steps."""

from __future__ import annotations

from pathlib import Path

import napari
import numpy as np
import pytest
from skimage.io import imread

from napari_seg._qt import demo
from napari_seg._qt.demo import run_on_virtual_display
from napari_seg._qt.tour import Halves, Tour
from napari_seg.errors import InputError, NapariSegError
from napari_seg.synthetic import synthetic_nuclei
from tests._qt import hands
from tests._qt.person import Person, balanced_model

KEYS = {
    "dice_before",
    "dice_after",
    "iou_before",
    "iou_after",
    "corrected_pixels",
    "seconds",
}


@pytest.mark.slow
def test_the_tour(viewer: napari.Viewer, tmp_path: Path) -> None:
    image, truth, _ = synthetic_nuclei((96, 192), n=10, seed=5)
    viewer.add_image(image, name="tour")
    person = Person(viewer, balanced_model(tmp_path / "tiny", image))
    person.workspace.finetune_arguments = ("--crop", "64", "--batch", "2")
    said: list[str] = []
    tour = Tour(viewer, person.dock, truth.astype(np.uint8), 0.1, said.append)
    measured = tour.play(tmp_path / "pictures" / "tour.png")
    assert set(measured) == KEYS
    assert measured["dice_after"] > measured["dice_before"]
    assert measured["iou_after"] > measured["iou_before"]
    assert measured["corrected_pixels"] > 0
    assert measured["seconds"] > 0
    assert imread(tmp_path / "pictures" / "tour.png").shape[0] > 400
    corrected = person.session.mask.labels[:, Halves.of(192).corrected]
    np.testing.assert_array_equal(corrected, truth[:, Halves.of(192).corrected])
    assert any("Dice before" in line for line in said)
    person.leave()


def test_a_failure_on_the_way_ends_the_tour(viewer: napari.Viewer) -> None:
    viewer.add_labels(np.zeros((64, 64), np.uint8))
    person = Person(viewer)
    tour = Tour(viewer, person.dock, np.zeros((64, 64), np.uint8), 0.1, str)
    with pytest.raises(NapariSegError, match="Open an image"):
        tour.play()
    person.leave()


def test_the_halves_lie_apart() -> None:
    halves = Halves.of(512)
    assert halves.corrected == slice(0, 224)
    assert halves.unseen == slice(288, 512)


def test_without_any_display_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="apt-get install xvfb"):
        run_on_virtual_display(["demo"])


def test_predict_when_ready(viewer: napari.Viewer, tmp_path: Path) -> None:
    image = synthetic_nuclei((64, 64), n=4, seed=5).image
    viewer.add_image(image, name="sample")
    person = Person(viewer, balanced_model(tmp_path / "tiny", image))
    person.dock.predict_when_ready()
    person.wait(lambda: person.dock.mask_view.layer is not None)
    person.wait(person.idle)
    hands.settle(0.1)
    assert (person.session.mask.reference != 255).all()
    person.leave()
