"""finetune(): from a few labels to a better model, and to an honest verdict."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_seg
from napari_seg.errors import (
    ChannelError,
    ImageError,
    InputError,
    LabelsError,
    NothingToLearnError,
)
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import adapt_model, create_model, with_object_head
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training import finetune as finetune_module
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.distillation import Distillation
from napari_seg.training.examples import prepare_image
from napari_seg.training.finetune import FinetuneOptions, finetune
from napari_seg.training.guard import Watch
from napari_seg.training.loop import train
from napari_seg.training.objects import ObjectTerm
from napari_seg.training.sampling import CropSampler

UNKNOWN = 255
OPTIONS = FinetuneOptions(
    learning_rate=1e-2,
    batch=4,
    crop=32,
    average=0.9,
    augmentation=AugmentOptions(rotation=0, scale=1, intensity=0, blur=0),
)


@pytest.fixture(scope="module")
def dark_field_model() -> SegmentationModel:
    """A network that has learned bright nuclei on a dark ground."""
    torch.manual_seed(0)
    model = create_model("unet", width=4, depth=2, name="bright")
    fields = [synthetic_nuclei((96, 96), 12, seed=seed, radius=8) for seed in range(2)]
    result = finetune(
        model,
        [field.image for field in fields],
        [field.mask for field in fields],
        steps=40,
        holdout=0,
        options=OPTIONS,
        device="cpu",
    )
    return result.model


@pytest.fixture
def shifted():
    """The same nuclei on another microscope: dark on a bright ground."""
    fields = [synthetic_nuclei((128, 128), 20, seed=seed, radius=8) for seed in (7, 6)]
    for field in fields:
        field.mask[:, 100:] = UNKNOWN
    images = [field.image.max() - field.image for field in fields]
    return images, [field.mask for field in fields]


def tune(model, images, labels, **changes):
    options = {"steps": 3, "options": OPTIONS, "device": "cpu"}
    return finetune(model, images, labels, **(options | changes))


class TestLearning:
    def test_a_few_labels_from_another_microscope_are_enough(
        self, dark_field_model, shifted
    ):
        result = tune(dark_field_model, *shifted, steps=40, holdout=0.5)
        assert result.improved
        assert result.verdict.sentence == "Better on held-out pixels."
        assert result.before.mean_dice < 0.6
        assert result.after.mean_dice > result.before.mean_dice + 0.2
        # And where nothing was labelled at all.
        field = synthetic_nuclei((128, 128), 20, seed=8, radius=8)
        fresh = field.image.max() - field.image
        dice = [
            napari_seg.score(
                napari_seg.predict(model, fresh, device="cpu").labels, field.mask
            ).mean_dice
            for model in (dark_field_model, result.model)
        ]
        assert dice[1] > dice[0] + 0.2

    def test_the_given_model_stays_as_it_is(self, dark_field_model, shifted):
        before = copy.deepcopy(dark_field_model.state_dict())
        spec, mode = dark_field_model.spec, dark_field_model.training
        result = tune(dark_field_model, *shifted)
        assert result.model is not dark_field_model
        assert dark_field_model.spec is spec
        assert dark_field_model.training is mode
        for key, value in dark_field_model.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_neither_unknown_nor_held_out_labels_reach_training(
        self, dark_field_model, monkeypatch
    ):
        """Each pixel of this image has a value of its own, by which it is known."""
        image = np.arange(128.0 * 128).reshape(128, 128)
        labels = np.zeros((128, 128), np.uint8)
        labels[40:90] = 1
        labels[:, 70:] = UNKNOWN
        trained_on: set[float] = set()

        class Watched(CropSampler):
            def batch(self, size):
                images, ids = super().batch(size)
                trained_on.update(images[:, 0][ids != UNKNOWN].tolist())
                return images, ids

        monkeypatch.setattr("napari_seg.training.finetune.CropSampler", Watched)
        result = tune(dark_field_model, [image], [labels], steps=30, holdout=0.5)
        scaled = prepare_image(image, dark_field_model.spec)[0]
        known = set(scaled[labels != UNKNOWN].tolist())
        assert trained_on < known
        free = len(known) - result.after.pixels
        assert 0.9 * free < len(trained_on) <= free
        assert result.model.spec.history[-1]["known_pixels"] == free


class TestResult:
    def test_tells_steps_history_and_time(self, dark_field_model, shifted):
        calls = []
        result = tune(dark_field_model, *shifted, steps=4, on_step=calls.append)
        assert result.history == calls
        assert [step.step for step in calls] == [1, 2, 3, 4]
        assert result.seconds > 0
        assert not result.stopped
        assert not result.model.training
        assert next(result.model.parameters()).device.type == "cpu"

    def test_is_ready_for_json(self, dark_field_model, shifted):
        values = tune(dark_field_model, *shifted).to_dict()
        read = json.loads(json.dumps(values, allow_nan=False))
        assert {"iou", "dice", "mean_iou", "mean_dice"} <= read["before"].keys()
        assert read["steps"] == 3
        assert read["improved"] in (True, False)
        assert read["earlier"] is None

    def test_spec_remembers_the_run(self, dark_field_model, shifted):
        result = tune(dark_field_model, *shifted)
        entry = result.model.spec.history[-1]
        assert entry["parent"] == "bright"
        assert entry["steps"] == 3
        assert entry["dice_after"] == pytest.approx(result.after.mean_dice)
        assert result.model.spec.history[:-1] == dark_field_model.spec.history
        json.dumps(result.model.spec.to_dict(), allow_nan=False)

    def test_a_model_is_never_judged_on_what_it_was_trained_on(
        self, dark_field_model, shifted
    ):
        """Not even where it was trained on everything at first."""
        everything = tune(dark_field_model, *shifted, holdout=0).model
        result = tune(everything, *shifted, holdout=0.5)
        assert result.verdict.regions == 0
        fresh = tune(dark_field_model, *shifted, holdout=0.5)
        assert fresh.verdict.regions > 0
        again = tune(fresh.model, *shifted, holdout=0.9)
        assert again.verdict.regions == fresh.verdict.regions

    def test_too_little_to_judge_is_said(self, dark_field_model, shifted):
        images, labels = shifted
        few = np.full_like(labels[0], UNKNOWN)
        few[40:44, 40:44] = 1
        result = tune(dark_field_model, images[:1], [few])
        assert not result.improved
        assert result.verdict.regions == 0
        json.dumps(result.to_dict(), allow_nan=False)

    def test_stopping_keeps_what_was_learned_so_far(self, dark_field_model, shifted):
        result = tune(
            dark_field_model,
            *shifted,
            steps=1000,
            should_stop=iter([False, True]).__next__,
        )
        assert result.stopped
        assert len(result.history) == 2
        assert not result.model.training

    def test_a_seed_repeats_it(self, dark_field_model, shifted):
        losses = [
            [step.loss for step in tune(dark_field_model, *shifted, seed=seed).history]
            for seed in (1, 1, 2)
        ]
        assert losses[0] == losses[1] != losses[2]

    def test_the_callers_random_numbers_stay_theirs(self, dark_field_model, shifted):
        state = torch.get_rng_state()
        tune(dark_field_model, *shifted, seed=3)
        assert torch.equal(torch.get_rng_state(), state)

    def test_minutes_are_a_budget(self, dark_field_model, shifted):
        # Without an end at the plateau, which chance may bring.
        options = replace(OPTIONS, patience=1)
        budget = {"steps": None, "minutes": 0.01}
        result = tune(dark_field_model, *shifted, **budget, options=options)
        assert result.history[-1].spent == 1
        assert result.history[-1].seconds >= 0.6


class TestReplay:
    @pytest.fixture
    def earlier(self):
        field = synthetic_nuclei((96, 96), 12, seed=3, radius=8)
        return [field.image], [field.mask]

    def test_forgetting_is_measured(self, dark_field_model, shifted, earlier):
        result = tune(dark_field_model, *shifted, replay=earlier)
        assert result.earlier is not None
        assert result.earlier.regions > 0
        assert result.earlier.before.mean_dice > 0.8
        assert result.to_dict()["earlier"]["regions"] == result.earlier.regions

    def test_replay_holds_what_was_learned_before(
        self, dark_field_model, shifted, earlier
    ):
        kept = tune(
            dark_field_model,
            *shifted,
            steps=40,
            replay=earlier,
            options=replace(OPTIONS, replay_share=0.6),
        )
        lost = tune(
            dark_field_model,
            *shifted,
            steps=40,
            replay=earlier,
            options=replace(OPTIONS, replay_share=0.0),
        )
        assert kept.earlier.after.mean_dice > lost.earlier.after.mean_dice + 0.1

    def test_earlier_images_without_labels_are_left_aside(
        self, dark_field_model, shifted, earlier
    ):
        images, labels = earlier
        nothing = [np.full_like(ids, UNKNOWN) for ids in labels]
        result = tune(dark_field_model, *shifted, replay=(images, nothing))
        assert result.earlier is None


class TestWiring:
    """What a training is given: each part has tests of its own."""

    @pytest.fixture
    def given(self, monkeypatch):
        seen = {}

        def spy(model, sampler, options, budget, **others):
            seen.update(others, sampler=sampler, options=options)
            return train(model, sampler, options, budget, **others)

        monkeypatch.setattr("napari_seg.training.finetune.train", spy)
        return seen

    def test_replay_is_prioritized_and_holds_the_old_answers(
        self, dark_field_model, shifted, given
    ):
        field = synthetic_nuclei((96, 96), 12, seed=3, radius=8)
        tune(dark_field_model, *shifted, replay=([field.image], [field.mask]))
        assert given["sampler"]._replay._prioritized
        assert given["sampler"].replayed > 0
        assert isinstance(given["further_losses"][0], Distillation)
        # It is the start that answers, whatever training does to the model.
        teacher = given["further_losses"][0]._teacher.state_dict()
        for key, value in dark_field_model.state_dict().items():
            assert torch.equal(teacher[key], value), key

    def test_a_new_class_has_a_head_start_and_the_old_answers_do_not_know(
        self, dark_field_model, shifted, given
    ):
        images, labels = shifted
        for ids in labels:
            ids[:32, :32] = 2
        classes = [*dark_field_model.spec.classes, "corner"]
        start = adapt_model(dark_field_model, classes=classes)
        field = synthetic_nuclei((96, 96), 12, seed=3, radius=8)
        options = replace(OPTIONS, learning_rate=1e-6)
        replay = [field.image], [field.mask]
        result = tune(start, images, labels, replay=replay, options=options)
        head = start.state_dict()["head.weight"]
        assert not torch.allclose(result.model.head.weight, head, atol=1e-3)
        teacher = given["further_losses"][0]._teacher.state_dict()
        assert torch.equal(teacher["head.weight"], head)

    def test_without_replay_there_is_nothing_to_hold(
        self, dark_field_model, shifted, given
    ):
        tune(dark_field_model, *shifted)
        assert given["sampler"].replayed == 0
        assert given["further_losses"] == []
        options = replace(OPTIONS, distillation_unknown=0.5)
        tune(dark_field_model, *shifted, options=options)
        assert isinstance(given["further_losses"][0], Distillation)

    def test_an_object_head_learns_for_all_of_the_time(
        self, dark_field_model, shifted, given
    ):
        tune(dark_field_model, *shifted)
        assert given["options"].patience < 1
        able = with_object_head(dark_field_model)
        field = synthetic_nuclei((96, 96), 12, seed=3, radius=8)
        tune(able, *shifted, replay=([field.image], [field.mask]))
        assert given["options"].patience == 1
        _, term = given["further_losses"]
        assert isinstance(term, ObjectTerm)

    def test_a_trained_object_head_learns_from_given_objects_alone(
        self, dark_field_model, shifted, given
    ):
        images, labels = shifted
        able = tune(with_object_head(dark_field_model), images, labels).model
        able = tune(able, images, labels, objects=[labels[0], None]).model
        (term,) = given["further_losses"]
        assert isinstance(term, ObjectTerm), "cut at waists before, it goes on learning"
        tune(able, images, labels)
        assert not given["further_losses"]
        assert given["options"].patience < 1
        again = tune(able, images, labels, objects=[labels[0], None])
        (term,) = given["further_losses"]
        assert isinstance(term, ObjectTerm)
        assert again.model.spec.history[-1]["objects_taught"]

    def test_held_out_regions_decide_whether_an_earlier_state_is_kept(
        self, dark_field_model, shifted, given, monkeypatch
    ):
        monkeypatch.setattr(Watch, "has_fallen", lambda self: True)
        tune(dark_field_model, *shifted)
        assert given["keep_best"]() is True
        assert given["evaluate"](dark_field_model) > 0

    def test_windows_that_touch_are_one_place(self, dark_field_model, shifted):
        images, labels = shifted
        apart = tune(dark_field_model, images, labels, holdout=0.5)
        assert apart.verdict.places == 2
        origins = [("plate", 0, 0), ("plate", 0, 128)]
        for ids in labels:
            ids[:, 100:] = 0
            ids[:, :64] = UNKNOWN
        beside = tune(dark_field_model, images, labels, holdout=0.5, origins=origins)
        assert beside.verdict.places == 2, "64 columns apart"
        labels[1][:, :64] = 0
        labels[1][:, 96:] = UNKNOWN
        beside = tune(dark_field_model, images, labels, holdout=0.5, origins=origins)
        assert beside.verdict.places == 1, "four squares by five"


class TestRefused:
    def test_a_class_that_the_model_lacks(self, dark_field_model, shifted):
        images, labels = shifted
        labels[0][5, 5] = 2
        with pytest.raises(LabelsError, match=r"class 2.*adapt_model"):
            tune(dark_field_model, images, labels)

    def test_other_channels(self, dark_field_model):
        with pytest.raises(ChannelError):
            tune(
                dark_field_model,
                [np.zeros((64, 64, 3))],
                [np.zeros((64, 64), np.uint8)],
            )

    def test_nothing_labelled(self, dark_field_model, shifted):
        images, labels = shifted
        nothing = [np.full_like(ids, UNKNOWN) for ids in labels]
        with pytest.raises(NothingToLearnError, match="accept a region"):
            tune(dark_field_model, images, nothing)

    def test_no_image_at_all(self, dark_field_model):
        with pytest.raises(NothingToLearnError):
            tune(dark_field_model, [], [])

    def test_an_image_below_32_pixels(self, dark_field_model):
        with pytest.raises(ImageError):
            tune(dark_field_model, [np.zeros((20, 64))], [np.zeros((20, 64), np.uint8)])

    @pytest.mark.parametrize("budget", [{"steps": 0}, {"steps": None, "minutes": 0.0}])
    def test_no_budget(self, dark_field_model, shifted, budget):
        with pytest.raises(InputError, match="above zero"):
            tune(dark_field_model, *shifted, **budget)

    def test_a_share_out_of_range(self, dark_field_model, shifted):
        with pytest.raises(InputError, match="holdout is 1"):
            tune(dark_field_model, *shifted, holdout=1.0)


def test_what_was_labelled_since_is_drawn_more_often(
    dark_field_model, shifted, monkeypatch
):
    """Two windows, one of which the model has learned in an earlier run."""
    fields = [synthetic_nuclei((96, 96), 12, seed=seed, radius=8) for seed in (5, 6)]
    images = [field.image for field in fields]
    masks = [field.mask for field in fields]
    first = tune(dark_field_model, images[:1], masks[:1], steps=1).model
    seen = []

    class Watched(CropSampler):
        def __init__(self, examples, *rest):
            super().__init__(examples, *rest)
            seen.append(self._example_given_class[:, 0].tolist())

    monkeypatch.setattr(finetune_module, "CropSampler", Watched)
    tune(first, images, masks, steps=1)
    tune(dark_field_model, images, masks, steps=1)
    (old, new), (one, other) = seen
    assert new / old == pytest.approx(2 * other / one, rel=0.2)
