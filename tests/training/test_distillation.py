"""Self-distillation holds to the start where it is asked to, and only there."""

from __future__ import annotations

import pytest
import torch

from napari_seg.training.distillation import Distillation

UNKNOWN = 255


@pytest.fixture
def teacher(tiny_unet):
    return tiny_unet().eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels(teacher, images):
    """Return a crop known in its lower half, one known everywhere, one nowhere.

    They say what the start says.
    """
    with torch.no_grad():
        labels = teacher(images).argmax(dim=1).to(torch.uint8)
    labels[0, :16] = labels[2] = UNKNOWN
    return labels


def test_nothing_is_added_where_the_answer_is_the_same(teacher, images, labels):
    with torch.no_grad():
        logits = teacher(images)
    term = Distillation(teacher, 2.0, 2.0)(images, logits, labels, 1)
    assert term.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "replayed", "felt"),
    [
        # What is unknown of replayed images may be held out.
        ((1.0, 0.0), 2, ("lower", "all", "none")),
        ((0.0, 1.0), 0, ("upper", "none", "all")),
        ((0.0, 1.0), 1, ("none", "none", "all")),
        ((1.0, 1.0), 1, ("lower", "none", "all")),
    ],
)
def test_only_what_is_asked_for_feels_it(
    teacher, images, labels, weights, replayed, felt
):
    logits = torch.randn(3, 2, 32, 32, requires_grad=True)
    term = Distillation(teacher, *weights)(images, logits, labels, replayed)
    assert term.item() > 0
    term.backward()
    moved = logits.grad.abs().sum(dim=1) > 0
    for crop, part in zip(moved, felt, strict=True):
        upper, lower = crop[:16], crop[16:]
        assert upper.all() if part in ("all", "upper") else not upper.any()
        assert lower.all() if part in ("all", "lower") else not lower.any()


def test_the_weight_multiplies_it(teacher, images, labels):
    logits = torch.randn(3, 2, 32, 32)
    one, two = (
        Distillation(teacher, weight)(images, logits, labels, 2).item()
        for weight in (2.0, 4.0)
    )
    assert two == pytest.approx(2 * one)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, 0.0)])
def test_where_nothing_is_to_be_held_it_is_zero(teacher, images, labels, weights):
    logits = torch.randn(3, 2, 32, 32)
    assert Distillation(teacher, *weights)(images, logits, labels, 0).item() == 0


def test_a_wrong_answer_is_not_held_to(teacher, images, labels):
    labels[1, 5:9] = 1 - labels[1, 5:9]
    logits = torch.randn(3, 2, 32, 32, requires_grad=True)
    Distillation(teacher, 1.0)(images, logits, labels, 2).backward()
    moved = logits.grad[1].abs().sum(dim=0) > 0
    assert not moved[5:9].any()
    assert moved[:5].all()
