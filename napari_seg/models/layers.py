"""Layers shared by the architectures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BatchNorm2d",
    "BatchNorm3d",
    "Concatenate",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "Prior",
    "interpolate",
    "pad_to_multiple",
]


#: Below so many values of a channel in a batch, their mean and variance say little.
_FEW_VALUES = 16
#: Logarithm of the ratio of old and new variances of a layer, median over its channels,
#: beyond which the old ones do not fit: deviations five times as large or small. From
#: `nuclei` and `generic` to images of eight kinds it came to 2.9 at most in 22 steps.
_STRANGE = math.log(25)


@dataclass(frozen=True)
class Prior:
    """Statistics of an earlier training that a later one blends with its batches.

    The mean and the variance that normalise are those of a mixture of both (as
    Schneider et al. 2020, arXiv:2006.16971, adapt a network to images of another
    kind). A layer's old statistics count only as long as they fit: normalised by some
    that are far off, all features are alike, and nothing is learned.

    Attributes
    ----------
    mean, variance : Tensor
        Of each channel, shape (C,).
    share : float
        What the batch counts for, 0 to 1, where they fit.
    """

    mean: Tensor
    variance: Tensor
    share: float

    def blended(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the mixture with those of a batch, (C,) each."""
        share = self._share(variance)
        far = mean - self.mean
        blend = torch.lerp(self.mean, mean, share)
        spread = torch.lerp(self.variance, variance, share)
        return blend, torch.addcmul(spread, far.square(), share * (1 - share))

    def _share(self, variance: Tensor) -> Tensor:
        """Return what the batch counts for; a tensor, so that no GPU is waited for."""
        tiny = torch.finfo(variance.dtype).tiny
        ratios = variance.clamp_min(tiny) / self.variance.clamp_min(tiny)
        strange = ratios.log().median().abs() > _STRANGE
        return torch.where(strange, 1.0, self.share)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also trains where a channel has few values.

    Small feature maps of small batches (ASPP's image pooling has one value for each
    image, a 32-pixel crop at stride 32 too) have a mean and a variance that say more
    about the batch than about the data: two values become -1 and 1 whatever they
    were. Below 16 values the running statistics normalise, as they do in prediction,
    and learn from the batch; a single one, where torch raises, teaches them nothing.

    Attributes
    ----------
    prior : Prior or None
        Statistics that training holds on to; see :class:`Prior`.
    """

    prior: Prior | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features, shape (N, C, H, W)."""
        values = x.numel() // x.shape[1]
        if self.training and self.prior is not None and values >= _FEW_VALUES:
            return self._blended(x, self.prior)
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

    def _blended(self, x: Tensor, prior: Prior) -> Tensor:
        """Normalise by the batch in one pass, then scale and shift to the blend.

        Gradients flow as through the statistics of the batch (as in batch
        renormalisation: Ioffe 2017, arXiv:1702.03275).
        """
        with torch.no_grad():
            mean, variance = self._of_batch(x)
            blend, spread = prior.blended(mean, variance)
            deviation = (spread + self.eps).sqrt()
            scale = (variance + self.eps).sqrt() / deviation
            shift = (mean - blend) / deviation
            momentum = self.momentum or 0.0
            for running, new in (
                (self.running_mean, blend),
                (self.running_var, spread),
            ):
                if running is not None:
                    running.lerp_(new, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            None,
            None,
            self.weight * scale,
            torch.addcmul(self.bias, self.weight, shift),
            training=True,
            eps=self.eps,
        )

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel, (C,) float32 each.

        As normalisation itself finds them, which is ten times as fast on a CPU as a
        reduction of channels that lie side by side, and exact for bfloat16.
        """
        mean, variance = x.new_zeros((2, x.shape[1]), dtype=torch.float32)
        F.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=self.eps)
        values = x.numel() // x.shape[1]
        return mean, variance * ((values - 1) / values)


class BatchNorm3d(BatchNorm2d):
    """The same over volumes, (N, C, D, H, W).

    Not PyTorch's own, so that whatever asks for :class:`BatchNorm2d`, such as the
    choice of statistics in training, finds this one, too.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        _check_volumes(x)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation that also takes feature maps of a single value.

    Such a value is its own mean and becomes 0; torch raises there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features, shape (N, C, H, W)."""
        if x.shape[2:].numel() > 1:
            return super().forward(x)
        centred = x * 0
        ones = (1,) * (x.ndim - 2)
        return centred if not self.affine else centred + self.bias.view(-1, *ones)


class InstanceNorm3d(InstanceNorm2d):
    """The same over volumes, (N, C, D, H, W)."""

    def _get_no_batch_dim(self) -> int:
        return 4

    def _check_input_dim(self, x: Tensor) -> None:
        _check_volumes(x)


def _check_volumes(x: Tensor) -> None:
    if x.ndim != 5:
        raise ValueError(f"{tuple(x.shape)} is not (N, C, D, H, W)")


class Concatenate(nn.Module):
    """Join feature maps along the channels; a module, so that it can be exchanged.

    Parameters
    ----------
    brief : bool
        Whether the network has no use for the joined map any more when the next brief
        one of it is made; in prediction these lie in the same memory.
    """

    def __init__(self, *, brief: bool = False) -> None:
        super().__init__()
        self.brief = brief

    def placed(self, first: Tensor, more: int) -> Tensor:
        """Return what stands for the first map until it is joined.

        A copy where the joined map will be, if that is known; the caller can let go of
        the map itself, then.

        Parameters
        ----------
        first : Tensor
            (N, C, …, H, W).
        more : int
            Channels of the maps that will follow.
        """
        return first

    def forward(self, *features: Tensor) -> Tensor:
        """Join maps of (N, C_i, …, H, W) to (N, ΣC_i, …, H, W)."""
        return torch.cat(features, dim=1)


def interpolate(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize (N, K, h, w) to (N, K, H, W) bilinearly, pixel areas aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int, of_slices: int = 1) -> Tensor:
    """Repeat the last row and column until H and W are multiples of `multiple`.

    Of a volume (N, C, D, H, W) the last slice, too, until D is one of `of_slices`.
    """
    height, width = x.shape[-2:]
    bottom, right = (-height) % multiple, (-width) % multiple
    deeper = (-x.shape[-3]) % of_slices if x.ndim == 5 else 0
    # A trace keeps the way that one example took: it has to pad for other sizes, too.
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not (bottom or right or deeper or tracing):
        return x
    sides = (0, right, 0, bottom) + (0, deeper) * (x.ndim == 5)
    return F.pad(x, sides, mode="replicate")
