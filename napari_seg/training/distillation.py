"""Self-distillation: an old model's answers hold where nothing new was taught."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN

__all__ = ["Distillation"]


class Distillation:
    """A term of the loss that is small where a model answers as its start did.

    Mean Kullback-Leibler divergence of the model's class probabilities from the
    start's: over the pixels of replayed crops whose label it had right (Buzzega et al.
    2020, "Dark Experience for General Continual Learning"), and, on its own, over the
    pixels of the other crops whose label is unknown (Li & Hoiem 2016, "Learning without
    Forgetting").

    Parameters
    ----------
    teacher : SegmentationModel
        The start, in eval mode, on the device of training; left unchanged.
    replayed, unknown : float
        What either mean is multiplied by.
    """

    def __init__(
        self, teacher: SegmentationModel, replayed: float, unknown: float = 0.0
    ) -> None:
        self._teacher = teacher
        self._weights = replayed, unknown

    def __call__(
        self, images: Tensor, logits: Tensor, labels: Tensor, replayed: int
    ) -> Tensor:
        """Return the term for a batch, a scalar; 0 where there is nothing to hold.

        Parameters
        ----------
        images : Tensor, shape (N, C, [D,] H, W), float32
            As the network takes them.
        logits : Tensor, shape (N, K, [D,] H, W)
            The model's answer.
        labels : Tensor, shape (N, [D,] H, W), uint8
            255 is unknown.
        replayed : int
            So many crops, the first ones, are replayed.
        """
        old = torch.arange(len(labels), device=labels.device) < replayed
        unknown = labels == UNKNOWN
        # Of replayed images the guard holds regions out, unknown to training.
        old = old.view(-1, *(1,) * (labels.ndim - 1))
        parts = old & ~unknown, ~old & unknown
        held = [
            (weight, part)
            for weight, part in zip(self._weights, parts, strict=True)
            if weight > 0 and part.any()
        ]
        if not held:
            return logits.new_zeros(())
        # Only crops with such a pixel are worth the old model's time.
        crops = torch.stack([part.flatten(1).any(1) for _, part in held]).any(0)
        with torch.no_grad():
            target = F.log_softmax(self._teacher(images[crops]).float(), dim=1)
        answer = F.log_softmax(logits[crops].float(), dim=1)
        apart = F.kl_div(answer, target, reduction="none", log_target=True).sum(dim=1)
        # Where a label says otherwise, the old answer was wrong.
        right = unknown[crops] | (target.argmax(dim=1) == labels[crops])
        terms = [
            weight * (apart * chosen).sum() / chosen.sum().clamp(min=1)
            for weight, part in held
            for chosen in [part[crops] & right]
        ]
        return torch.stack(terms).sum()
