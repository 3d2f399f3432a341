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


#: Below so many values of a channel in a batch, their mean and variance say little.
_FEW_VALUES = 16
#: How far renormalisation goes at most: ratio and distance, in standard deviations.
_RATIO, _DISTANCE = 3.0, 5.0


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also trains where a channel has few values.

    Small feature maps of small batches (ASPP's image pooling has one value for each
    image, a 32-pixel crop at stride 32 too) have a mean and a variance that say more
    about the batch than about the data: two values become -1 and 1 whatever they
    were. Below 16 values the running statistics normalise, as they do in prediction,
    and learn from the batch; a single one, where torch raises, teaches them nothing.

    Attributes
    ----------
    renormalizes : bool
        Whether training, too, normalises by the running statistics as far as those of
        the batch are near them, while gradients flow as through those of the batch
        (batch renormalisation: Ioffe 2017, arXiv:1702.03275, Algorithm 1).
    """

    renormalizes = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features, shape (N, C, H, W)."""
        values = x.shape[0] * x.shape[2] * x.shape[3]
        if self.training and self.renormalizes and values >= _FEW_VALUES:
            return self._renormalized(x)
        if not self.training or values >= _FEW_VALUES:
            return super().forward(x)
        if values > 1:
            with torch.no_grad():
                super().forward(x)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            eps=self.eps,
        )

    def _renormalized(self, x: Tensor) -> Tensor:
        """Normalise by the batch, then scale and shift to the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
            running = (self.running_var + self.eps).sqrt()
            ratio = (variance + self.eps).sqrt() / running
            ratio = ratio.clamp(1 / _RATIO, _RATIO)
            distance = (mean - self.running_mean) / running
            distance = distance.clamp(-_DISTANCE, _DISTANCE)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight * ratio,
            self.weight * distance + self.bias,
            training=True,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )


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
