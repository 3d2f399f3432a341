"""What every architecture with every encoder must do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from napari_seg.errors import ChannelError, ImageError, InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import ARCHITECTURES, create_model

CLASSES = ("background", "membrane", "nucleus", "nucleolus")
CHANNELS = 2
#: Those of volumes have tests of their own.
PLANAR = {key: each for key, each in ARCHITECTURES.items() if each.model.ndim == 2}
VGG_FCNS = ("fcn8s", "fcn16s", "fcn32s")
#: Beside every architecture with every encoder, the options of the atrous ones.
VARIANTS = [
    ("fcn", "resnet18", {"output_stride": 32}),
    ("deeplabv3", "resnet18", {"output_stride": 16}),
    ("deeplabv3plus", "resnet18", {"output_stride": 8}),
    ("deeplabv3plus", "resnet18", {"separable": True}),
]
COMBINATIONS = [
    *(
        pytest.param((arch, encoder, {}), id=f"{arch}-{encoder or 'plain'}")
        for arch, architecture in PLANAR.items()
        for encoder in architecture.encoders
    ),
    *(pytest.param(each, id=f"{each[0]}-{next(iter(each[2]))}") for each in VARIANTS),
]


def make(arch: str, encoder: str | None, **changes: object) -> SegmentationModel:
    """Return a network with VGG's fully connected layers narrowed to 64 channels."""
    torch.manual_seed(0)
    options: dict[str, object] = {"in_channels": CHANNELS, "classes": CLASSES}
    if arch in VGG_FCNS:
        options["width"] = 64
    elif arch == "unet" and encoder is None:
        options["width"] = 4
    return create_model(arch, encoder=encoder, **(options | changes))


@pytest.fixture(scope="class", params=COMBINATIONS)
def model(request: pytest.FixtureRequest) -> SegmentationModel:
    """One network for all tests of the class, so that each is made only once."""
    arch, encoder, changes = request.param
    return make(arch, encoder, **changes)


class TestEveryArchitecture:
    def test_spec_tells_how_it_was_made(self, model):
        arch, encoder = model.spec.arch, model.spec.encoder
        assert encoder in ARCHITECTURES[arch].encoders
        assert model.spec.classes == CLASSES
        assert (model.spec.in_channels, model.spec.n_classes) == (CHANNELS, 4)
        assert model.spec.name == arch

    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 65)])
    def test_one_image_gives_logits_of_its_size(self, model, size):
        """Also in training, where a 1×1 map has no variance to normalise with."""
        x = torch.rand(1, CHANNELS, *size)
        for mode in (True, False):
            with torch.no_grad():
                logits = model.train(mode)(x)
            assert logits.shape == (1, len(CLASSES), *size)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()

    def test_images_of_a_batch_do_not_mix(self, model):
        x = torch.rand(2, CHANNELS, 48, 40)
        with torch.no_grad():
            together = model.eval()(x)
            alone = model(x[1:])
        torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4)

    def test_gradients_reach_every_parameter(self, model):
        model.train().zero_grad()
        x = torch.rand(2, CHANNELS, 64, 64)
        nn.functional.cross_entropy(
            model(x), torch.randint(len(CLASSES), (2, 64, 64))
        ).backward()
        unreached = [
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is None
            or not parameter.grad.isfinite().all()
            or not parameter.grad.any()
        ]
        assert not unreached

    def test_shift_by_the_stride_shifts_the_far_side_alike(self, model):
        """Tiles rely on it; image pooling alone sees where the image begins."""
        x = torch.rand(1, CHANNELS, 32, 1024)
        with torch.no_grad():
            whole = model.eval()(x)[..., -32:]
            shifted = model(x[..., model.stride :])[..., -32:]
        alike = torch.allclose(whole, shifted, atol=1e-4 * float(whole.std()))
        assert alike is not model.global_context

    def test_other_channels_are_refused_with_a_way_out(self, model):
        with pytest.raises(
            ChannelError, match=r"takes 2 .* adapt_model.*in_channels=5"
        ):
            model(torch.rand(1, 5, 64, 64))

    @pytest.mark.parametrize("shape", [(1, 2, 31, 64), (1, 2, 64, 31), (2, 64, 64)])
    def test_what_is_too_small_or_no_batch_is_refused(self, model, shape):
        with pytest.raises(ImageError, match="at least 32 pixels"):
            model(torch.rand(shape))

    def test_tiling_figures_fit_together(self, model):
        assert model.halo >= 32
        assert model.halo % model.stride == 0

    def test_encoder_is_a_proper_part(self, model):
        encoder = {id(parameter) for parameter in model.encoder_parameters()}
        everything = {id(parameter) for parameter in model.parameters()}
        assert encoder
        assert encoder < everything


@pytest.mark.parametrize("arch", PLANAR)
@pytest.mark.parametrize(("channels", "n_classes"), [(1, 2), (7, 11)])
def test_any_number_of_channels_and_classes(arch, channels, n_classes):
    classes = [f"class {index}" for index in range(n_classes)]
    light = {"fcn": "resnet18", "deeplabv3": "resnet18", "deeplabv3plus": "resnet18"}
    model = make(arch, light.get(arch), in_channels=channels, classes=classes).eval()
    with torch.no_grad():
        assert model(torch.rand(1, channels, 32, 40)).shape == (1, n_classes, 32, 40)


@pytest.mark.parametrize("arch", ["fcn", "deeplabv3"])
def test_auxiliary_head_serves_training_only(arch):
    model = make(arch, "resnet18", auxiliary_head=True)
    x = torch.rand(2, CHANNELS, 40, 48)
    logits, auxiliary = model.train().forward_with_auxiliary(x)
    assert logits.shape == auxiliary.shape == (2, len(CLASSES), 40, 48)
    auxiliary.mean().backward()
    assert model.aux_classifier[0].weight.grad.any()
    assert model.classifier[-1].weight.grad is None
    assert model.eval().forward_with_auxiliary(x)[1] is None


def test_copies_are_independent():
    model = make("unet", None)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head.bias.add_(1)
    assert not torch.equal(model.head.bias, twin.head.bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "segnet"}, "'segnet' is unknown; choose one of unet, fcn"),
        ({"arch": "unet", "encoder": "vgg16"}, "U-Net has no encoder 'vgg16'"),
        ({"arch": "fcn8s", "encoder": "resnet50"}, "choose one of vgg16, vgg16_bn"),
        ({"arch": "deeplabv3", "encoder": "resnet9"}, "choose one of resnet50"),
        ({"arch": "unet", "auxiliary_head": True}, "fcn and deeplabv3 do"),
        ({"arch": "unet", "output_stride": 8}, "fcn, deeplabv3, deeplabv3plus have"),
        ({"arch": "deeplabv3", "output_stride": 32}, "can be 8 or 16"),
        ({"arch": "deeplabv3plus", "output_stride": 4}, "can be 16 or 8"),
        ({"arch": "deeplabv3", "separable": True}, "deeplabv3plus has"),
        ({"arch": "unet", "norm": "layer"}, "batch, group, instance, none"),
        ({"arch": "unet", "width": 0}, "both start at 1"),
        ({"arch": "unet", "depth": 0}, "both start at 1"),
        ({"arch": "unet", "in_channels": 0}, "in_channels is 0"),
        ({"arch": "unet", "classes": ["cell"]}, "2 to 255 classes"),
        ({"arch": "unet", "classes": [str(i) for i in range(256)]}, "256 classes"),
        ({"arch": "unet", "classes": ["a", "b", "a"]}, "must differ"),
        ({"arch": "unet", "in_channels": 1, "gray_as_rgb": True}, "in_channels=3"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_way_out(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model(**arguments)
