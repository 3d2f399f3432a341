"""Encoders: residual networks and VGG-16, with torchvision's parameter names.

The names (``layer1.0.conv1.weight``, ``features.0.weight``) are those of the files
that torchvision publishes, so that those files load with ``strict=True``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from napari_seg.errors import InputError
from napari_seg.models.layers import BatchNorm2d

__all__ = ["RESNETS", "VGGS", "ResNet", "create_resnet", "vgg_features"]


def _conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, dilation, dilation, bias=False
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, Fig. 5 left).

    `dilations` are those of the first and of the second.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilations: tuple[int, int],
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, dilations[0])
        self.bn1 = BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(channels, channels, 1, dilations[1])
        self.bn2 = BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (He et al. 2016, Fig. 5 right).

    The stride sits on the 3×3 convolution, as in torchvision's files ("ResNet v1.5");
    its dilation is the first of `dilations`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilations: tuple[int, int],
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride, dilations[0])
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = BatchNorm2d(channels * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, 4 channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]


class _Layout(NamedTuple):
    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]


RESNETS = {
    "resnet18": _Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Layout(Bottleneck, (3, 4, 6, 3)),
    "resnet101": _Layout(Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """A residual encoder (He et al. 2016, arXiv:1512.03385).

    Parameters
    ----------
    name : str
        A key of :data:`RESNETS`.
    in_channels : int
        Channels of the image.
    output_stride : int
        32, 16 or 8: the last stages trade their stride for atrous (dilated)
        convolutions (Chen et al. 2017, arXiv:1706.05587, Sec. 3.1).

    Attributes
    ----------
    channels : tuple of int
        Channels of the five feature maps that :meth:`forward` returns.
    """

    def __init__(self, name: str, in_channels: int, output_stride: int = 32) -> None:
        super().__init__()
        block, blocks = RESNETS[name]
        self._block = block
        self._in_channels, self._dilation = 64, 1
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(64, blocks[0], 1, dilate=False)
        self.layer2 = self._stage(128, blocks[1], 2, dilate=False)
        self.layer3 = self._stage(256, blocks[2], 2, dilate=output_stride <= 8)
        self.layer4 = self._stage(512, blocks[3], 2, dilate=output_stride <= 16)
        widths = (64, 128, 256, 512)
        self.channels = (64, *(width * block.expansion for width in widths))
        _initialise(self)

    def _stage(
        self, channels: int, blocks: int, stride: int, *, dilate: bool
    ) -> nn.Sequential:
        block, before = self._block, self._dilation
        if dilate:
            self._dilation *= stride
            stride = 1
        out_channels = channels * block.expansion
        downsample = None
        if stride != 1 or self._in_channels != out_channels:
            downsample = nn.Sequential(
                nn.Conv2d(self._in_channels, out_channels, 1, stride, bias=False),
                BatchNorm2d(out_channels),
            )
        # The convolution that has lost its stride still reads the finer map, so it
        # keeps the dilation of the stage before (as in torchvision); those after it
        # skip what the stride would have left out.
        after = self._dilation
        first = (before, after)
        layers = [block(self._in_channels, channels, stride, first, downsample)]
        self._in_channels = out_channels
        layers += [
            block(out_channels, channels, 1, (after, after), None)
            for _ in range(1, blocks)
        ]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return five feature maps, from stride 2 to the output stride."""
        features = [self.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(features[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def create_resnet(name: str, in_channels: int, output_stride: int = 32) -> ResNet:
    """Return the named :class:`ResNet`.

    Raises
    ------
    InputError
        If `name` is not a residual encoder.
    """
    if name not in RESNETS:
        raise InputError(
            f"Encoder {name!r} does not fit here; choose one of {', '.join(RESNETS)}."
        )
    return ResNet(name, in_channels, output_stride)


# Channels of the 3x3 convolutions of configuration D; "pool" is 2x2 max pooling.
_VGG16: tuple[int | str, ...] = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, "pool", 512, 512, 512, "pool"),
)
VGGS = {"vgg16": False, "vgg16_bn": True}


def vgg_features(name: str, in_channels: int) -> nn.Sequential:
    """Return the convolutional part of VGG-16 (Simonyan & Zisserman 2015, Table 1 D).

    Raises
    ------
    InputError
        If `name` is neither ``vgg16`` nor ``vgg16_bn``.
    """
    if name not in VGGS:
        raise InputError(
            f"Encoder {name!r} does not fit here; choose one of {', '.join(VGGS)}."
        )
    layers: list[nn.Module] = []
    for item in _VGG16:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(nn.Conv2d(in_channels, item, 3, padding=1))
        if VGGS[name]:
            layers.append(BatchNorm2d(item))
        layers.append(nn.ReLU(inplace=True))
        in_channels = item
    features = nn.Sequential(*layers)
    _initialise(features)
    return features


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 initialisation for convolutions before a ReLU."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
