"""A bundled model is held to its own answers on drawn images, and others are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_seg
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.training.rehearsal import drawn_replay

UNKNOWN = 255


@pytest.fixture(scope="module")
def nuclei():
    return napari_seg.load_model("nuclei-fast")


def test_its_answers_are_right_enough_to_be_worth_keeping(nuclei):
    examples = drawn_replay(nuclei)
    assert len(examples) >= 16
    labels = np.stack([each.labels for each in examples])
    assert set(np.unique(labels)) == {0, 1, UNKNOWN}
    assert 0.03 < (labels == 1).mean() < 0.5
    assert (labels == UNKNOWN).mean() < 0.3, "of most it is sure"
    again = drawn_replay(nuclei)
    for one, other in zip(examples, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_new_class_is_not_in_them(nuclei):
    more = napari_seg.adapt_model(nuclei, classes=["background", "axon", "nucleus"])
    found = np.unique(np.stack([each.labels for each in drawn_replay(more)]))
    assert set(found) == {0, 2, UNKNOWN}


@pytest.mark.parametrize("classes", [["background", "axon"], ["ground", "cell"]])
def test_a_model_that_has_no_nuclei_needs_none(nuclei, classes):
    assert drawn_replay(napari_seg.adapt_model(nuclei, classes=classes)) == []


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_cannot_be_drawn(nuclei, channels):
    assert drawn_replay(napari_seg.adapt_model(nuclei, in_channels=channels)) == []


def test_a_model_of_ones_own_has_none(tiny_unet):
    model = tiny_unet()
    model.spec = replace(model.spec, classes=("background", "nucleus"))
    assert drawn_replay(model.eval()) == []
    assert drawn_replay(napari_seg.load_model("generic")) == []


@pytest.mark.slow
def test_less_is_forgotten(nuclei):
    """What is bright becomes background: the opposite of what it knew."""
    field = synthetic_nuclei((128, 128), 12, seed=5, radius=10)
    lesson = [np.roll(field.image, 40, 0)], [np.zeros((128, 128), np.uint8)]
    lesson[1][0][:40, :40] = 1
    other = synthetic_nuclei((256, 256), 30, seed=9, radius=9)
    dice = []
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        options = FinetuneOptions(
            batch=4, crop=64, drawn_share=share, learning_rate=1e-3
        )
        tuned = napari_seg.finetune(
            nuclei, *lesson, steps=25, holdout=0, options=options
        )
        mask = napari_seg.predict(tuned.model, other.image).labels
        dice.append(napari_seg.score(mask, other.mask, 2).dice[1])
    assert dice[1] > dice[0] + 0.1, dice
