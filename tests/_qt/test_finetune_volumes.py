"""A stack is corrected in a few slices, and a model that sees volumes learns it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QLabel, QWidget
from tifffile import imread

from napari_seg import create_model, save_model
from napari_seg._qt.forms import OptionsForm
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.finetune import FinetuneOptions, default_options
from tests._qt import hands
from tests._qt.person import SIDE, Person

DEPTH = 20


@pytest.fixture
def person(viewer: napari.Viewer, tmp_path: Path) -> Iterator[Person]:
    plate = synthetic_nuclei((SIDE, SIDE), n=6, seed=4).image
    viewer.add_image(np.stack([plate] * DEPTH), name="stack", scale=(2, 1, 1))
    torch.manual_seed(0)
    classes = ["background", "nucleus"]
    model = create_model("unet3d", classes=classes, width=4, depth=2, anisotropy=2.0)
    person = Person(viewer, save_model(model, tmp_path / "volumes"))
    yield person
    person.leave()


def test_correct_a_slice_and_finetune(person: Person) -> None:
    viewer, session = person.viewer, person.session
    button = person.button("finetune_button")
    assert not button.isEnabled()
    mask = person.predict()
    assert mask.data.shape == (DEPTH, SIDE, SIDE)
    assert "nothing to learn from yet" in button.toolTip()

    viewer.dims.set_current_step(0, 5)
    mask.selected_label = int(mask.data[5, 30, 30] == 0)
    mask.brush_size = 14
    hands.drag(viewer, [(30, 20), (30, 70)])
    person.press("accept_view_button")
    viewer.dims.set_current_step(0, 14)
    mask.n_edit_dimensions, mask.brush_size = 3, 8
    mask.selected_label = int(mask.data[14, 60, 60] == 0)
    hands.drag(viewer, [(60, 60), (60, 75)])
    truth = session.mask.truth()
    # The brush is a ball of this size in voxels of the world, twice as high as wide.
    slices = set(np.nonzero((truth != 255).any((1, 2)))[0].tolist())
    assert {5, 13, 14, 15} <= slices
    assert not slices & {0, 1, DEPTH - 1}
    reference = session.mask.reference.copy()

    form = person.find(QWidget, "expert_finetune").findChild(OptionsForm)
    assert form.value() == default_options(person.workspace.choice.spec)
    form.setValue(replace(form.value(), crop=32))
    assert person.workspace.finetune_arguments == ("--crop", "32")
    assert button.isEnabled(), button.toolTip()
    person.finetune(0.05)
    assert not person.failures
    (file,) = (session.project.windows_folder / "labels").iterdir()
    np.testing.assert_array_equal(imread(file), truth)
    assert "steps in" in person.find(QLabel, "verdict_label").text()
    assert len(person.find(QWidget, "loss_plot").curves()["loss"][0])

    person.press("keep_button")
    person.wait(person.idle)
    assert person.combo("model_combo").currentText() == "v001, fine-tuned"
    assert not np.array_equal(session.mask.reference, reference)
    kept = truth != 255
    np.testing.assert_array_equal(mask.data[kept], truth[kept])
    person.check_scores()


def test_expert_defaults_are_those_of_the_chosen_model(person: Person) -> None:
    form = person.find(QWidget, "expert_finetune").findChild(OptionsForm)
    usual = default_options(person.workspace.choice.spec)
    assert form.value() == usual != FinetuneOptions()
    augmentation = replace(usual.augmentation, blur=0.7)
    form.setValue(replace(usual, average=0.9, augmentation=augmentation))

    hands.choose(person.combo("model_combo"), "nuclei")
    person.wait(person.idle)
    expected = replace(FinetuneOptions(), average=0.9, augmentation=augmentation)
    assert form.value() == expected
    assert person.workspace.finetune_arguments == (
        *("--average", "0.9"),
        *("--augment-blur", "0.7"),
    )
