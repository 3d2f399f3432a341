"""Fully convolutional networks (Long, Shelhamer & Darrell 2015, arXiv:1411.4038)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.models.encoders import create_resnet, vgg_features
from napari_seg.models.layers import BatchNorm2d, interpolate, pad_to_multiple
from napari_seg.models.spec import ModelSpec

__all__ = ["FCN8s", "FCN16s", "FCN32s", "FCNHead", "FCNResNet", "bilinear_upsampling"]


def bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Return a learnable transposed convolution that starts as bilinear interpolation.

    The filter is the tent of Long et al. (Sec. 3.3), one for each channel.
    """
    size = 2 * factor
    layer = nn.ConvTranspose2d(
        channels, channels, size, factor, padding=factor // 2, bias=False
    )
    centre = factor - 0.5
    tent = 1 - (torch.arange(size) - centre).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(channels):
            layer.weight[channel, channel] = torch.outer(tent, tent)
    return layer


class _VGGFCN(SegmentationModel):
    """VGG-16 whose fully connected layers have become convolutions.

    The paper pads the image by 100 pixels so that the 7×7 convolution ``fc6`` fits,
    and crops; here ``fc6`` is padded by 3, which leaves the maps aligned.
    """

    stride = 32
    halo = 192
    default_width = 4096
    first_layer = "features.0"
    class_layers = ("score", "pool_scores", "upscore")
    #: Poolings whose scores are fused, from the deepest: VGG's 4th and 3rd.
    fused: ClassVar[tuple[int, ...]] = ()

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width, n_classes = spec.width or self.default_width, spec.n_classes
        self.features = vgg_features(spec.encoder or "vgg16", spec.in_channels)
        self.fc6 = nn.Conv2d(512, width, 7, padding=3)
        self.fc7 = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout2d(0.5)
        self.score = nn.Conv2d(width, n_classes, 1)
        channels = {4: 512, 3: 256}
        self.pool_scores = nn.ModuleList(
            nn.Conv2d(channels[pool], n_classes, 1) for pool in self.fused
        )
        self.upscore2 = nn.ModuleList(
            bilinear_upsampling(n_classes, 2) for _ in self.fused
        )
        self.upscore = bilinear_upsampling(n_classes, 32 // 2 ** len(self.fused))
        self._initialise()

    def _initialise(self) -> None:
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.score.weight, std=0.01)
        # Sec. 4.2: the scores of the pooling layers start at zero, so that the finer
        # nets begin as the coarser one.
        for parameter in self.pool_scores.parameters():
            nn.init.zeros_(parameter)

    def _poolings(self, x: Tensor) -> Iterator[Tensor]:
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                yield x

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, K, H, W)."""
        height, width = x.shape[-2:]
        pools = list(self._poolings(pad_to_multiple(x, self.stride)))
        x = self.dropout(F.relu(self.fc6(pools[-1]), inplace=True))
        x = self.dropout(F.relu(self.fc7(x), inplace=True))
        x = self.score(x)
        for pool, score, up in zip(
            self.fused, self.pool_scores, self.upscore2, strict=True
        ):
            x = up(x) + score(pools[pool - 1])
        return self.upscore(x)[..., :height, :width], None

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return VGG's own parameters, the former fully connected layers included."""
        parts = (self.features, self.fc6, self.fc7)
        return [parameter for part in parts for parameter in part.parameters()]


class FCN32s(_VGGFCN):
    """Scores at stride 32, upsampled at once."""


class FCN16s(_VGGFCN):
    """Scores at stride 32, fused with those of the fourth pooling."""

    fused = (4,)


class FCN8s(_VGGFCN):
    """Scores at stride 32, fused with those of the fourth and third pooling."""

    fused = (4, 3)


class FCNHead(nn.Sequential):
    """3×3 convolution to a quarter of the channels, then 1×1 to the classes."""

    def __init__(self, in_channels: int, n_classes: int) -> None:
        channels = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(channels, n_classes, 1),
        )


class FCNResNet(SegmentationModel):
    """Dilated residual network with an FCN head.

    At output stride 8 it is torchvision's ``fcn_resnet50``. The logits are
    interpolated bilinearly to the size of the input.
    """

    output_strides: ClassVar[tuple[int, ...]] = (8, 16, 32)
    halo = 128
    class_layers = ("classifier.4", "aux_classifier.4")

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.stride = spec.output_stride or self.output_strides[0]
        self.backbone = create_resnet(
            spec.encoder or "resnet50", spec.in_channels, self.stride
        )
        self.classifier = self.create_head(self.backbone.channels[-1], spec.n_classes)
        self.aux_classifier = (
            FCNHead(self.backbone.channels[-2], spec.n_classes)
            if spec.auxiliary_head
            else None
        )

    def create_head(self, in_channels: int, n_classes: int) -> nn.Sequential:
        """Return the layers between the encoder and the logits at the stride."""
        return FCNHead(in_channels, n_classes)

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits and, while training, auxiliary logits (N, K, H, W)."""
        size = x.shape[-2:]
        *_, deep, deepest = self.backbone(x)
        logits = interpolate(self.classifier(deepest), size)
        if self.aux_classifier is None or not self.training:
            return logits, None
        return logits, interpolate(self.aux_classifier(deep), size)
