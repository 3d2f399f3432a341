"""Adapting a model keeps what it has learned."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import adapt_model, create_model

OLD = ("background", "cytoplasm", "nucleus")
#: One of each family.
FAMILIES = [
    ("unet", None),
    ("unet", "resnet18"),
    ("fcn8s", "vgg16"),
    ("fcn", "resnet18"),
    ("deeplabv3", "resnet18"),
    ("deeplabv3plus", "resnet18"),
    ("deeplabv3plus-separable", "resnet18"),
]


def make(arch: str, encoder: str | None, **changes: object) -> SegmentationModel:
    torch.manual_seed(1)
    arch, _, separable = arch.partition("-")
    width = {"unet": 4, "fcn8s": 16}.get(arch)
    options: dict[str, object] = {
        "in_channels": 2,
        "classes": OLD,
        "encoder": encoder,
        "width": width,
        "separable": bool(separable),
        "auxiliary_head": arch in ("fcn", "deeplabv3"),
    }
    model = create_model(arch, **(options | changes))
    if arch == "fcn8s":
        for parameter in model.pool_scores.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
    return model.eval()


def logits(model: SegmentationModel, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize(("arch", "encoder"), FAMILIES)
class TestClasses:
    def test_kept_classes_answer_as_before_wherever_they_stand(self, arch, encoder):
        model, x = make(arch, encoder), torch.rand(1, 2, 64, 48)
        moved = adapt_model(
            model, classes=["nucleus", "new", "background", "cytoplasm"]
        )
        assert moved.spec.classes == ("nucleus", "new", "background", "cytoplasm")
        before, after = logits(model, x), logits(moved, x)
        torch.testing.assert_close(after[:, [2, 3, 0]], before, rtol=1e-4, atol=1e-5)

    def test_a_new_class_wins_no_pixel_before_it_is_trained(self, arch, encoder):
        model, x = make(arch, encoder), torch.rand(1, 2, 64, 64)
        # Only differences between logits count; all of them may be far from zero.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(model.class_layers) and name.endswith("bias"):
                    parameter.sub_(30)
        grown = adapt_model(model, classes=[*OLD, "mitosis", "debris"])
        assert torch.equal(logits(grown, x).argmax(1), logits(model, x).argmax(1))

    def test_dropped_classes_leave_the_others_alone(self, arch, encoder):
        model, x = make(arch, encoder), torch.rand(1, 2, 48, 48)
        fewer = adapt_model(model, classes=["background", "nucleus"])
        torch.testing.assert_close(
            logits(fewer, x), logits(model, x)[:, [0, 2]], rtol=1e-4, atol=1e-5
        )

    def test_an_entirely_new_list_keeps_all_but_the_head(self, arch, encoder):
        model = make(arch, encoder)
        other = adapt_model(model, classes=["void", "fibre"])
        assert logits(other, torch.rand(1, 2, 32, 32)).shape[1] == 2
        new = other.state_dict()
        for key, value in model.state_dict().items():
            if not key.startswith(model.class_layers):
                assert torch.equal(new[key], value), key

    def test_the_given_model_stays_as_it_is(self, arch, encoder):
        model = make(arch, encoder)
        before, spec = copy.deepcopy(model.state_dict()), model.spec
        adapted = adapt_model(model, in_channels=3, classes=["background", "x"])
        with torch.no_grad():
            for parameter in adapted.parameters():
                parameter.zero_()
        assert model.spec is spec
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize(("arch", "encoder"), FAMILIES)
class TestChannels:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_an_image_alike_in_all_channels_gets_the_same_answer(
        self, arch, encoder, channels
    ):
        model, gray = make(arch, encoder), torch.rand(1, 1, 64, 64)
        adapted = adapt_model(model, in_channels=channels)
        assert adapted.spec.in_channels == channels
        before = logits(model, gray.expand(-1, 2, -1, -1))
        after = logits(adapted, gray.expand(-1, channels, -1, -1))
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_nothing_to_adapt_is_an_exact_copy(small_unet):
    model = small_unet()
    twin = adapt_model(model)
    assert twin.spec == model.spec
    for key, value in model.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value)
        assert twin.state_dict()[key].data_ptr() != value.data_ptr()


def test_gray_as_rgb_ends_with_three_channels(small_unet):
    model = small_unet(in_channels=3, gray_as_rgb=True)
    assert adapt_model(model, classes=["background", "x"]).spec.gray_as_rgb
    assert not adapt_model(model, in_channels=1).spec.gray_as_rgb


def test_upsampling_filters_of_kept_classes_move_with_them():
    model = make("fcn8s", "vgg16")
    torch.nn.init.normal_(model.upscore.weight)
    moved = adapt_model(model, classes=["nucleus", "new", "background"])
    old, new = model.upscore.weight.detach(), moved.upscore.weight.detach()
    assert torch.equal(new[0, 0], old[2, 2])
    assert torch.equal(new[2, 0], old[0, 2])
    # A new class starts with interpolation, by itself.
    assert float(new[1, 1].sum()) == pytest.approx(8 * 8)
    assert not new[1, [0, 2]].any()


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_history_stay(small_unet, training):
    model = small_unet().train(training)
    model.spec = model.spec.with_history({"steps": 3})
    adapted = adapt_model(model, classes=["background", "x"])
    assert adapted.training is training
    assert adapted.spec.history == model.spec.history


@pytest.mark.parametrize(
    "changes", [{"in_channels": 0}, {"classes": ["one"]}, {"classes": ["a", "a"]}]
)
def test_what_cannot_be_is_refused(small_unet, changes):
    with pytest.raises(InputError):
        adapt_model(small_unet(), **changes)
