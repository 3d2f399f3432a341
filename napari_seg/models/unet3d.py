"""3D U-Net (Çiçek et al. 2016, arXiv:1606.06650) for anisotropic volumes."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from napari_seg.models.layers import pad_to_multiple
from napari_seg.models.spec import ModelSpec
from napari_seg.models.unet import (
    Decoder,
    UNetBase,
    UpSteps,
    initialise,
    norm_layer,
)

__all__ = ["Level", "UNet3D", "plan_levels"]

#: From which step between slices, in pixels, a kernel stays within its slice.
_COARSE = 2.0
_INPLANE, _CUBE = (1, 3, 3), (3, 3, 3)


class Level(NamedTuple):
    """Kernel of the convolutions of a level, and the pooling after them."""

    kernel: tuple[int, int, int]
    pooling: tuple[int, int, int]


def plan_levels(anisotropy: float, depth: int) -> list[Level]:
    """Return the levels of a network for voxels of some shape, the finest first.

    As in nnU-Net (Isensee et al. 2021, Nature Methods 18:203–211) a kernel reaches
    into the neighbouring slices only where these are less than two pixels of the level
    away, and slices are pooled only where they lie no coarser than those pixels: what
    the network sees comes closer to a cube from level to level.

    Parameters
    ----------
    anisotropy : float
        Step between slices in pixels; below 1 counts as 1.
    depth : int
        Number of poolings.

    Returns
    -------
    list of Level
        Of length ``depth + 1``; the last one is the bottleneck, not pooled.
    """
    levels, step = [], max(anisotropy, 1.0)
    for level in range(depth + 1):
        kernel = _CUBE if step < _COARSE else _INPLANE
        pools = step <= 1
        down = 2 if pools else 1
        levels.append(Level(kernel, (down, 2, 2) if level < depth else (1, 1, 1)))
        # In pixels of the next level, which are twice as large.
        step = step if pools else step / 2
    return levels


class UNet3D(UNetBase):
    """The 3D U-Net: (N, C, D, H, W) → (N, K, D, H, W), D of any size.

    Convolutions are padded and channels double with each pooling, as in the plain
    :class:`~napari_seg.models.unet.UNet`; the paper, whose networks are wider, doubles
    them within a level already. Batch normalisation stands before each ReLU.
    """

    ndim = 3
    default_depth = 3
    default_width = 16
    first_layer = "encoder.0.0"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width = spec.width or self.default_width
        widths = [width * 2**level for level in range(spec.depth + 1)]
        self.levels = plan_levels(spec.anisotropy or 1.0, spec.depth)
        self.stride = 2**spec.depth
        self.slice_stride = math.prod(level.pooling[0] for level in self.levels)
        self.halo, self.slice_halo = 3 * self.stride, self._slice_halo()
        # These take mean and variance of the whole input.
        self.global_context = spec.norm in ("group", "instance")
        *levels, last = (
            _convolutions(before, after, level.kernel, spec.norm)
            for before, after, level in zip(
                [spec.in_channels, *widths], widths, self.levels, strict=False
            )
        )
        self.encoder = nn.ModuleList(levels)
        self.bottleneck = last
        self.decoder = Decoder(
            _UpBlock(channels, level, spec.norm)
            for channels, level in zip(widths[-2::-1], self.levels[-2::-1], strict=True)
        )
        self.head = nn.Conv3d(width, spec.n_classes, 1)
        initialise(self)

    def _slice_halo(self) -> int:
        """Return three strides; one slice for each kernel if those are not pooled."""
        reaching = sum(level.kernel == _CUBE for level in self.levels)
        return 3 * self.slice_stride if self.slice_stride > 1 else 2 * reaching

    def encode(self, x: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """Return the skips, the deepest first, and what comes from the bottleneck."""
        x = pad_to_multiple(x, self.stride, self.slice_stride)
        skips = []
        for block, level in zip(self.encoder, self.levels, strict=False):
            x = block(x)
            skips.append(x)
            x = F.max_pool3d(x, level.pooling)
        return [*reversed(skips)], self.bottleneck(x)


class _UpBlock(UpSteps):
    """Transposed convolution, concatenated skip, two convolutions."""

    def __init__(self, channels: int, level: Level, norm: str) -> None:
        pooling = level.pooling
        super().__init__(
            nn.ConvTranspose3d(2 * channels, channels, pooling, pooling),
            _convolutions(2 * channels, channels, level.kernel, norm),
        )


def _convolutions(
    in_channels: int, channels: int, kernel: tuple[int, int, int], norm: str
) -> nn.Sequential:
    """Return two convolutions, each followed by normalisation and ReLU."""
    layers: list[nn.Module] = []
    padding, bias = tuple(side // 2 for side in kernel), norm == "none"
    for before in (in_channels, channels):
        layers += [
            nn.Conv3d(before, channels, kernel, padding=padding, bias=bias),  # type: ignore[arg-type]
            norm_layer(norm, channels, 3),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
