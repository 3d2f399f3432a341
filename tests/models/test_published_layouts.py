"""Parameter names, shapes and counts against those that torchvision publishes.

torchvision cannot be installed beside the CPU-only torch of the tests, so its layouts
are written down here as rules (torchvision 0.19, ``models/resnet.py``, ``vgg.py`` and
``segmentation/``).  Networks are made on the meta device: shapes without memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from napari_seg.models.encoders import create_resnet, vgg_features
from napari_seg.models.registry import create_model, parameter_count

Layout = dict[str, tuple[int, ...]]

VOC = [f"class {index}" for index in range(21)]
#: Blocks of each stage, and by how much a block widens its channels.
RESNETS = {
    "resnet18": ((2, 2, 2, 2), 1),
    "resnet34": ((3, 4, 6, 3), 1),
    "resnet50": ((3, 4, 6, 3), 4),
    "resnet101": ((3, 4, 23, 3), 4),
}


def norm(name: str, channels: int) -> Layout:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{name}.{part}": (channels,) for part in parts},
        f"{name}.num_batches_tracked": (),
    }


def conv(name: str, outputs: int, inputs: int, size: int) -> Layout:
    return {f"{name}.weight": (outputs, inputs, size, size)}


def biased(name: str, outputs: int, inputs: int, size: int) -> Layout:
    return conv(name, outputs, inputs, size) | {f"{name}.bias": (outputs,)}


def block(name: str, inputs: int, width: int, expansion: int) -> Layout:
    """A basic block has two 3×3 convolutions, a bottleneck 1×1, 3×3, 1×1."""
    convs = (
        [(width, inputs, 3), (width, width, 3)]
        if expansion == 1
        else [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
    )
    layout: Layout = {}
    for index, shape in enumerate(convs, start=1):
        layout |= conv(f"{name}.conv{index}", *shape)
        layout |= norm(f"{name}.bn{index}", shape[0])
    return layout


def resnet(name: str, prefix: str = "") -> Layout:
    """Everything but ``fc``."""
    blocks, expansion = RESNETS[name]
    layout = conv(f"{prefix}conv1", 64, 3, 7) | norm(f"{prefix}bn1", 64)
    inputs = 64
    for stage, count in enumerate(blocks, start=1):
        width = 32 * 2**stage
        outputs = width * expansion
        for index in range(count):
            unit = f"{prefix}layer{stage}.{index}"
            layout |= block(unit, inputs, width, expansion)
            if index == 0 and (stage > 1 or inputs != outputs):
                layout |= conv(f"{unit}.downsample.0", outputs, inputs, 1)
                layout |= norm(f"{unit}.downsample.1", outputs)
            inputs = outputs
    return layout


def fcn_head(prefix: str, inputs: int) -> Layout:
    return (
        conv(f"{prefix}.0", inputs // 4, inputs, 3)
        | norm(f"{prefix}.1", inputs // 4)
        | biased(f"{prefix}.4", 21, inputs // 4, 1)
    )


def deeplab_head(prefix: str, inputs: int) -> Layout:
    layout: Layout = {}
    for branch, size in enumerate((1, 3, 3, 3)):
        layout |= conv(f"{prefix}.0.convs.{branch}.0", 256, inputs, size)
        layout |= norm(f"{prefix}.0.convs.{branch}.1", 256)
    layout |= conv(f"{prefix}.0.convs.4.1", 256, inputs, 1)
    layout |= norm(f"{prefix}.0.convs.4.2", 256)
    layout |= conv(f"{prefix}.0.project.0", 256, 5 * 256, 1)
    layout |= norm(f"{prefix}.0.project.1", 256)
    layout |= conv(f"{prefix}.1", 256, 256, 3) | norm(f"{prefix}.2", 256)
    return layout | biased(f"{prefix}.4", 21, 256, 1)


def vgg16(*, batch_norm: bool) -> Iterator[Layout]:
    """``features`` of configuration D: index in the sequence, poolings included."""
    index, inputs = 0, 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            yield biased(f"{index}", width, inputs, 3)
            if batch_norm:
                yield norm(f"{index + 1}", width)
            index, inputs = index + 2 + batch_norm, width
        index += 1


def layout_of(module: torch.nn.Module) -> Layout:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def voc_model(arch: str, encoder: str) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(arch, 3, VOC, encoder, auxiliary_head=True)


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_torchvisions_layout(name):
    with torch.device("meta"):
        assert layout_of(create_resnet(name, 3)) == resnet(name)


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg_features_have_torchvisions_layout(name):
    expected: Layout = {}
    for part in vgg16(batch_norm=name == "vgg16_bn"):
        expected |= part
    with torch.device("meta"):
        assert layout_of(vgg_features(name, 3)) == expected


@pytest.mark.parametrize("encoder", ["resnet50", "resnet101"])
@pytest.mark.parametrize(
    ("arch", "head"), [("fcn", fcn_head), ("deeplabv3", deeplab_head)]
)
def test_voc_models_have_torchvisions_layout(arch, head, encoder):
    assert layout_of(voc_model(arch, encoder)) == (
        resnet(encoder, "backbone.")
        | head("classifier", 2048)
        | fcn_head("aux_classifier", 1024)
    )


@pytest.mark.parametrize(
    ("arch", "encoder", "parameters"),
    [
        ("fcn", "resnet50", 35_322_218),
        ("fcn", "resnet101", 54_314_346),
        ("deeplabv3", "resnet50", 42_004_074),
        ("deeplabv3", "resnet101", 60_996_202),
    ],
)
def test_voc_models_have_torchvisions_parameter_counts(arch, encoder, parameters):
    """``num_params`` of torchvision's weights, auxiliary head included."""
    assert parameter_count(voc_model(arch, encoder)) == parameters


@pytest.mark.parametrize(
    ("name", "parameters", "last"),
    [
        ("resnet18", 11_689_512, 512),
        ("resnet34", 21_797_672, 512),
        ("resnet50", 25_557_032, 2048),
        ("resnet101", 44_549_160, 2048),
    ],
)
def test_resnets_have_the_published_counts_without_fc(name, parameters, last):
    with torch.device("meta"):
        encoder = create_resnet(name, 3)
    assert parameter_count(encoder) == parameters - 1000 * (last + 1)
    assert encoder.channels[-1] == last


def test_fcn_at_full_width_is_vgg16_without_its_last_layer():
    """138 357 544 parameters, of which 1000 × 4097 score ImageNet's classes."""
    with torch.device("meta"):
        model = create_model("fcn32s", 3, VOC)
    encoder = sum(parameter.numel() for parameter in model.encoder_parameters())
    assert encoder == 138_357_544 - 1000 * 4097


def test_unet_of_the_paper():
    """31.03 M with biased convolutions; here normalisation takes their place."""
    with torch.device("meta"):
        plain = create_model("unet", 1, ["background", "cell"], width=64, norm="none")
        usual = create_model("unet", 1, ["background", "cell"], width=64)
        laptop = create_model("unet", 1, ["background", "cell"], width=8)
    assert parameter_count(plain) == 31_030_658
    assert round(parameter_count(usual) / 1e6, 1) == 31.0
    assert round(parameter_count(laptop) / 1e6, 1) == 0.5
