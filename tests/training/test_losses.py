"""Losses by hand, against torch's and MONAI's, and blind to unknown pixels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from napari_seg.errors import InputError, LabelsError
from napari_seg.training.losses import (
    LOSSES,
    bce_dice_loss,
    bce_loss,
    ce_dice_loss,
    cross_entropy_loss,
    dice_loss,
)

UNKNOWN = 255
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """Return logits (1, K, 1, P) whose softmax are these K rows of P pixels."""
    return torch.tensor(probabilities).log()[None, :, None, :]


def target_of(*ids: int) -> Tensor:
    return torch.tensor(ids)[None, None, :]


#: Two classes, three pixels: p(class 1) is 0.9, 0.2, 0.6.
LOGITS = logits_of([[0.1, 0.8, 0.4], [0.9, 0.2, 0.6]])


class TestByHand:
    def test_dice(self):
        """Class 0 has 2·0.8 / (1.3 + 1), class 1 has 2·(0.9 + 0.6) / (1.7 + 2)."""
        expected = 1 - (1.6 / 2.3 + 3.0 / 3.7) / 2
        assert float(dice_loss(LOGITS, target_of(1, 0, 1))) == pytest.approx(expected)

    def test_dice_sums_over_the_batch_before_it_divides(self):
        stacked = LOGITS.reshape(1, 2, 3, 1).permute(2, 1, 0, 3)
        target = target_of(1, 0, 1).reshape(3, 1, 1)
        together = dice_loss(LOGITS, target_of(1, 0, 1))
        torch.testing.assert_close(dice_loss(stacked, target), together)

    def test_dice_leaves_out_what_the_target_lacks(self):
        expected = 1 - 2 * 1.7 / (1.7 + 3)
        assert float(dice_loss(LOGITS, target_of(1, 1, 1))) == pytest.approx(expected)

    def test_cross_entropy(self):
        expected = -(math.log(0.9) + math.log(0.8) + math.log(0.6)) / 3
        found = cross_entropy_loss(LOGITS, target_of(1, 0, 1))
        assert float(found) == pytest.approx(expected)

    def test_bce_asks_each_logit_alone(self):
        logits = torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1)
        right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(1.0))
        found = bce_loss(logits, torch.zeros(1, 1, 1, dtype=torch.long))
        assert float(found) == pytest.approx((right + math.log1p(math.exp(-1.0))) / 2)
        found = bce_loss(logits, torch.ones(1, 1, 1, dtype=torch.long))
        assert float(found) == pytest.approx((math.log1p(math.exp(2.0)) + wrong) / 2)

    @pytest.mark.parametrize(
        ("both", "first"),
        [(bce_dice_loss, bce_loss), (ce_dice_loss, cross_entropy_loss)],
    )
    def test_compound_losses_are_sums(self, both, first):
        target, weights = target_of(1, 0, UNKNOWN), torch.tensor([1.0, 3.0])
        for options in ({}, {"class_weights": weights}):
            parts = [loss(LOGITS, target, **options) for loss in (first, dice_loss)]
            torch.testing.assert_close(both(LOGITS, target, **options), sum(parts))

    def test_class_weights(self):
        weights, target = torch.tensor([1.0, 3.0]), target_of(1, 0, 1)
        dice = (1 * 1.6 / 2.3 + 3 * 3.0 / 3.7) / 4
        entropy = -(3 * math.log(0.9) + math.log(0.8) + 3 * math.log(0.6)) / 7
        found = dice_loss(LOGITS, target, class_weights=weights)
        assert float(found) == pytest.approx(1 - dice)
        found = cross_entropy_loss(LOGITS, target, class_weights=weights)
        assert float(found) == pytest.approx(entropy)
        each = F.binary_cross_entropy_with_logits(
            LOGITS, F.one_hot(target, 2).movedim(-1, 1).float(), reduction="none"
        )
        expected = (each * weights[None, :, None, None]).mean()
        found = bce_loss(LOGITS, target, class_weights=weights)
        torch.testing.assert_close(found, expected)

    @every_loss
    def test_perfect_is_next_to_zero_and_worst_is_far_from_it(self, loss):
        target = target_of(0, 1, 1, 0)
        certain = 50.0 * (2 * F.one_hot(target, 2).movedim(-1, 1) - 1.0)
        assert float(loss(certain, target)) < 1e-6
        assert float(loss(-certain, target)) >= 1 - 1e-6


class TestOneLogit:
    """K = 1: a sigmoid, and a target of 0 and 1."""

    LOGITS = torch.tensor([2.0, -1.0, 0.5]).reshape(1, 1, 1, 3)

    def test_values(self):
        p = torch.tensor([2.0, -1.0, 0.5]).sigmoid()
        target = target_of(1, 0, 1)
        entropy = F.binary_cross_entropy(p, torch.tensor([1.0, 0.0, 1.0]))
        dice = 2 * (p[0] + p[2]) / (p.sum() + 2)
        torch.testing.assert_close(bce_loss(self.LOGITS, target), entropy)
        torch.testing.assert_close(cross_entropy_loss(self.LOGITS, target), entropy)
        torch.testing.assert_close(dice_loss(self.LOGITS, target), 1 - dice)

    @pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0]), "balanced"])
    def test_two_logits_ask_the_same_question(self, weights):
        """The sigmoid of a difference is the softmax over two."""
        two = torch.cat([torch.zeros_like(self.LOGITS), self.LOGITS], dim=1)
        target = target_of(1, 0, UNKNOWN)
        for loss in (cross_entropy_loss, bce_loss):
            torch.testing.assert_close(
                cross_entropy_loss(two, target, class_weights=weights),
                loss(self.LOGITS, target, class_weights=weights),
            )

    @every_loss
    def test_background_alone_is_finite(self, loss):
        logits = self.LOGITS.clone().requires_grad_()
        loss(logits, target_of(0, 0, 0)).backward()
        assert logits.grad.isfinite().all()


shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
poison = st.sampled_from([0.0, 1e6, math.inf, -math.inf, math.nan])


@every_loss
class TestUnknownPixels:
    @settings(max_examples=60, deadline=None)
    @given(
        shape=shapes,
        n_classes=st.integers(1, 4),
        share=st.floats(0, 1),
        value=poison,
        weighted=st.sampled_from(["no", "balanced", "given"]),
        mark=st.sampled_from([UNKNOWN, 254, -1, -100]),
        seed=st.integers(0, 1000),
    )
    def test_nothing_under_them_counts(
        self, loss, shape, n_classes, share, value, weighted, mark, seed
    ):
        """Neither value nor gradient changes with logits or truth there."""
        generator = torch.Generator().manual_seed(seed)
        batch, height, width = shape
        logits = torch.randn(batch, n_classes, height, width, generator=generator)
        ids = max(n_classes, 2)
        unknown = torch.rand(shape, generator=generator) < share
        known = torch.randint(ids, shape, generator=generator)
        # What the truth was under the mark, and which id marks it.
        targets = [
            torch.where(unknown, torch.randint(ids, shape, generator=generator), known)
            for _ in range(2)
        ]
        for target, sign in zip(targets, (UNKNOWN, mark), strict=True):
            target[unknown] = sign
        changed = torch.where(unknown[:, None], torch.tensor(value), logits)
        weights = {"given": torch.rand(ids, generator=generator)}.get(weighted)

        results = []
        for given_logits, target, sign in zip(
            (logits, changed), targets, (UNKNOWN, mark), strict=True
        ):
            leaf = given_logits.clone().requires_grad_()
            result = loss(
                leaf,
                target,
                ignore_index=sign,
                class_weights="balanced" if weighted == "balanced" else weights,
            )
            result.backward()
            results.append((result.detach(), leaf.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        assert not results[0][1].movedim(1, -1)[unknown].any()

    def test_they_might_as_well_be_missing(self, loss):
        logits = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
        target = torch.randint(3, (1, 4, 6), generator=torch.Generator().manual_seed(1))
        partly = target.clone()
        partly[..., 4:] = UNKNOWN
        torch.testing.assert_close(
            loss(logits, partly), loss(logits[..., :4], target[..., :4])
        )

    def test_any_id_can_mark_them(self, loss):
        logits, target = torch.randn(1, 2, 3, 3), torch.randint(2, (1, 3, 3))
        target[0, 0] = UNKNOWN
        negative = torch.where(target == UNKNOWN, -1, target)
        torch.testing.assert_close(
            loss(logits, negative, ignore_index=-1), loss(logits, target)
        )

    @pytest.mark.parametrize("n_classes", [1, 3])
    def test_nothing_else_gives_zero_and_no_gradient(self, loss, n_classes):
        logits = torch.randn(2, n_classes, 4, 4, requires_grad=True)
        value = loss(logits, torch.full((2, 4, 4), UNKNOWN))
        value.backward()
        assert value.item() == 0
        assert not logits.grad.any()

    def test_labels_may_be_bytes(self, loss):
        logits, target = torch.randn(1, 2, 3, 3), torch.randint(2, (1, 3, 3))
        target[0, 0, 0] = UNKNOWN
        torch.testing.assert_close(loss(logits, target.byte()), loss(logits, target))


class TestWeights:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 1000), n_classes=st.integers(1, 4))
    def test_balanced_is_the_mean_over_the_classes(self, seed, n_classes):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, n_classes, 3, 5, generator=generator)
        target = torch.randint(max(n_classes, 2), (1, 3, 5), generator=generator)
        for loss in (cross_entropy_loss, bce_loss):
            each = []
            for class_id in target.unique():
                alone = torch.where(target == class_id, target, UNKNOWN)
                each.append(loss(logits, alone))
            torch.testing.assert_close(
                loss(logits, target, class_weights="balanced"),
                torch.stack(each).mean(),
            )
        torch.testing.assert_close(
            dice_loss(logits, target, class_weights="balanced"),
            dice_loss(logits, target),
        )

    @every_loss
    def test_a_class_without_weight_teaches_nothing(self, loss):
        """Also where it is the only one: no NaN, which would end training."""
        logits = LOGITS.clone().requires_grad_()
        weights = torch.tensor([0.0, 1.0])
        value = loss(logits, target_of(0, 0, 0), class_weights=weights)
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()
        if loss is not bce_loss and loss is not bce_dice_loss:
            # The binary losses still ask whether it is the other class.
            assert value.item() == 0
            assert not logits.grad.any()

    @every_loss
    @pytest.mark.parametrize(
        "weights", [torch.ones(1), torch.ones(3), -torch.ones(2), "heavy"]
    )
    def test_weights_that_do_not_fit_are_refused(self, loss, weights):
        with pytest.raises(InputError, match=r"one( number)? for each class"):
            loss(LOGITS, target_of(0, 1, 1), class_weights=weights)


@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_cross_entropy_is_torchs(seed, n_classes):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, n_classes, 5, 6, generator=generator)
    target = torch.randint(n_classes, (2, 5, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = UNKNOWN
    target[0, 0, 0] = 0
    weights = torch.rand(n_classes, generator=generator) + 0.1
    for weight in (None, weights):
        torch.testing.assert_close(
            cross_entropy_loss(logits, target, class_weights=weight),
            F.cross_entropy(logits, target, weight, ignore_index=UNKNOWN),
        )


def test_dice_and_cross_entropy_are_monais():
    """Where all classes occur, since MONAI smooths what is absent."""
    monai_losses = pytest.importorskip("monai.losses")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 9, generator=generator)
    target = torch.randint(3, (2, 8, 9), generator=generator)
    options = {"softmax": True, "to_onehot_y": True, "batch": True}
    exact = {"smooth_nr": 0.0, "smooth_dr": 0.0}
    dice = monai_losses.DiceLoss(**options, **exact)
    both = monai_losses.DiceCELoss(**options, **exact)
    torch.testing.assert_close(dice_loss(logits, target), dice(logits, target[:, None]))
    torch.testing.assert_close(
        ce_dice_loss(logits, target), both(logits, target[:, None])
    )
    weights = torch.tensor([1.0, 2.0, 4.0])
    weighted = torch.nn.CrossEntropyLoss(weight=weights)(logits, target)
    torch.testing.assert_close(
        monai_losses.DiceCELoss(**options, **exact, weight=weights, lambda_dice=0.0)(
            logits, target[:, None]
        ),
        weighted,
    )
    torch.testing.assert_close(
        cross_entropy_loss(logits, target, class_weights=weights), weighted
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dice_counts_beyond_the_range_of_half_precision(dtype):
    logits = torch.zeros(1, 2, 300, 300, dtype=dtype)
    target = torch.randint(2, (1, 300, 300), generator=torch.Generator().manual_seed(0))
    assert float(dice_loss(logits, target)) == pytest.approx(0.5, abs=0.01)
    target[:] = 1
    assert float(dice_loss(logits, target)) == pytest.approx(1 / 3, abs=0.01)


@every_loss
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 4, 4), (1, 4, 5)])
def test_shapes_that_do_not_fit_are_refused(loss, shape):
    with pytest.raises(LabelsError, match=r"\(N, K, H, W\), the target \(N, H, W\)"):
        loss(torch.zeros(1, 2, 4, 4), torch.zeros(shape, dtype=torch.long))


@every_loss
@pytest.mark.parametrize("foreign", [3, -1, 254])
def test_ids_beyond_the_classes_are_refused(loss, foreign):
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, 1, 1] = foreign
    with pytest.raises(LabelsError, match="classes 0 to 2"):
        loss(torch.zeros(1, 3, 4, 4), target)
