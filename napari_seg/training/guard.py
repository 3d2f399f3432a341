"""The guard asks: is the new model better on pixels that training never saw.

Labelled images are cut into square regions.  Some are held out: their labels are
unknown to training and known to the guard only.  Which ones depends on a hash of
their pixels, so a region that was held out once stays held out in every later run,
and no score ever rests on a region that an earlier version was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN, Scores, confusion_matrix
from napari_seg.training.sampling import Example

__all__ = ["Holdout", "Verdict", "compare", "hold_out"]

#: Sides of a held-out region in pixels: the largest that gives enough regions.
_SIDES = (64, 32, 16)
_ENOUGH_REGIONS = 4
#: A region with fewer known pixels says nothing about the model.
_MIN_PIXELS = 16
_RESAMPLES = 2000


@dataclass(frozen=True)
class Region:
    """One square of an example."""

    example: int
    box: tuple[slice, slice]
    chance: float


def hold_out(
    examples: Sequence[Example], share: float
) -> tuple[list[Example], Holdout]:
    """Divide labelled images into what training sees and what the guard keeps.

    Parameters
    ----------
    examples : sequence of Example
        Partly labelled images.
    share : float
        Expected share of the regions to hold out, 0 to 0.9; 0 holds out none.

    Returns
    -------
    training : list of Example
        The examples, with held-out labels set to 255.
    holdout : Holdout
        The held-out regions; empty where fewer than two regions are labelled.
    """
    regions = _regions(examples)
    chosen = [region for region in regions if region.chance < share]
    if share > 0 and len(regions) > 1 and not chosen:
        chosen = [min(regions, key=lambda region: region.chance)]
    if len(chosen) == len(regions):
        chosen = chosen[1:]
    labels = [example.labels.copy() for example in examples]
    for region in chosen:
        labels[region.example][region.box] = UNKNOWN
    training = [
        replace(example, labels=rest)
        for example, rest in zip(examples, labels, strict=True)
    ]
    return training, Holdout(examples, chosen)


def _regions(examples: Sequence[Example]) -> list[Region]:
    found: list[Region] = []
    for side in _SIDES:
        found = [
            Region(index, box, _chance(example.image[(..., *box)]))
            for index, example in enumerate(examples)
            for box in _squares(example.labels.shape, side)
            if np.count_nonzero(example.labels[box] != UNKNOWN) >= _MIN_PIXELS
        ]
        if len(found) >= _ENOUGH_REGIONS:
            break
    return found


def _squares(shape: tuple[int, ...], side: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield slice(top, top + side), slice(left, left + side)


def _chance(pixels: NDArray[np.float32]) -> float:
    """Return a number from 0 to 1 that depends on the pixels alone."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / 2**64


class Holdout:
    """Held-out regions, each with the context that the network needs around it."""

    def __init__(self, examples: Sequence[Example], regions: Sequence[Region]) -> None:
        self._examples = examples
        self.regions = tuple(regions)

    def __len__(self) -> int:
        return len(self.regions)

    @torch.inference_mode()
    def confusions(self, model: SegmentationModel) -> NDArray[np.int64]:
        """Return one confusion matrix for each region, shape (R, K, K).

        Parameters
        ----------
        model : SegmentationModel
            In eval mode.
        """
        n_classes = model.spec.n_classes
        device = next(model.parameters()).device
        counts = np.zeros((len(self), n_classes, n_classes), np.int64)
        for index, region in enumerate(self.regions):
            example = self._examples[region.example]
            image, inner = _with_context(example.image, region.box, model)
            logits = model(torch.from_numpy(image)[None].to(device))
            prediction = logits[0].argmax(dim=0).cpu().numpy()[inner]
            truth = example.labels[region.box]
            counts[index] = confusion_matrix(prediction, truth, n_classes)
        return counts

    def score(self, model: SegmentationModel) -> float:
        """Return the mean Dice over all regions together; the sums come first."""
        return Scores(self.confusions(model).sum(axis=0)).mean_dice


def _with_context(
    image: NDArray[np.float32], box: tuple[slice, slice], model: SegmentationModel
) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
    """Return the box with the model's halo around it, and where the box lies inside.

    The origin is a multiple of the model's stride, as for tiles of a prediction.
    """
    outer, inner = [], []
    for part, side in zip(box, image.shape[1:], strict=True):
        stop = min(part.stop, side)
        start = max(part.start - model.halo, 0) // model.stride * model.stride
        end = min(max(stop + model.halo, start + 2 * model.halo), side)
        outer.append(slice(start, end))
        inner.append(slice(part.start - start, stop - start))
    return np.ascontiguousarray(image[(slice(None), *outer)]), (inner[0], inner[1])


@dataclass(frozen=True)
class Verdict:
    """Old model against new on held-out regions.

    Attributes
    ----------
    before, after : Scores
        Of the old and of the new model, over the same pixels.
    regions, pixels : int
        How much the comparison rests on.
    interval : tuple of float
        90 % bootstrap interval of the change of the mean Dice.
    """

    before: Scores
    after: Scores
    regions: int
    interval: tuple[float, float]

    @property
    def pixels(self) -> int:
        """Known pixels behind the comparison."""
        return self.after.pixels

    @property
    def gain(self) -> float:
        """Change of the mean Dice; NaN without held-out pixels."""
        return self.after.mean_dice - self.before.mean_dice

    @property
    def improved(self) -> bool:
        """Whether the gain lies beyond what chance would give."""
        return self.regions > 0 and self.gain > 0 and self.interval[0] >= 0

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.regions == 0:
            return "Too little is labelled to judge: accept a second region."
        if self.improved:
            return "Better on held-out pixels."
        if self.gain < 0 and self.interval[1] <= 0:
            return "Worse on held-out pixels."
        return "No clear gain on held-out pixels."

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "regions": self.regions,
            "pixels": self.pixels,
            "interval": list(self.interval),
            "improved": self.improved,
            "sentence": self.sentence,
        }


def compare(
    before: NDArray[np.int64], after: NDArray[np.int64], seed: int = 0
) -> Verdict:
    """Judge two models by their confusion matrices on the same regions.

    The interval comes from resampling whole regions with replacement (Efron 1979),
    since the pixels of one region are not independent.

    Parameters
    ----------
    before, after : ndarray of int64, shape (R, K, K)
        From :meth:`Holdout.confusions`.
    seed : int
        Seed of the resampling.
    """
    count = len(before)
    old, new = Scores(before.sum(axis=0)), Scores(after.sum(axis=0))
    if count == 0:
        return Verdict(old, new, 0, (float("nan"), float("nan")))
    rng = np.random.default_rng(seed)
    draws = rng.integers(count, size=(_RESAMPLES if count > 1 else 1, count))
    gains = [
        Scores(after[draw].sum(axis=0)).mean_dice
        - Scores(before[draw].sum(axis=0)).mean_dice
        for draw in draws
    ]
    low, high = np.nanpercentile(gains, [5, 95])
    return Verdict(old, new, count, (float(low), float(high)))


def known_pixels(examples: Iterable[Example]) -> int:
    """Return the number of labelled pixels."""
    return sum(int(np.count_nonzero(e.labels != UNKNOWN)) for e in examples)
