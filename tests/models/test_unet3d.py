"""The 3D U-Net: sizes, anisotropy, files, and what it is refused for."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from napari_seg.errors import ChannelError, ImageError, InputError
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import adapt_model, create_model, parameter_count
from napari_seg.models.spec import ModelSpec
from napari_seg.models.unet3d import plan_levels

CLASSES = ("background", "membrane", "nucleus")


def make(**changes):
    torch.manual_seed(0)
    options = {"in_channels": 2, "classes": CLASSES, "width": 4, "anisotropy": 2.0}
    return create_model("unet3d", **(options | changes))


@pytest.mark.parametrize("shape", [(1, 32, 32), (5, 33, 47), (8, 40, 64)])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_volumes_of_any_size_give_logits_of_that_size(shape, norm):
    """Also in training, where one deep voxel has no variance to normalise with."""
    model = make(norm=norm)
    for mode in (True, False):
        with torch.no_grad():
            logits = model.train(mode)(torch.rand(1, 2, *shape))
        assert logits.shape == (1, 3, *shape)
        assert logits.isfinite().all()


def test_kernels_and_poolings_follow_the_step_between_slices():
    cubes = plan_levels(1.0, 3)
    assert {level.kernel for level in cubes} == {(3, 3, 3)}
    assert [level.pooling[0] for level in cubes] == [2, 2, 2, 1]
    coarse = plan_levels(4.0, 3)
    assert [level.kernel[0] for level in coarse] == [1, 1, 3, 3]
    assert [level.pooling[0] for level in coarse] == [1, 1, 2, 1]
    assert {level.pooling[1:] for level in coarse[:3]} == {(2, 2)}
    # Finer slices than pixels are pooled as cubes are.
    assert plan_levels(0.3, 2) == plan_levels(1.0, 2)


def test_strides_tell_where_the_network_repeats_itself():
    model = make(anisotropy=2.0, depth=2).eval()
    assert model.strides == (2, 4, 4)
    x = torch.rand(1, 2, 40, 48, 48)
    with torch.no_grad():
        whole, later = model(x), model(x[:, :, 2:])
    torch.testing.assert_close(whole[:, :, -4:], later[:, :, -4:], atol=1e-4, rtol=0)


def test_gradients_reach_every_parameter():
    model = make().train()
    target = torch.randint(3, (2, 8, 32, 32))
    nn.functional.cross_entropy(model(torch.rand(2, 2, 8, 32, 32)), target).backward()
    assert all(bool(p.grad.any()) for p in model.parameters())


def test_file_keeps_answers_and_shape_of_voxels(tmp_path):
    model = make(anisotropy=2.5, name="embryo").eval()
    loaded = load_model(save_model(model, tmp_path / "embryo"))
    assert loaded.spec == model.spec
    assert (loaded.spec.ndim, loaded.spec.anisotropy) == (3, 2.5)
    x = torch.rand(1, 2, 6, 32, 40)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x))


def test_specs_of_before_are_of_planes():
    told = create_model("unet", width=4).spec.to_dict()
    del told["anisotropy"]
    spec = ModelSpec.from_dict(json.loads(json.dumps(told)))
    assert (spec.ndim, spec.anisotropy) == (2, None)


def test_other_channels_and_classes_keep_what_fits():
    model = make().eval()
    adapted = adapt_model(model, in_channels=1, classes=[*CLASSES, "nucleolus"])
    x = torch.rand(1, 1, 4, 32, 32)
    with torch.no_grad():
        before, after = model(x.expand(-1, 2, -1, -1, -1)), adapted(x)
    torch.testing.assert_close(after[:, :3], before, atol=1e-4, rtol=1e-4)
    assert bool((after.argmax(1) < 3).all())


def test_defaults_are_small_and_cubic():
    model = create_model("unet3d")
    assert (model.spec.anisotropy, model.spec.depth) == (1.0, 3)
    assert parameter_count(model) < 2e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "unet", "anisotropy": 2.0}, "leave it out for U-Net, or take unet3d"),
        ({"arch": "unet3d", "anisotropy": 0.0}, "anisotropy is 0"),
        ({"arch": "unet3d", "in_channels": 3, "slices": 3}, "needs no neighbours"),
        ({"arch": "unet3d", "encoder": "resnet18"}, "3D U-Net has no encoder"),
        ({"arch": "unet3d", "norm": "layer"}, "batch, group, instance, none"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_way_out(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model(**arguments)


def test_planes_and_other_channels_are_refused():
    model = make()
    with pytest.raises(ImageError, match=r"takes \(N, C, D, H, W\)"):
        model(torch.rand(1, 2, 64, 64))
    with pytest.raises(ChannelError, match="takes 2"):
        model(torch.rand(1, 1, 4, 64, 64))
