"""Outputs against a second derivation, written from state dicts and functions alone.

torchvision cannot be installed beside the CPU-only torch of the tests.  These functions
compute what its documentation and the papers say, from the parameter names of its
files; weights and statistics are random, so that no layer can hide.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.models.encoders import create_resnet, vgg_features
from napari_seg.models.pretrained import read_published
from napari_seg.models.registry import create_model
from tests.weight_server import as_pth

State = dict[str, Tensor]

VOC = [f"class {index}" for index in range(21)]
#: Of the image for the VOC models: wide enough for the reach of dilated kernels.
SIZE = (33, 97)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
#: Positions of VGG-16's convolutions (torchvision's ``features``) by stage.
VGG16 = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
VGG16_BN = ((0, 3), (7, 10), (14, 17, 20), (24, 27, 30), (34, 37, 40))


def shake(state: State) -> State:
    """Return values for these names that keep activations between tiny and huge."""
    torch.manual_seed(7)
    shaken = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            shaken[key] = torch.tensor(0)
        elif value.ndim == 4:
            shaken[key] = torch.randn(value.shape) / value[0].numel() ** 0.5
        elif key.endswith(("running_var", "weight")):
            shaken[key] = torch.rand(value.shape) + 0.5
        else:
            shaken[key] = torch.randn(value.shape) / 4
    return shaken


def bn(x: Tensor, state: State, name: str) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    scale = weight / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def conv(
    x: Tensor, state: State, name: str, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Convolve; padded so that only the stride makes the map smaller."""
    weight = state[f"{name}.weight"]
    padding = weight.shape[-1] // 2 * dilation
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, dilation)


def block(x: Tensor, state: State, name: str, stride: int, dilation: int) -> Tensor:
    """He et al. 2016, Fig. 5; in a bottleneck the 3×3 convolution has the stride."""
    shortcut = x
    if f"{name}.downsample.0.weight" in state:
        shortcut = conv(x, state, f"{name}.downsample.0", stride)
        shortcut = bn(shortcut, state, f"{name}.downsample.1")
    if f"{name}.conv3.weight" in state:
        x = F.relu(bn(conv(x, state, f"{name}.conv1"), state, f"{name}.bn1"))
        x = conv(x, state, f"{name}.conv2", stride, dilation)
        x = F.relu(bn(x, state, f"{name}.bn2"))
        x = bn(conv(x, state, f"{name}.conv3"), state, f"{name}.bn3")
    else:
        x = conv(x, state, f"{name}.conv1", stride, dilation)
        x = F.relu(bn(x, state, f"{name}.bn1"))
        x = bn(conv(x, state, f"{name}.conv2"), state, f"{name}.bn2")
    return F.relu(x + shortcut)


def resnet(
    x: Tensor, state: State, blocks: tuple[int, ...], prefix: str = "", *, dilated: bool
) -> list[Tensor]:
    """Return the maps of the four stages.

    Dilated is ``replace_stride_with_dilation=[False, True, True]``: the strides of the
    last two stages become dilations 2 and 4, from the second block of a stage on.
    """
    x = F.relu(bn(conv(x, state, f"{prefix}conv1", 2), state, f"{prefix}bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    plain = ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1))
    atrous = ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4))
    stages = []
    for stage, (stride, first, others) in enumerate(atrous if dilated else plain):
        for index in range(blocks[stage]):
            name = f"{prefix}layer{stage + 1}.{index}"
            x = (
                block(x, state, name, 1, others)
                if index
                else block(x, state, name, stride, first)
            )
        stages.append(x)
    return stages


def fcn_head(x: Tensor, state: State, name: str) -> Tensor:
    x = F.relu(bn(conv(x, state, f"{name}.0"), state, f"{name}.1"))
    return conv(x, state, f"{name}.4")


def deeplab_head(x: Tensor, state: State, name: str) -> Tensor:
    """Chen et al. 2017, Sec. 3.3: five branches, concatenated and projected."""
    aspp = f"{name}.0"
    branches = [
        F.relu(
            bn(
                conv(x, state, f"{aspp}.convs.{index}.0", 1, rate),
                state,
                f"{aspp}.convs.{index}.1",
            )
        )
        for index, rate in enumerate((1, 12, 24, 36))
    ]
    pooled = conv(x.mean((2, 3), keepdim=True), state, f"{aspp}.convs.4.1")
    pooled = F.relu(bn(pooled, state, f"{aspp}.convs.4.2"))
    x = torch.cat([*branches, pooled.expand_as(branches[0])], 1)
    x = F.relu(bn(conv(x, state, f"{aspp}.project.0"), state, f"{aspp}.project.1"))
    x = F.relu(bn(conv(x, state, f"{name}.1"), state, f"{name}.2"))
    return conv(x, state, f"{name}.4")


def vgg(
    x: Tensor, state: State, stages: tuple[tuple[int, ...], ...], *, norm: bool
) -> Tensor:
    for stage in stages:
        for index in stage:
            x = conv(x, state, f"{index}")
            x = F.relu(bn(x, state, f"{index + 1}") if norm else x)
        x = F.max_pool2d(x, 2)
    return x


def agree(mine: Tensor, theirs: Tensor) -> None:
    """To 1e-4 of values of the size of one."""
    size = theirs.abs().max()
    assert 1e-3 < size < 1e4
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(size))


@torch.inference_mode()
def test_resnet_of_basic_blocks():
    encoder = create_resnet("resnet18", 3).eval()
    encoder.load_state_dict(shake(encoder.state_dict()))
    x = torch.randn(1, 3, 33, 65)
    theirs = resnet(x, encoder.state_dict(), BLOCKS["resnet18"], dilated=False)
    for mine, expected in zip(encoder(x)[1:], theirs, strict=True):
        agree(mine, expected)


@pytest.fixture(scope="module")
def backbone() -> tuple[State, Tensor, list[Tensor]]:
    """Return the weights of a dilated ResNet-50, an image, and the maps of both."""
    with torch.device("meta"):
        names = create_resnet("resnet50", 3).state_dict()
    state = {f"backbone.{key}": value for key, value in shake(names).items()}
    x = torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        maps = resnet(x, state, BLOCKS["resnet50"], "backbone.", dilated=True)
    return state, x, maps


@pytest.mark.parametrize(
    ("arch", "head"), [("fcn", fcn_head), ("deeplabv3", deeplab_head)]
)
@torch.inference_mode()
def test_voc_models(arch, head, backbone, tmp_path):
    """From the file as it is published to both outputs, dilated bottlenecks within."""
    weights, x, (*_, deep, deepest) = backbone
    with torch.device("meta"):
        model = create_model(arch, 3, VOC, "resnet50", auxiliary_head=True).eval()
    heads = {k: v for k, v in model.state_dict().items() if "classifier" in k}
    path = tmp_path / "published.pth"
    path.write_bytes(as_pth(weights | shake(heads)))
    state = read_published(path)
    model.load_state_dict(state, strict=True, assign=True)
    assert deepest.shape[-2:] == (5, 13)
    logits = head(deepest, state, "classifier")
    agree(model(x), F.interpolate(logits, SIZE, mode="bilinear", align_corners=False))
    auxiliary = model.get_submodule("aux_classifier")(deep)
    agree(auxiliary, fcn_head(deep, state, "aux_classifier"))


@pytest.mark.parametrize(("name", "stages"), [("vgg16", VGG16), ("vgg16_bn", VGG16_BN)])
@torch.inference_mode()
def test_vggs(name, stages):
    features = vgg_features(name, 3).eval()
    features.load_state_dict(shake(features.state_dict()))
    x = torch.randn(1, 3, 32, 64)
    theirs = vgg(x, features.state_dict(), stages, norm=name.endswith("bn"))
    agree(features(x), theirs)
