"""Layers shared by the architectures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BatchNorm2d",
    "Concatenate",
    "InstanceNorm2d",
    "interpolate",
    "pad_to_multiple",
]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also trains where a channel has a single value.

    One image whose feature map is 1×1 (ASPP's image pooling, or a 32-pixel tile at
    stride 32) has no variance, and torch raises there; the running statistics are
    used instead.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features, shape (N, C, H, W)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias
            )
        return super().forward(x)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation that also takes feature maps of a single value.

    Such a value is its own mean and becomes 0; torch raises there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features, shape (N, C, H, W)."""
        if x.shape[2] * x.shape[3] > 1:
            return super().forward(x)
        centred = x * 0
        return centred if not self.affine else centred + self.bias[:, None, None]


class Concatenate(nn.Module):
    """Join feature maps along the channels; a module, so that it can be exchanged."""

    def forward(self, *features: Tensor) -> Tensor:
        """Join maps of (N, C_i, H, W) to (N, ΣC_i, H, W)."""
        return torch.cat(features, dim=1)


def interpolate(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize (N, K, h, w) to (N, K, H, W) bilinearly, pixel areas aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until H and W are multiples of `multiple`."""
    bottom, right = (-x.shape[-2]) % multiple, (-x.shape[-1]) % multiple
    if not (bottom or right):
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")
