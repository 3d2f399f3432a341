"""FCN-32s, -16s and -8s as Long et al. 2015 describe them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.models.fcn import bilinear_upsampling
from napari_seg.models.registry import create_model

FCNS = ("fcn32s", "fcn16s", "fcn8s")


def make(arch: str) -> SegmentationModel:
    torch.manual_seed(0)
    return create_model(arch, width=16, classes=["background", "a", "b"]).eval()


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_transposed_convolution_starts_as_bilinear_interpolation(factor):
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        upsampled = bilinear_upsampling(3, factor)(x)
    expected = F.interpolate(
        x, scale_factor=factor, mode="bilinear", align_corners=False
    )
    assert upsampled.shape == expected.shape
    interior = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(upsampled[interior], expected[interior])


def test_transposed_convolutions_are_learned_one_filter_per_class():
    layer = bilinear_upsampling(3, 2)
    assert layer.weight.requires_grad
    assert layer.bias is None
    between = ~torch.eye(3, dtype=torch.bool)
    assert not layer.weight[between].any()


@pytest.mark.parametrize("arch", FCNS)
def test_scores_of_fused_poolings_start_at_zero(arch):
    model = make(arch)
    assert len(model.pool_scores) == len(model.upscore2) == FCNS.index(arch)
    assert not any(parameter.any() for parameter in model.pool_scores.parameters())


def test_finer_networks_start_as_the_coarser_one():
    """Two bilinear steps are not exactly one, yet close where scores are smooth."""
    coarse, *finer = (make(arch) for arch in FCNS)
    shared = {
        key: value
        for key, value in coarse.state_dict().items()
        if not key.startswith("upscore")
    }
    x = torch.rand(1, 1, 192, 192)
    with torch.no_grad():
        expected = coarse(x)[..., 64:-64, 64:-64]
        for model in finer:
            model.load_state_dict(shared, strict=False)
            found = model(x)[..., 64:-64, 64:-64]
            assert (found - expected).abs().mean() < 0.1 * expected.std()


def test_fused_poolings_lie_on_the_grid_of_the_scores():
    """A bright square stays where it is when its scores come from a pooling."""
    model = make("fcn8s")
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.zero_()
        for layer in model.features:
            if isinstance(layer, torch.nn.Conv2d):
                # Each convolution passes the first channel on as it is.
                layer.weight.zero_()
                layer.weight[0, 0, 1, 1] = 1
        model.pool_scores[1].weight[0, 0] = 1
        x = torch.zeros(1, 1, 96, 128)
        x[..., 32:64, 64:96] = 1
        scores = model(x)[0, 0]
    rows, columns = torch.nonzero(scores > 0.5 * scores.max()).float().unbind(1)
    assert abs(float(rows.mean()) - 47.5) < 0.6
    assert abs(float(columns.mean()) - 79.5) < 0.6


def test_dropout_acts_in_training_only():
    model, x = make("fcn8s"), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))
