"""How far a network sees."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from napari_seg.inference.twin import twin
from napari_seg.models.base import MIN_SIDE, SegmentationModel

__all__ = ["exact_halo"]

_LARGEST = 8192


def exact_halo(model: SegmentationModel) -> int | None:
    """Return the context with which a tile equals the whole image, in pixels.

    Of a model that sees volumes it is that of the plane, large enough that what
    :func:`napari_seg.predict` takes for it along Z is exact, too.

    Everything beyond one border, which lies on the stride's grid as the borders of
    reads do, is set to NaN; whatever turns NaN on the other side has been influenced.
    Unlike a gradient, NaN passes through dead units and zero weights, so the result
    is a property of the architecture: its full theoretical receptive field. The
    default, ``model.halo``, is the much smaller field in which most of the influence
    lies (Luo et al. 2016, arXiv:1701.04128).

    Parameters
    ----------
    model : SegmentationModel
        On the CPU; left as it is.

    Returns
    -------
    int or None
        A multiple of the stride; None if every pixel depends on the whole input, as
        with the image pooling of ASPP, instance and group normalisation.
    """
    network = twin(model, torch.device("cpu"))
    plane, slices = slice(model.ndim - 2, None), slice(model.ndim - 2)
    size = 8 * max(model.stride, MIN_SIDE)
    while size <= _LARGEST:
        reaches = [
            max(_reach(network, size, axis, side) for side in (0, 1))
            for axis in range(model.ndim)
        ]
        # Half of the input is known: a reach of all of it tells nothing but "more".
        if max(reaches) < size // 2:
            step = max(model.spec.anisotropy or 1.0, 1.0)
            reach = max(*reaches[plane], *(ceil(z * step) for z in reaches[slices]))
            return -(-reach // model.stride) * model.stride
        if model.global_context or _normalizes_by_input(model):
            return None
        size *= 2
    return None


def _reach(network: SegmentationModel, size: int, axis: int, side: int) -> int:
    """Return by how many pixels NaN spreads from one half of a strip to the other."""
    sides = list(network.least)
    sides[axis] = size
    x = torch.zeros((1, network.spec.in_channels, *sides))
    halves = x.split(size // 2, dim=axis + 2)
    halves[side].fill_(torch.nan)
    with torch.inference_mode():
        touched: Tensor = network(x).isnan().flatten(0, 1).any(dim=0)
    along = touched.movedim(axis, 0).flatten(1).any(dim=1)
    return int(along.split(size // 2)[1 - side].sum())


def _normalizes_by_input(model: nn.Module) -> bool:
    kinds = (nn.GroupNorm, nn.InstanceNorm2d)
    return any(isinstance(module, kinds) for module in model.modules())
