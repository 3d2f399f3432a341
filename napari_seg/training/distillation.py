"""Self-distillation: an old model's answers hold where nobody gave another one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN

__all__ = ["Distillation"]


class Distillation:
    """A term of the loss that is small where a model answers as its start did.

    Mean Kullback-Leibler divergence of the start's class probabilities from those of
    the model, over the pixels whose label is unknown (Li & Hoiem 2016, "Learning
    without Forgetting").

    Parameters
    ----------
    teacher : SegmentationModel
        The start, in eval mode, on the device of training; left unchanged.
    weight : float
        What the mean is multiplied by.
    """

    def __init__(self, teacher: SegmentationModel, weight: float) -> None:
        self._teacher = teacher
        self._weight = weight

    def __call__(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the term for a batch, a scalar; 0 where every label is known.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W), float32
            As the network takes them.
        logits : Tensor, shape (N, K, H, W)
            The model's answer.
        labels : Tensor, shape (N, H, W), uint8
            255 is unknown.
        """
        unknown = labels == UNKNOWN
        if not unknown.any():
            return logits.new_zeros(())
        with torch.no_grad():
            target = F.log_softmax(self._teacher(images).float(), dim=1)
        answer = F.log_softmax(logits, dim=1)
        apart = F.kl_div(answer, target, reduction="none", log_target=True).sum(dim=1)
        return self._weight * apart[unknown].mean()
