"""How far a model's confidence can be believed, and what mends it.

A network that is trained for long is surer than it is right.  One number, by which all
logits are divided before the softmax, makes up for most of that and changes no class
(temperature scaling; Guo et al. 2017, "On Calibration of Modern Neural Networks",
arXiv:1706.04599).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.training.guard import Holdout

__all__ = ["Calibration", "calibrate", "calibration_error", "fit_temperature"]

_BINS = 15
#: Beyond, either all classes are alike or there is no doubt at all.
_RANGE = (0.1, 10.0)

#: Logits (K, N) and targets (N,) of the known pixels of one region.
_Pixels = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to held-out pixels.

    Attributes
    ----------
    temperature : float
        Fitted to all regions.
    error_before, error_after : float
        Expected calibration error at temperature 1, and at a temperature that was
        fitted to the other half of the regions.
    """

    temperature: float
    error_before: float
    error_after: float


def calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = _BINS
) -> float:
    """Return the expected calibration error (Guo et al. 2017, Eq. 3).

    Parameters
    ----------
    confidence : array of float, shape (N,)
        Probability of the predicted class, 0 to 1.
    correct : array of bool, shape (N,)
        Whether the prediction was right.
    bins : int
        Bins of equal width in which confidence and accuracy are compared.

    Returns
    -------
    float
        Mean difference between confidence and accuracy, weighted by the pixels of
        each bin, 0 to 1; NaN without pixels.
    """
    sure = np.asarray(confidence, np.float64).ravel()
    right = np.asarray(correct, bool).ravel()
    if not sure.size:
        return math.nan
    places = np.minimum((sure * bins).astype(np.intp), bins - 1)
    difference = np.bincount(places, sure - right, minlength=bins)
    return float(np.abs(difference).sum() / sure.size)


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the temperature with the least negative log-likelihood.

    Parameters
    ----------
    logits : Tensor
        (K, N) float.
    targets : Tensor
        (N,) class ids below K.

    Returns
    -------
    float
        Between 0.1 and 10.
    """
    rows, ids = logits.T.double(), targets.long()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(rows / math.exp(log_temperature), ids))

    found = minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded")
    return math.exp(found.x)


def calibrate(model: SegmentationModel, held_out: Holdout) -> Calibration | None:
    """Fit a temperature on pixels that training did not see.

    Parameters
    ----------
    model : SegmentationModel
        In eval mode; left as it is.
    held_out : Holdout
        From :func:`napari_seg.training.guard.hold_out`.

    Returns
    -------
    Calibration or None
        None where there are too few regions to judge by.
    """
    if not held_out.enough:
        return None
    regions = [_known(logits, truth) for logits, truth in held_out.logits(model)]
    parts = [_joined(half) for half in (regions[::2], regions[1::2])]
    # Each half is divided by what was fitted to the other one.
    temperatures = [fit_temperature(*part) for part in reversed(parts)]
    return Calibration(
        fit_temperature(*_joined(regions)),
        _error(parts, [1.0, 1.0]),
        _error(parts, temperatures),
    )


def _known(logits: torch.Tensor, truth: NDArray[np.uint8]) -> _Pixels:
    known = torch.from_numpy(truth < len(logits))
    return logits[:, known], torch.from_numpy(truth)[known]


def _joined(regions: Sequence[_Pixels]) -> _Pixels:
    logits, targets = zip(*regions, strict=True)
    return torch.cat(logits, dim=1), torch.cat(targets)


def _error(parts: Sequence[_Pixels], temperatures: Sequence[float]) -> float:
    """Return the calibration error of all parts, each at its own temperature."""
    sure, right = [], []
    for (logits, targets), temperature in zip(parts, temperatures, strict=True):
        confidence, labels = (logits / temperature).softmax(dim=0).max(dim=0)
        sure.append(confidence)
        right.append(labels == targets)
    return calibration_error(torch.cat(sure).numpy(), torch.cat(right).numpy())
