"""Losses for partly labelled masks.

Every loss is ``(logits, target, *, ignore_index=255, class_weights=None) -> scalar``
with logits (N, K, H, W) and integer targets (N, H, W), or (N, K, D, H, W) and
(N, D, H, W) of volumes: a voxel counts as a pixel does.  Ignored pixels are taken out
before anything is computed, so that they add nothing to the value, to a denominator or
to the gradient.  With one logit (K = 1) the target is 0 or 1 and the probability a
sigmoid; otherwise it is the softmax over K.  Without a single counted pixel a loss is 0
and its gradient too.

Class weights are K values from 0 up (with one logit two, of 0 and of 1), or
``"balanced"``: the pixels of each class that occurs weigh as much together as those of
any other, as Dice counts classes anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.errors import InputError, LabelsError

__all__ = [
    "LOSSES",
    "ClassWeights",
    "bce_dice_loss",
    "bce_loss",
    "ce_dice_loss",
    "cross_entropy_loss",
    "dice_loss",
]


ClassWeights: TypeAlias = Tensor | str | None


def _counted(
    logits: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return logits (P, K) and class ids (P,) of the P pixels that count."""
    if logits.ndim not in (4, 5) or target.shape != (
        logits.shape[0],
        *logits.shape[2:],
    ):
        raise LabelsError(
            f"Logits {tuple(logits.shape)} and target {tuple(target.shape)} do not "
            "fit: logits are (N, K, H, W), the target (N, H, W)."
        )
    pixels, ids = logits.movedim(1, -1).flatten(0, -2), target.flatten().long()
    # The places are looked up once: a GPU has to be waited for.
    kept = (ids != ignore_index).nonzero()[:, 0]
    if len(kept) < len(ids):
        pixels, ids = pixels.index_select(0, kept), ids.index_select(0, kept)
    highest = max(logits.shape[1], 2) - 1
    if ids.numel() and bool(((ids > highest) | (ids < 0)).any()):
        raise LabelsError(
            f"The target holds class {int(ids.max())}, but the model has classes 0 to "
            f"{highest} ({ignore_index} marks unknown pixels)."
        )
    return pixels, ids


def _one_hot(ids: Tensor, pixels: Tensor) -> Tensor:
    """Return (P, K) zeros and ones; with K = 1 the column of class 1."""
    if pixels.shape[1] == 1:
        return ids[:, None].to(pixels.dtype)
    return F.one_hot(ids, pixels.shape[1]).to(pixels.dtype)


def _probabilities(pixels: Tensor) -> Tensor:
    return pixels.sigmoid() if pixels.shape[1] == 1 else pixels.softmax(dim=1)


def _checked_weights(class_weights: ClassWeights, pixels: Tensor) -> Tensor | None:
    """Return given weights on the device and in the dtype of the logits."""
    if class_weights is None or class_weights == "balanced":
        return None
    if isinstance(class_weights, str):
        raise InputError(
            f"class_weights is {class_weights!r}; give one number for each class, or "
            "'balanced'."
        )
    n_classes = max(pixels.shape[1], 2)
    weights = torch.as_tensor(class_weights).to(pixels)
    if weights.shape != (n_classes,) or not bool((weights >= 0).all()):
        raise InputError(
            f"The class weights have shape {tuple(weights.shape)}; they must be "
            f"{n_classes} numbers from 0 up, one for each class."
        )
    return weights


def _pixel_weights(
    ids: Tensor, pixels: Tensor, class_weights: ClassWeights
) -> Tensor | None:
    """Return what each pixel weighs by its class, (P,), or None where all are alike."""
    if class_weights == "balanced":
        counts = torch.bincount(ids, minlength=max(pixels.shape[1], 2))
        return counts.to(pixels).clamp_min(1).reciprocal()[ids]
    weights = _checked_weights(class_weights, pixels)
    return None if weights is None else weights[ids]


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of (P,) losses; 0 where nothing weighs anything."""
    if weights is None:
        return losses.sum() / max(losses.numel(), 1)
    tiny = torch.finfo(losses.dtype).tiny
    return (losses * weights).sum() / weights.sum().clamp_min(tiny)


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes present in the target.

    Per class ``2 Σ p t / (Σ p + Σ t)`` with sums over all counted pixels of the batch
    (Milletari et al. 2016, arXiv:1606.04797, without the squares; Sudre et al. 2017,
    arXiv:1707.03237). A class that the target lacks has no overlap to speak of and is
    left out instead of being given a value by a smoothing constant.

    Parameters
    ----------
    logits : Tensor
        (N, K, H, W), float.
    target : Tensor
        (N, H, W), integer class ids.
    ignore_index : int
        Target value that marks unknown pixels.
    class_weights : Tensor, "balanced" or None
        (K,), weights of the mean over classes, which is balanced without any. With
        one logit there is one class to overlap with, and nothing to weigh.

    Returns
    -------
    Tensor
        Scalar, 0 to 1.

    Raises
    ------
    LabelsError
        If the shapes do not fit, or a class id is outside 0..K−1.
    InputError
        If there are not as many weights as classes, or one is below 0.
    """
    return _dice(*_counted(logits, target, ignore_index), class_weights)


def _dice(pixels: Tensor, ids: Tensor, class_weights: ClassWeights) -> Tensor:
    truth = _one_hot(ids, pixels).float()
    # Sums over many pixels: half precision would saturate at 65504.
    probabilities = _probabilities(pixels).float()
    overlap = (probabilities * truth).sum(dim=0)
    counts = truth.sum(dim=0)
    total = probabilities.sum(dim=0) + counts
    # What a class counts for in the mean: nothing where the target lacks it.
    shares = (counts > 0).to(total)
    weights = _checked_weights(class_weights, pixels)
    if weights is not None and pixels.shape[1] > 1:
        shares = shares * weights.to(shares)
    tiny = torch.finfo(total.dtype).tiny
    dice = 2 * overlap / total.clamp_min(tiny)
    # Without any class there is nothing to overlap with: with one logit, pixels of
    # background alone still have a probability mass to push down, which is left to
    # the cross-entropy term.
    missing = 1 - dice
    return (missing * shares).sum() / shares.sum().clamp_min(tiny)


def bce_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Return the binary cross entropy, averaged over counted pixels and logits.

    Each of the K logits is a yes-or-no question of its own (sigmoid). Class weights
    are those of the questions; ``"balanced"`` ones, and the two that go with one
    logit, are those of the pixels by their class, as in :func:`cross_entropy_loss`.

    See :func:`dice_loss` for parameters and errors.
    """
    return _bce(*_counted(logits, target, ignore_index), class_weights)


def _bce(pixels: Tensor, ids: Tensor, class_weights: ClassWeights) -> Tensor:
    losses = F.binary_cross_entropy_with_logits(
        pixels, _one_hot(ids, pixels), reduction="none"
    )
    if class_weights == "balanced" or pixels.shape[1] == 1:
        return _mean(losses.mean(dim=1), _pixel_weights(ids, pixels, class_weights))
    weights = _checked_weights(class_weights, pixels)
    return _mean((losses if weights is None else losses * weights).flatten(), None)


def cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Return the cross entropy of the softmax, averaged over counted pixels.

    With class weights it is the weighted mean, as in :func:`torch.nn.functional.\
cross_entropy`. With one logit it is :func:`bce_loss`.

    See :func:`dice_loss` for parameters and errors.
    """
    return _cross_entropy(*_counted(logits, target, ignore_index), class_weights)


def _cross_entropy(pixels: Tensor, ids: Tensor, class_weights: ClassWeights) -> Tensor:
    if pixels.shape[1] == 1:
        return _bce(pixels, ids, class_weights)
    losses = F.cross_entropy(pixels, ids, reduction="none")
    return _mean(losses, _pixel_weights(ids, pixels, class_weights))


def bce_dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Return :func:`bce_loss` + :func:`dice_loss`."""
    counted = _counted(logits, target, ignore_index)
    return _bce(*counted, class_weights) + _dice(*counted, class_weights)


def ce_dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Return :func:`cross_entropy_loss` + :func:`dice_loss`.

    The compound loss of nnU-Net (Isensee et al. 2021, Nature Methods 18:203–211).
    """
    counted = _counted(logits, target, ignore_index)
    return _cross_entropy(*counted, class_weights) + _dice(*counted, class_weights)


Loss = Callable[..., torch.Tensor]

#: The losses by the name that forms and the command line use.
LOSSES: dict[str, Loss] = {
    "ce_dice": ce_dice_loss,
    "bce_dice": bce_dice_loss,
    "dice": dice_loss,
    "cross_entropy": cross_entropy_loss,
    "bce": bce_loss,
}
