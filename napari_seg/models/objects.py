"""Telling objects apart: a second decoder next to the classes.

In the manner of Panoptic-DeepLab (Cheng et al. 2020, arXiv:1911.10194, Sec. 3.1), from
the same encoder as the classes, a decoder of its own says for each pixel

0. how close it is to the centre of its object: 1 there, falling off as a Gaussian;
1. and 2. how far, in pixels down and to the right, the centre is from it.

Which pixels belong to any object at all is for the classes to say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel

__all__ = [
    "OBJECT_MAPS",
    "WithObjects",
    "in_pixels",
    "object_layer",
    "require_object_head",
]

#: Maps of an object head: centre, and the way to it down and to the right.
OBJECT_MAPS = 3
#: Pixels for which the network's own output is 1, so that all three maps are of a size.
_UNIT = 16.0


def in_pixels(raw: Tensor) -> Tensor:
    """Return the maps (N, 3, H, W) of a decoder's last convolution, ways in pixels."""
    return raw * raw.new_tensor([1.0, _UNIT, _UNIT])[:, None, None]


def require_object_head(model: SegmentationModel) -> None:
    """Raise InputError for a model that cannot tell objects apart."""
    if not model.spec.object_head:
        raise InputError(
            f"The model {model.spec.name or model.spec.arch} does not tell objects "
            "apart; split objects by their shape, or teach a U-Net or DeepLab v3+ that "
            "with napari-seg finetune --object-head (object_head=True in Python)."
        )


class WithObjects(SegmentationModel):
    """A model whose output has the maps of its object head behind the classes.

    What runs a model then runs both: (N, C, H, W) becomes (N, K + 3, H, W).

    Parameters
    ----------
    model : SegmentationModel
        One with an object head; its weights are shared.

    Raises
    ------
    InputError
        If it has none.
    """

    def __init__(self, model: SegmentationModel) -> None:
        require_object_head(model)
        super().__init__(model.spec)
        self.model = model
        self.stride, self.halo = model.stride, model.halo
        self.global_context = model.global_context

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits and maps, (N, K + 3, H, W)."""
        return torch.cat(self.model.logits_and_objects(x), dim=1), None


def object_layer(channels: int) -> nn.Conv2d:
    """Return the convolution that ends an object decoder."""
    return nn.Conv2d(channels, OBJECT_MAPS, 1)
