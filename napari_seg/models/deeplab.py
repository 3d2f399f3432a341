"""DeepLab v3 and v3+: atrous convolutions and atrous spatial pyramid pooling.

Chen et al. 2017, "Rethinking Atrous Convolution" (arXiv:1706.05587) and Chen et al.
2018, "Encoder-Decoder with Atrous Separable Convolution" (arXiv:1802.02611).
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_seg.models.base import SegmentationModel
from napari_seg.models.encoders import create_resnet
from napari_seg.models.fcn import FCNResNet
from napari_seg.models.layers import BatchNorm2d, Concatenate, interpolate
from napari_seg.models.objects import in_pixels, object_layer
from napari_seg.models.spec import ModelSpec

__all__ = ["ASPP", "DeepLabV3", "DeepLabV3Plus", "ImagePooling"]


#: Dilations of ASPP by output stride (Chen et al. 2017, Sec. 3.3): the field of view
#: in pixels of the image stays the same.
RATES = {8: (12, 24, 36), 16: (6, 12, 18)}


def _conv_bn_relu(
    in_channels: int, channels: int, size: int, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, channels, size, 1, padding, dilation, groups, bias=False
        ),
        BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def _separable(in_channels: int, channels: int, dilation: int = 1) -> nn.Sequential:
    """Atrous separable convolution (Chen et al. 2018, Sec. 3.1).

    A 3×3 convolution of each channel alone, then a 1×1 convolution across them, each
    with batch normalisation and ReLU as in the authors' program.
    """
    return nn.Sequential(
        *_conv_bn_relu(in_channels, in_channels, 3, dilation, groups=in_channels),
        *_conv_bn_relu(in_channels, channels, 1),
    )


def _conv3x3(
    in_channels: int, channels: int, dilation: int = 1, *, separable: bool = False
) -> nn.Sequential:
    if separable:
        return _separable(in_channels, channels, dilation)
    return _conv_bn_relu(in_channels, channels, 3, dilation)


class ImagePooling(nn.Sequential):
    """Image-level features: the mean over the input, 1×1 convolution, broadcast.

    Attributes
    ----------
    mean : Tensor or None
        (N, in_channels, 1, 1) that stands for the mean over the input: tiles are to see
        the mean of their image, not each its own.
    """

    mean: Tensor | None = None

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W), constant over H and W."""
        average, *layers = self
        pooled: Tensor = average(x) if self.mean is None else self.mean.to(x)
        for layer in layers:
            pooled = layer(pooled)
        return pooled.expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with image-level features.

    Parameters
    ----------
    in_channels : int
        Channels of the encoder's last feature map.
    rates : tuple of int
        Dilations of the 3×3 branches: (12, 24, 36) at output stride 8, (6, 12, 18)
        at 16.
    channels : int
        Channels of each branch and of the result.
    separable : bool
        Whether the 3×3 convolutions are depthwise separable.
    """

    def __init__(
        self,
        in_channels: int,
        rates: tuple[int, ...],
        channels: int = 256,
        *,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                _conv_bn_relu(in_channels, channels, 1),
                *(
                    _conv3x3(in_channels, channels, rate, separable=separable)
                    for rate in rates
                ),
                ImagePooling(in_channels, channels),
            ]
        )
        self.join = Concatenate()
        self.project = nn.Sequential(
            *_conv_bn_relu(len(self.convs) * channels, channels, 1), nn.Dropout(0.5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W)."""
        features = self.join(*(branch(x) for branch in self.convs))
        return self.project(features)  # type: ignore[no-any-return]


class DeepLabV3(FCNResNet):
    """DeepLab v3; at output stride 8 it is torchvision's ``deeplabv3_resnet50``."""

    output_strides = tuple(RATES)
    halo = 160
    global_context = True

    def create_head(self, in_channels: int, n_classes: int) -> nn.Sequential:
        """Return ASPP, a 3×3 convolution and the 1×1 convolution to the classes."""
        return nn.Sequential(
            ASPP(in_channels, RATES[self.stride]),
            *_conv_bn_relu(256, 256, 3),
            nn.Conv2d(256, n_classes, 1),
        )


class DeepLabV3Plus(SegmentationModel):
    """DeepLab v3+: ASPP at output stride 16 or 8, decoder with a low-level skip.

    With ``spec.separable`` the 3×3 convolutions of ASPP and decoder are depthwise
    separable.
    """

    output_strides = (16, 8)
    halo = 160
    global_context = True
    tells_objects = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.stride = spec.output_stride or self.output_strides[0]
        separable = spec.separable
        self.backbone = create_resnet(
            spec.encoder or "resnet34", spec.in_channels, self.stride
        )
        self.aspp = ASPP(
            self.backbone.channels[-1], RATES[self.stride], separable=separable
        )
        # Sec. 4.1: 48 channels keep the low-level features from dominating.
        self.low_level = _conv_bn_relu(self.backbone.channels[1], 48, 1)
        self.decoder = nn.Sequential(
            _conv3x3(256 + 48, 256, separable=separable),
            _conv3x3(256, 256, separable=separable),
        )
        self.join = Concatenate()
        self.head = nn.Conv2d(256, spec.n_classes, 1)
        if spec.object_head:
            # As Panoptic-DeepLab's head for instances, half as wide.
            self.object_head = nn.Sequential(
                _conv3x3(256 + 48, 128, separable=separable),
                _conv3x3(128, 32, separable=separable),
                object_layer(32),
            )

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, K, H, W)."""
        y = self.head(self.decoder(self._features(x)))
        return interpolate(y, x.shape[-2:]), None

    def logits_and_objects(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K, H, W), and what tells objects apart (N, 3, H, W)."""
        features = self._features(x)
        y = self.head(self.decoder(features))
        objects = in_pixels(self.object_head(features))
        return interpolate(y, x.shape[-2:]), interpolate(objects, x.shape[-2:])

    def objects(self, x: Tensor) -> Tensor:
        """Return only what tells objects apart, (N, 3, H, W)."""
        maps = in_pixels(self.object_head(self._features(x)))
        return interpolate(maps, x.shape[-2:])

    def _features(self, x: Tensor) -> Tensor:
        """Return context and low-level features, at a quarter of the size."""
        features = self.backbone(x)
        low = self.low_level(features[1])
        context = interpolate(self.aspp(features[-1]), low.shape[-2:])
        return self.join(context, low)  # type: ignore[no-any-return]
