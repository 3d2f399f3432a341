"""U-Net (Ronneberger, Fischer & Brox 2015, arXiv:1505.04597)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.encoders import create_resnet
from napari_seg.models.layers import (
    BatchNorm2d,
    BatchNorm3d,
    Concatenate,
    InstanceNorm2d,
    InstanceNorm3d,
    pad_to_multiple,
)
from napari_seg.models.objects import in_pixels, object_layer
from napari_seg.models.spec import ModelSpec

__all__ = ["NORMS", "ResNetUNet", "UNet", "UNetBase", "initialise", "norm_layer"]

NORMS = ("batch", "group", "instance", "none")


_BATCH_NORMS = {2: BatchNorm2d, 3: BatchNorm3d}
_INSTANCE_NORMS = {2: InstanceNorm2d, 3: InstanceNorm3d}


def norm_layer(kind: str, channels: int, ndim: int = 2) -> nn.Module:
    """Return a normalisation layer for planes or volumes.

    Raises
    ------
    InputError
        If `kind` is none of :data:`NORMS`.
    """
    if kind == "batch":
        return _BATCH_NORMS[ndim](channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    if kind == "instance":
        return _INSTANCE_NORMS[ndim](channels, affine=True)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"norm is {kind!r}; it can be one of {', '.join(NORMS)}.")


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each followed by normalisation and ReLU.

    The convolutions are padded, unlike in the paper: the mask then has the size of
    the image, and the context that the paper crops is supplied as halo of the tile.
    """

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        bias = norm == "none"
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
        )


class UpSteps(nn.Module):
    """What a :class:`Decoder` does at one level, step by step.

    Parameters
    ----------
    upsample : ConvTranspose2d or ConvTranspose3d
        Makes maps of the skip's size.
    convs : Module
        Takes these joined with the skip.
    """

    def __init__(
        self, upsample: nn.ConvTranspose2d | nn.ConvTranspose3d, convs: nn.Module
    ) -> None:
        super().__init__()
        self.channels = upsample.out_channels
        self.upsample = upsample
        self.join = Concatenate(brief=True)
        self.convs = convs


class UpBlock(UpSteps):
    """Transposed convolution ×2, concatenated skip, two convolutions."""

    def __init__(self, in_channels: int, skip: int, channels: int, norm: str) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, channels, 2, 2),
            DoubleConv(channels + skip, channels, norm),
        )


class Decoder(nn.ModuleList):
    """Levels of :class:`UpSteps`, the deepest first."""

    def forward(self, skips: list[Tensor | None], x: Tensor) -> Tensor:
        """Return features of the size of the last skip.

        Parameters
        ----------
        skips : list of (Tensor or None)
            One for each level. Empty in the end: each leaves the list once it is
            joined, and the memory, too, if nobody else holds on to it.
        x : Tensor
            The deepest features.
        """
        for block in self:
            assert isinstance(block, UpSteps)
            # Nothing here or in a caller may hold a map beyond its use: where maps are
            # largest, at the end, those of all other levels would be in memory, too.
            if skips[0] is not None:
                skips[0] = block.join.placed(skips[0], block.channels)
            x = block.upsample(x)
            if skips[0] is not None:
                x = block.join(skips[0], x)
            del skips[0]
            x = block.convs(x)
        return x


class ObjectDecoder(nn.Module):
    """A second, narrower decoder that tells objects apart.

    Parameters
    ----------
    in_channels : int
        Channels of the deepest features.
    skips : sequence of int
        Channels of the skips, the deepest first; 0 is none.
    norm : str
        Normalisation layer.
    """

    _LEAST = 16

    def __init__(self, in_channels: int, skips: Sequence[int], norm: str) -> None:
        super().__init__()
        levels = range(2, len(skips) + 2)
        widths = [max(in_channels >> level, self._LEAST) for level in levels]
        inputs = (in_channels, *widths)
        self.decoder = Decoder(
            UpBlock(before, skip, channels, norm)
            for before, skip, channels in zip(inputs[:-1], skips, widths, strict=True)
        )
        self.head = object_layer(widths[-1])

    def forward(self, skips: list[Tensor | None], x: Tensor) -> Tensor:
        """Return (N, 3, H, W), as :mod:`napari_seg.models.objects` describes it.

        The skips are used up, as by :class:`Decoder`.
        """
        return in_pixels(self.head(self.decoder(skips, x)))


class UNetBase(SegmentationModel):
    """What U-Nets have in common, whatever their encoder and their dimensions."""

    decoder: Decoder
    head: nn.Conv2d | nn.Conv3d
    object_head: nn.Module

    def encode(self, x: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """Return the skips, the deepest first, and the deepest features."""
        raise TypeError(f"{type(self).__name__} does not implement encode().")

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, K, H, W)."""
        return _cut(self._classes(*self.encode(x)), x), None

    def logits_and_objects(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K, H, W), and what tells objects apart (N, 3, H, W)."""
        skips, deepest = self.encode(x)
        logits = _cut(self._classes([*skips], deepest), x)
        return logits, _cut(self.object_head(skips, deepest), x)

    def objects(self, x: Tensor) -> Tensor:
        """Return only what tells objects apart, (N, 3, H, W)."""
        return _cut(self.object_head(*self.encode(x)), x)

    def _classes(self, skips: list[Tensor | None], x: Tensor) -> Tensor:
        return self.head(self.decoder(skips, x))  # type: ignore[no-any-return]


def _cut(padded: Tensor, x: Tensor) -> Tensor:
    """Return what lies over the input, which was padded."""
    inside: tuple[Any, ...] = tuple(slice(side) for side in x.shape[2:])
    return padded[(..., *inside)]


class UNet(UNetBase):
    """The plain U-Net: encoder, bottleneck and decoder with concatenating skips.

    Channels double with each pooling, from ``spec.width``: with 64 and depth 4 these
    are the paper's 31 M parameters, with 16 they are 1.9 M.
    """

    default_width = 32
    tells_objects = True
    first_layer = "encoder.0.0"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width = spec.width or self.default_width
        widths = [width * 2**level for level in range(spec.depth + 1)]
        inputs = [spec.in_channels, *widths]
        self.stride = 2**spec.depth
        # The field of view doubles with each level, as the stride does.
        self.halo = 3 * self.stride
        # These take mean and variance of the whole input.
        self.global_context = spec.norm in ("group", "instance")
        levels = [
            DoubleConv(before, after, spec.norm)
            for before, after in zip(inputs[:-2], widths[:-1], strict=True)
        ]
        self.encoder = nn.ModuleList(levels)
        self.bottleneck = DoubleConv(widths[-2], widths[-1], spec.norm)
        self.decoder = Decoder(
            UpBlock(2 * channels, channels, channels, spec.norm)
            for channels in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(width, spec.n_classes, 1)
        if spec.object_head:
            self.object_head = ObjectDecoder(widths[-1], widths[-2::-1], spec.norm)
        initialise(self)

    def encode(self, x: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """Return the skips, the deepest first, and what comes from the bottleneck."""
        x = pad_to_multiple(x, self.stride)
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        return [*reversed(skips)], self.bottleneck(x)


class ResNetUNet(UNetBase):
    """U-Net whose encoder is a residual network, with skips at strides 2 to 16."""

    stride = 32
    halo = 128
    tells_objects = True
    first_layer = "encoder.conv1"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.encoder = create_resnet(spec.encoder or "resnet34", spec.in_channels)
        widths = (256, 128, 64, 32, 16)
        inputs = (self.encoder.channels[-1], *widths)
        skips = (*reversed(self.encoder.channels[:-1]), 0)
        self.decoder = Decoder(
            UpBlock(before, skip, channels, spec.norm)
            for before, skip, channels in zip(inputs[:-1], skips, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], spec.n_classes, 1)
        if spec.object_head:
            self.object_head = ObjectDecoder(inputs[0], skips, spec.norm)
            initialise(self.object_head)
        initialise(self.decoder)

    def encode(self, x: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """Return the skips, the deepest first, and the encoder's last features."""
        *skips, x = self.encoder(pad_to_multiple(x, self.stride))
        return [*reversed(skips), None], x


_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)


def initialise(module: nn.Module) -> None:
    """He et al. 2015, as the paper asks for (Sec. 3): variance 2 / fan-in."""
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
