"""The training loop learns, can be stopped anywhere, and leaves a sound model."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_seg.errors import InputError, TrainingError
from napari_seg.models.layers import BatchNorm2d, Prior
from napari_seg.models.registry import create_model
from napari_seg.training import loop
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.loop import Budget, Step, TrainOptions, train
from napari_seg.training.losses import LOSSES
from napari_seg.training.sampling import CropSampler, Example

QUIET = AugmentOptions(rotation=0, scale=1, intensity=0, blur=0)
OPTIONS = TrainOptions(
    learning_rate=1e-2, batch=4, crop=32, average=0.9, augmentation=QUIET
)


def changed(options: TrainOptions = OPTIONS, **changes: object) -> TrainOptions:
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return TrainOptions(**(values | changes))


@pytest.fixture
def sampler(toy_examples):
    return CropSampler(toy_examples, 32, seed=0)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_learned_from(tiny_unet, toy_examples, sampler, loss):
    model = tiny_unet()
    steps = list(train(model, sampler, changed(loss=loss), Budget(steps=50)))
    first = sum(step.loss for step in steps[:5])
    last = sum(step.loss for step in steps[-5:])
    assert last < 0.6 * first
    if loss == "ce_dice":
        # The others need more steps until the squares, a sixth of the pixels, win.
        with torch.no_grad():
            logits = model(torch.from_numpy(toy_examples[0].image)[None])
        found, truth = logits[0].argmax(dim=0).numpy(), toy_examples[0].labels
        assert (found == truth).mean() > 0.95


def test_balanced_classes_teach_a_rare_one_sooner(tiny_unet, toy_examples):
    """One in a hundred pixels: after a few steps, more of them are found."""
    rare = [replace(each, labels=each.labels.copy()) for each in toy_examples]
    for each in rare:
        keep = np.random.default_rng(0).random(each.labels.shape) < 0.02
        each.labels[(each.labels == 1) & ~keep] = 255
    found = []
    for choice in ("none", "balanced"):
        model = tiny_unet()
        options = changed(loss="cross_entropy", class_weights=choice)
        list(train(model, CropSampler(rare, 32, seed=0), options, Budget(steps=25)))
        with torch.no_grad():
            logits = model(torch.from_numpy(toy_examples[0].image)[None])
        squares = torch.from_numpy(toy_examples[0].labels == 1)
        found.append(float((logits[0].argmax(dim=0) == 1)[squares].float().mean()))
    assert found[1] > found[0] + 0.2, found


def test_auxiliary_head_is_trained_too(toy_examples):
    model = create_model("fcn", encoder="resnet18", auxiliary_head=True)
    before = weights(model)
    sampler = CropSampler(toy_examples, 32)
    list(train(model, sampler, changed(batch=2), Budget(steps=1)))
    after = model.state_dict()
    for head in ("classifier.4.weight", "aux_classifier.4.weight"):
        assert not torch.equal(before[head], after[head])


def test_bfloat16_learns_and_leaves_whole_numbers_behind(tiny_unet, sampler):
    model = tiny_unet()
    seen = []
    model.head.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    options = changed(precision="bfloat16")
    steps = list(train(model, sampler, options, Budget(steps=50)))
    assert set(seen) == {torch.bfloat16}
    assert sum(s.loss for s in steps[-5:]) < 0.6 * sum(s.loss for s in steps[:5])
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_precision_follows_the_processor(tiny_unet, sampler, monkeypatch, fast, dtype):
    monkeypatch.setattr(loop, "trains_in_bfloat16", lambda _: fast)
    model = tiny_unet()
    seen = []
    model.head.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    list(train(model, sampler, changed(precision="auto"), Budget(steps=1)))
    assert seen == [dtype]


class TestSteps:
    def test_they_count_up_to_the_budget(self, tiny_unet, sampler):
        steps = list(train(tiny_unet(), sampler, OPTIONS, Budget(steps=5)))
        assert [step.step for step in steps] == [1, 2, 3, 4, 5]
        assert [step.spent for step in steps] == [0.2, 0.4, 0.6, 0.8, 1.0]
        assert all(step.holdout is None for step in steps)
        assert steps[-1].seconds_left == 0

    def test_seconds_end_it_with_a_last_evaluation(
        self, tiny_unet, sampler, monkeypatch
    ):
        """Each look at this clock takes a second."""
        ticks = iter(range(10_000))
        monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
        steps = list(
            train(
                tiny_unet(),
                sampler,
                OPTIONS,
                Budget(seconds=6.5),
                evaluate=lambda _: 0.5,
                evaluations=2,
            )
        )
        assert [step.seconds for step in steps] == [1, 2, 3, 4, 5, 6, 7]
        assert steps[-1].spent == 1
        assert steps[-1].holdout == 0.5

    def test_whichever_budget_is_spent_first_counts(self):
        both = Budget(steps=10, seconds=100)
        assert both.spent(5, 10) == 0.5
        assert both.spent(5, 90) == 0.9
        assert both.spent(20, 0) == 1

    @pytest.mark.parametrize(
        "limits", [{}, {"steps": 0}, {"seconds": 0}, {"seconds": math.nan}]
    )
    def test_a_budget_must_be_above_zero(self, limits):
        with pytest.raises(InputError, match="above zero"):
            Budget(**limits)

    def test_time_left_follows_from_the_share(self):
        assert Step(3, 0.5, spent=0.25, seconds=10).seconds_left == 30

    def test_evaluations_are_spread_over_the_budget(self, tiny_unet, sampler):
        steps = train(
            tiny_unet(),
            sampler,
            OPTIONS,
            Budget(steps=12),
            evaluate=lambda _: 0.5,
            evaluations=4,
        )
        seen = [step.step for step in steps if step.holdout is not None]
        assert 4 <= len(seen) <= 5
        assert seen[-1] == 12

    @pytest.mark.parametrize(("patience", "last"), [(0.5, 18), (0.3, 15), (1, 20)])
    def test_it_ends_soon_after_the_score_no_longer_rises(
        self, tiny_unet, sampler, monkeypatch, patience, last
    ):
        """Scored after steps 3, 6, 8, 11, 13, 16, 18, 20; the second is the best."""
        rates = []
        set_rate = loop._set_rate

        def follow(optimizer, factor):
            rates.append(factor)
            set_rate(optimizer, factor)

        monkeypatch.setattr(loop, "_set_rate", follow)
        ticks = iter(range(10_000))
        monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
        scores = iter([0.5, 0.9, *[0.8] * 20])
        steps = train(
            tiny_unet(),
            sampler,
            changed(patience=patience),
            Budget(seconds=20),
            evaluate=lambda _: next(scores),
        )
        found = list(steps)
        assert found[-1].step == last, [s.step for s in found if s.holdout is not None]
        assert found[-1].holdout is not None
        # Weights settle before the end, however early it comes.
        assert rates[-1] < 0.2
        assert max(rates) > 0.9

    def test_a_number_of_steps_is_kept_to(self, tiny_unet, sampler):
        scores = iter(range(100, 0, -1))
        steps = train(
            tiny_unet(),
            sampler,
            changed(patience=0.1),
            Budget(steps=10),
            evaluate=lambda _: next(scores),
        )
        assert len(list(steps)) == 10

    def test_the_same_seed_gives_the_same_losses(self, tiny_unet, toy_examples):
        losses = []
        for seed in (5, 5, 6):
            sampler = CropSampler(toy_examples, 32, seed=seed)
            steps = train(tiny_unet(), sampler, OPTIONS, Budget(steps=4), seed=seed)
            losses.append([step.loss for step in steps])
        assert losses[0] == losses[1] != losses[2]


class TestReplayed:
    """What training tells a sampler that replays, and a further term of the loss."""

    class Replaying(CropSampler):
        replayed = 2
        heard: list[list[float]]

        def learn_from(self, losses):
            self.heard.append(list(losses))

    def test_the_loss_of_each_replayed_crop(self, tiny_unet, toy_examples):
        sampler = self.Replaying(toy_examples, 32, seed=0)
        sampler.heard = []
        list(train(tiny_unet(), sampler, OPTIONS, Budget(steps=3)))
        assert [len(losses) for losses in sampler.heard] == [2, 2, 2]
        assert all(0.1 < loss < 3 for losses in sampler.heard for loss in losses)

    def test_a_crop_without_known_pixels_has_none(self, tiny_unet):
        image = np.random.default_rng(0).random((1, 64, 64), np.float32)
        labels = np.full((64, 64), 255, np.uint8)
        labels[0, 0] = 1
        hidden = self.Replaying([Example(image, labels)], 32, seed=0)
        hidden.heard = []
        whole = hidden.batch

        def batch(size):
            images, ids = whole(size)
            ids[0] = 255
            return images, ids

        hidden.batch = batch
        list(train(tiny_unet(), hidden, OPTIONS, Budget(steps=1)))
        ((first, second),) = hidden.heard
        assert math.isnan(first)
        assert second > 0

    def test_a_further_term_is_part_of_the_loss(self, tiny_unet, toy_examples):
        sampler = self.Replaying(toy_examples, 32, seed=0)
        sampler.heard = []
        seen = []

        def further(images, logits, labels, replayed):
            seen.append((images.shape, logits.shape, labels.shape, replayed))
            return 100 * logits.float().square().mean()

        model, plain = tiny_unet(), tiny_unet()
        steps = list(
            train(model, sampler, OPTIONS, Budget(steps=20), further_losses=[further])
        )
        assert seen[0] == ((4, 1, 32, 32), (4, 2, 32, 32), (4, 32, 32), 2)
        list(train(plain, CropSampler(toy_examples, 32), OPTIONS, Budget(steps=20)))
        assert steps[0].loss > 1
        image = torch.from_numpy(toy_examples[0].image)[None]
        with torch.no_grad():
            sizes = [float(m(image).square().mean()) for m in (model, plain)]
        assert sizes[0] < 0.5 * sizes[1]


class TestResult:
    def test_best_evaluation_wins(self, tiny_unet, sampler):
        model, scores, seen = tiny_unet(), iter([0.3, 0.9, 0.5, 0.4]), []

        def evaluate(candidate):
            assert not candidate.training
            seen.append(weights(candidate))
            return next(scores)

        list(
            train(
                model,
                sampler,
                OPTIONS,
                Budget(steps=4),
                evaluate=evaluate,
                evaluations=100,
            )
        )
        assert len(seen) == 4
        assert not model.training
        for key, value in model.state_dict().items():
            assert torch.equal(value, seen[1][key]), key

    def test_the_last_wins_where_the_best_is_not_asked_for(self, tiny_unet, sampler):
        model, scores, last = tiny_unet(), iter([0.9, 0.1]), {}

        def evaluate(candidate):
            last.update(weights(candidate))
            return next(scores)

        steps = train(
            model,
            sampler,
            OPTIONS,
            Budget(steps=2),
            evaluate=evaluate,
            keep_best=lambda: False,
        )
        assert [step.holdout for step in steps] == [0.9, 0.1]
        for key, value in model.state_dict().items():
            assert torch.equal(value, last[key]), key

    @pytest.mark.parametrize("evaluated", [True, False])
    def test_closing_midway_leaves_the_best_so_far(self, tiny_unet, sampler, evaluated):
        model, start = tiny_unet(), weights(tiny_unet())
        scores, seen = iter([0.9, 0.1, 0.1]), []

        def evaluate(candidate):
            seen.append(weights(candidate))
            return next(scores)

        progress = train(
            model,
            sampler,
            OPTIONS,
            Budget(steps=100),
            evaluate=evaluate if evaluated else None,
            evaluations=1000,
        )
        for _ in range(3):
            next(progress)
        raw = weights(model)
        progress.close()
        assert not model.training
        result = model.state_dict()
        if evaluated:
            assert all(torch.equal(result[key], seen[0][key]) for key in result)
            return
        # Between the start and where the last step went: an average.
        name = "head.weight"
        assert not torch.equal(result[name], start[name])
        assert not torch.equal(result[name], raw[name])
        ahead = (raw[name] - start[name]).flatten()
        moved = (result[name] - start[name]).flatten()
        assert 0 < float(moved @ ahead) < float(ahead @ ahead)

    def test_an_error_outside_leaves_a_sound_model_too(self, tiny_unet, sampler):
        model = tiny_unet()
        progress = train(model, sampler, OPTIONS, Budget(steps=9))
        next(progress)
        with pytest.raises(KeyboardInterrupt):
            progress.throw(KeyboardInterrupt)
        assert not model.training
        assert all(value.isfinite().all() for value in model.state_dict().values())

    @pytest.mark.parametrize(
        "error",
        [
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            MemoryError(),
        ],
    )
    def test_too_little_memory_is_told_with_what_helps(
        self, tiny_unet, sampler, monkeypatch, error
    ):
        def fail(logits, labels):
            raise error

        monkeypatch.setitem(loop.LOSSES, "ce_dice", fail)
        model, before = tiny_unet(), weights(tiny_unet())
        with pytest.raises(TrainingError, match=r"memory on cpu for 4 crops of 32 px"):
            list(train(model, sampler, OPTIONS, Budget(steps=9)))
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_other_errors_stay_what_they_are(self, tiny_unet, sampler, monkeypatch):
        def fail(logits, labels):
            raise RuntimeError("a bug")

        monkeypatch.setitem(loop.LOSSES, "ce_dice", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            list(train(tiny_unet(), sampler, OPTIONS, Budget(steps=9)))

    @pytest.mark.parametrize("broken", ["loss", "gradient"])
    def test_divergence_is_told_and_reaches_no_weight(
        self, tiny_unet, sampler, monkeypatch, broken
    ):
        calls = iter(range(100))

        def diverging(logits, labels):
            value = logits.square().mean()
            if next(calls) < 2:
                return value
            # The root is finite at zero, its slope is not.
            return value * math.nan if broken == "loss" else (value * 0).sqrt()

        monkeypatch.setitem(loop.LOSSES, "ce_dice", diverging)
        model = tiny_unet()
        with pytest.raises(TrainingError, match=r"step 3.*lower learning rate"):
            list(train(model, sampler, OPTIONS, Budget(steps=9)))
        assert not model.training
        assert all(value.isfinite().all() for value in model.state_dict().values())


class TestWhatStays:
    def test_frozen_statistics(self, tiny_unet, sampler):
        model = tiny_unet()
        before = weights(model)
        options = changed(norm_statistics="kept")
        list(train(model, sampler, options, Budget(steps=3)))
        moved = {
            key
            for key, value in model.state_dict().items()
            if not torch.equal(value, before[key])
        }
        assert "head.weight" in moved
        assert not {key for key in moved if "running" in key or "batches" in key}

    def test_few_crops_leave_learned_statistics_and_teach_new_ones(
        self, tiny_unet, sampler
    ):
        """The default of fine-tuning decides layer by layer."""
        model = tiny_unet()
        with torch.no_grad():
            for layer in model.encoder.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.running_mean += 0.1
        before = weights(model)
        options = changed(norm_statistics="auto", batch=2)
        list(train(model, sampler, options, Budget(steps=4)))
        for key, value in model.state_dict().items():
            if "running" in key:
                kept = torch.equal(value, before[key])
                assert kept is key.startswith("encoder."), key

    @pytest.mark.parametrize("learned", [False, True])
    def test_statistics_are_kept_for_the_last_quarter(
        self, tiny_unet, sampler, learned
    ):
        """The weights settle for what prediction uses."""
        model, modes = tiny_unet(), []
        model.bottleneck[1].running_mean += 0.1 * learned
        model.bottleneck[1].register_forward_pre_hook(
            lambda layer, _: modes.append(layer.training)
        )
        options = changed(norm_statistics="auto")
        list(train(model, sampler, options, Budget(steps=8)))
        assert modes == [True] * 6 + [False] * 2

    def test_statistics_of_other_images_do_not_hinder(self, tiny_unet, sampler):
        """A start from afar learned nothing where they were kept."""
        model = tiny_unet()
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.running_mean += 3
                    layer.running_var *= 100
        options = changed(norm_statistics="auto")
        steps = list(train(model, sampler, options, Budget(steps=80)))
        assert steps[-1].loss < 0.5 * steps[0].loss

    def test_statistics_are_trained_throughout_if_asked(self, tiny_unet, sampler):
        model, modes = tiny_unet(), []
        model.bottleneck[1].running_mean += 0.1
        model.bottleneck[1].register_forward_pre_hook(
            lambda layer, _: modes.append(layer.training)
        )
        list(train(model, sampler, OPTIONS, Budget(steps=4)))
        assert modes == [True] * 4

    @pytest.mark.parametrize("encoder", [None, "resnet18"])
    def test_encoder_of_rate_zero(self, tiny_unet, sampler, encoder):
        """Weights and statistics: half frozen would be neither old nor new."""
        model = create_model("unet", encoder=encoder, width=4, depth=2)
        before = weights(model)
        options = changed(encoder_rate=0, weight_decay=0.1, batch=2)
        list(train(model, sampler, options, Budget(steps=2)))
        after = model.state_dict()
        frozen = [key for key in before if key.startswith("encoder.")]
        assert all(torch.equal(after[key], before[key]) for key in frozen)
        assert not torch.equal(after["head.weight"], before["head.weight"])

    def test_small_encoder_rate_moves_the_encoder_less(self, tiny_unet, sampler):
        moves = []
        for rate in (1.0, 0.1):
            model = tiny_unet()
            before = weights(model)
            list(train(model, sampler, changed(encoder_rate=rate), Budget(steps=2)))
            key = "encoder.0.0.weight"
            moves.append(float((model.state_dict()[key] - before[key]).abs().mean()))
        assert moves[1] < 0.3 * moves[0]


@pytest.mark.parametrize(
    "changes",
    [{"loss": "hinge"}, {"learning_rate": 1.0}, {"crop": 16}, {"average": 1.0}],
)
def test_options_out_of_range_are_refused(changes):
    with pytest.raises(InputError, match=f"{next(iter(changes))} is"):
        TrainOptions(**changes)


class TestBlendedStatistics:
    """Between those of a start and those of each batch, in training and after it."""

    share = 0.25

    def layer(self) -> BatchNorm2d:
        torch.manual_seed(0)
        layer = BatchNorm2d(3)
        with torch.no_grad():
            layer.running_mean += torch.tensor([3.0, -2.0, 0.0])
            layer.running_var *= torch.tensor([15.0, 0.7, 1.0])
            layer.weight.uniform_(0.5, 2)
            layer.bias.uniform_(-1, 1)
        mean, variance = layer.running_mean.clone(), layer.running_var.clone()
        layer.prior = Prior(mean, variance, self.share)
        return layer

    def test_a_mixture_of_values_normalises(self) -> None:
        """Its mean and variance are those of a quarter of these, the rest of those."""
        layer, x = self.layer(), torch.randn(4, 3, 8, 8) * 2 + 1
        values = x.transpose(0, 1).flatten(1).numpy()
        before = layer.prior.mean.numpy(), layer.prior.variance.numpy() ** 0.5
        drawn = np.random.default_rng(0).standard_normal((3, 300_000))
        old = drawn * before[1][:, None] + before[0][:, None]
        new = np.tile(values, 100_000 // values.shape[1] + 1)[:, :100_000]
        mixture = np.concatenate([old, new], axis=1)
        mean, deviation = mixture.mean(axis=1), mixture.std(axis=1)
        expected = (values - mean[:, None]) / deviation[:, None]
        expected = expected * layer.weight.detach().numpy()[:, None]
        expected += layer.bias.detach().numpy()[:, None]
        found = layer(x).detach().transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(found, expected, atol=0.03)

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_at_the_ends_it_is_kept_or_trained(self, share: float) -> None:
        layer, x = self.layer(), torch.randn(4, 3, 8, 8)
        other = copy.deepcopy(layer)
        other.prior = None
        layer.prior = replace(layer.prior, share=share)
        found = layer(x).detach()
        expected = other.train(bool(share))(x).detach()
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_old_statistics_that_do_not_fit_do_not_count(self) -> None:
        layer, x = self.layer(), torch.randn(4, 3, 8, 8)
        layer.prior = replace(layer.prior, variance=layer.prior.variance * 100)
        other = copy.deepcopy(layer)
        other.prior = None
        np.testing.assert_allclose(layer(x).detach(), other(x).detach(), atol=1e-4)

    def test_statistics_are_not_rounded_in_half_precision(self) -> None:
        layer, x = self.layer(), (torch.randn(4, 3, 8, 8) + 100).bfloat16()
        mean, variance = layer._of_batch(x.to(memory_format=torch.channels_last))
        values = x.float().transpose(0, 1).flatten(1)
        np.testing.assert_allclose(mean, values.mean(dim=1), rtol=1e-5)
        np.testing.assert_allclose(variance, values.var(1, correction=0), rtol=1e-3)

    def test_prediction_ends_up_with_the_same_statistics(self) -> None:
        layer, x = self.layer(), torch.randn(4, 3, 8, 8)
        for _ in range(200):
            shown = layer(x).detach()
        assert int(layer.num_batches_tracked) == 200
        predicted = layer.eval()(x).detach()
        np.testing.assert_allclose(shown, predicted, atol=1e-3)

    def test_no_gradient_along_mean_and_scale_of_the_batch(self) -> None:
        layer, x = self.layer(), torch.randn(4, 3, 8, 8, requires_grad=True)
        (layer(x) * torch.randn(4, 3, 8, 8)).sum().backward()
        assert x.grad.mean(dim=(0, 2, 3)).abs().max() < 1e-5
        assert (x.grad * x.detach()).mean(dim=(0, 2, 3)).abs().max() < 1e-3
        assert layer.weight.grad.any()
        assert layer.bias.grad.any()

    def test_training_holds_on_to_what_a_start_has_learned(
        self, tiny_unet, sampler
    ) -> None:
        model, seen = tiny_unet(), []
        learned, new = model.bottleneck[1], model.encoder[0][1]
        learned.running_mean += 0.1
        before = learned.running_mean.clone()
        for layer in (learned, new):
            layer.register_forward_pre_hook(lambda each, _: seen.append(each.prior))
        options = changed(norm_statistics="auto")
        for _ in train(model, sampler, options, Budget(steps=2)):
            pass
        assert [each is None for each in seen] == [True, False] * 2
        assert torch.equal(seen[1].mean, before)
        assert learned.prior is None, "nothing is held on to afterwards"
