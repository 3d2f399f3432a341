"""A model made ready to predict, beside the one that goes on training."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_seg.models.layers import Concatenate

__all__ = ["fold_batch_norm", "twin"]

Model = TypeVar("Model", bound=nn.Module)


def twin(model: Model, device: torch.device) -> Model:
    """Return the model in evaluation mode on a device, and leave `model` as it is.

    On the model's own device the twin shares its weights, so that this costs neither
    memory nor time; only convolutions that are followed by batch normalisation have
    weights of their own, into which it is folded. Hooks and mode of the twin are its
    own. It is for one thread at a time, since its passes share memory.
    """
    # Tensors named in the memo are taken from there instead of being copied.
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.detach().to(device), requires_grad=False)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer.detach().to(device) for buffer in model.buffers()}
    made = copy.deepcopy(model, memo).eval()
    fold_batch_norm(made)
    if device.type == "cpu":
        _keep_joined(made)
    return made


def fold_batch_norm(model: nn.Module) -> None:
    """Merge each batch normalisation into the convolution before it, in sequences.

    With fixed statistics both are one linear map; a pass over the features is saved
    (on two CPU cores 6 to 22 % of a U-Net's time).
    """
    for sequence in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for index, (first, second) in enumerate(pairwise(sequence)):
            if not isinstance(second, nn.BatchNorm2d):
                continue
            if type(first) is nn.Conv2d or type(first) is nn.Conv3d:
                sequence[index] = fuse_conv_bn_eval(first, second)
                sequence[index + 1] = nn.Identity()


class _Memory:
    """Memory that is kept from pass to pass, and grows."""

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def take(self, numel: int, like: Tensor) -> Tensor:
        """Return that many numbers; what was taken before is overwritten."""
        if self._kept.numel() < numel or self._kept.dtype != like.dtype:
            self._kept = like.new_empty(0)
            self._kept = like.new_empty(numel)
        return self._kept[:numel]


class _ConcatenateInPlace(Concatenate):
    """Joins feature maps in memory that is kept from pass to pass.

    The system's allocator maps and clears fresh pages for every tensor above 32 MB.
    GPUs do not need this: there PyTorch keeps freed memory itself.
    """

    def __init__(self, memory: _Memory) -> None:
        super().__init__()
        self._memory = memory

    def placed(self, first: Tensor, more: int) -> Tensor:
        """Return a copy of the first map in its place among so many channels more."""
        if not _keeps(first):
            return first
        channels = first.shape[1]
        return self._joined(first, channels + more)[:, :channels].copy_(first)

    def forward(self, *features: Tensor) -> Tensor:
        """Join maps of (N, C_i, …) to (N, ΣC_i, …).

        Valid until the next pass, or until the memory is taken for another map.
        """
        first, *others = features
        if not _keeps(first):
            return super().forward(*features)
        joined = self._joined(first, sum(each.shape[1] for each in features))
        if first.data_ptr() != joined.data_ptr():
            return torch.cat(features, dim=1, out=joined)
        # It was placed there.
        torch.cat(others, dim=1, out=joined[:, first.shape[1] :])
        return joined

    def _joined(self, like: Tensor, channels: int) -> Tensor:
        n, _, *sides = like.shape
        shape = (n, *sides, channels)
        return self._memory.take(math.prod(shape), like).view(shape).movedim(-1, 1)


def _keeps(feature: Tensor) -> bool:
    return torch.is_inference_mode_enabled() and feature.device.type == "cpu"


def _keep_joined(model: nn.Module) -> None:
    shared = _Memory()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is Concatenate:
                memory = shared if child.brief else _Memory()
                setattr(parent, name, _ConcatenateInPlace(memory))
