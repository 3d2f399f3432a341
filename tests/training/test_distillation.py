"""Self-distillation pulls towards the start, only where nothing is labelled."""

from __future__ import annotations

import pytest
import torch

from napari_seg.training.distillation import Distillation

UNKNOWN = 255


@pytest.fixture
def term(tiny_unet):
    return Distillation(tiny_unet().eval(), 2.0)


@pytest.fixture
def images():
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_nothing_is_added_where_the_answer_is_the_same(tiny_unet, term, images):
    with torch.no_grad():
        logits = tiny_unet().eval()(images)
    labels = torch.full((2, 32, 32), UNKNOWN, dtype=torch.uint8)
    assert float(term(images, logits, labels)) == pytest.approx(0, abs=1e-6)


def test_only_unknown_pixels_feel_it(term, images):
    labels = torch.zeros((2, 32, 32), dtype=torch.uint8)
    labels[0, :16] = UNKNOWN
    logits = torch.randn(2, 2, 32, 32, requires_grad=True)
    error = term(images, logits, labels)
    assert error.item() > 0
    error.backward()
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, labels == UNKNOWN)


def test_the_weight_multiplies_it(tiny_unet, term, images):
    labels = torch.full((2, 32, 32), UNKNOWN, dtype=torch.uint8)
    logits = torch.randn(2, 2, 32, 32)
    double = Distillation(tiny_unet().eval(), 4.0)
    one, two = (float(each(images, logits, labels)) for each in (term, double))
    assert two == pytest.approx(2 * one)


def test_where_all_is_known_it_is_zero(term, images):
    labels = torch.zeros((2, 32, 32), dtype=torch.uint8)
    assert float(term(images, torch.randn(2, 2, 32, 32), labels)) == 0
