"""Which pixels a training batch looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_seg.errors import NothingToLearnError
from napari_seg.scoring.confusion import UNKNOWN

__all__ = ["CropSampler", "Example", "MixedSampler", "Origin", "Sampler"]

#: Memory of the running mean of an example's loss.
_MEMORY = 0.7
#: Priority of an example without loss, as a share of the mean.
_CURIOSITY = 0.1
#: Places remembered for each example and class; more add nothing but memory.
_PLACES = 2048

#: Name of a plane, row and column.
Origin: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True)
class Example:
    """One partly labelled image.

    Attributes
    ----------
    image : ndarray
        (C, H, W) or (C, D, H, W) float32, scaled to about 0 to 1 as the model's spec
        says.
    labels : ndarray
        (H, W) or (D, H, W) uint8 class ids; 255 is unknown.
    weight : float
        Multiplies its pixels, whose root says how often it is drawn.
    origin : tuple of (str, int, int) or None
        Name of the plane that it was cut from, row and column of its corner there.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    weight: float = 1.0
    origin: Origin | None = None


Crop: TypeAlias = tuple[Tensor, Tensor]


class Sampler(Protocol):
    """What training draws its batches from."""

    @property
    def replayed(self) -> int:
        """Number of crops of the last batch, the first ones, that are replayed."""

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, *crop) float32 and labels (N, *crop) uint8."""

    def draw(self, size: int) -> list[Crop]:
        """Return the same crops as :meth:`batch` does, one by one."""

    def learn_from(self, losses: Sequence[float]) -> None:
        """Take in the losses of the replayed crops of the last batch or draw."""


class CropSampler:
    """Draws crops that contain known pixels, balanced over the classes.

    A draw chooses a class (half of the time uniformly among the classes that occur,
    otherwise by their share of the pixels), an example by weight, then a known pixel
    of that class, and puts it at a random place of the crop.

    Parameters
    ----------
    examples : sequence of Example
        At least one with a known pixel.
    crop : int or tuple of int
        Height and width of the crops in pixels, of volumes depth, height and width.
    seed : int
        Seed of all draws.
    device : str or torch.device
        Where the examples are kept, uploaded once, and the batches are made.
    prioritized : bool
        Whether an example is drawn the more often the higher its loss was of late
        (after Schaul et al. 2016, "Prioritized Experience Replay").

    Raises
    ------
    NothingToLearnError
        If no example has a known pixel.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        crop: int | tuple[int, ...],
        seed: int = 0,
        device: str | torch.device = "cpu",
        *,
        prioritized: bool = False,
    ) -> None:
        self._prioritized = prioritized
        self._drawn: list[int] = []
        self._rng = np.random.default_rng(seed)
        self._crop = (crop, crop) if isinstance(crop, int) else crop
        self._images: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._places: list[dict[int, NDArray[np.intp]]] = []
        shares: list[dict[int, float]] = []
        for example in examples:
            places, counts = self._find_places(example.labels)
            if not places:
                continue
            image, labels = _padded(example, self._crop)
            self._images.append(image.to(device))
            self._labels.append(labels.to(device))
            self._places.append(places)
            shares.append({c: example.weight * n for c, n in counts.items()})
        if not shares:
            raise NothingToLearnError(
                "There is nothing to learn from: no pixel of the labels is known. "
                "Correct the mask with the brush or accept a region first."
            )
        self.classes = sorted({c for share in shares for c in share})
        pixels = np.array(
            [[share.get(c, 0.0) for c in self.classes] for share in shares]
        )
        # Within a class an example counts by the root of its pixels: a large accepted
        # region leads, a small correction is still seen.
        roots = np.sqrt(pixels)
        self._example_given_class = roots / roots.sum(axis=0)
        share_of_class = pixels.sum(axis=0) / pixels.sum()
        self._class_weights = 0.5 * share_of_class + 0.5 / len(self.classes)
        self._losses = np.full(len(shares), np.nan)

    @property
    def replayed(self) -> int:
        """Number of crops of the last batch that are replayed: none."""
        return 0

    def _find_places(
        self, labels: NDArray[np.uint8]
    ) -> tuple[dict[int, NDArray[np.intp]], dict[int, int]]:
        places, counts = {}, {}
        for class_id in np.unique(labels):
            if class_id == UNKNOWN:
                continue
            found = np.flatnonzero(labels == class_id)
            counts[int(class_id)] = len(found)
            if len(found) > _PLACES:
                found = self._rng.choice(found, _PLACES, replace=False)
            places[int(class_id)] = np.stack(np.unravel_index(found, labels.shape), 1)
        return places, counts

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, *crop) float32 and labels (N, *crop) uint8."""
        return _stacked(self.draw(size))

    def learn_from(self, losses: Sequence[float]) -> None:
        """Take in the losses of the first crops of the last batch, or draw.

        NaN says nothing of an example.
        """
        for index, loss in zip(self._drawn, losses, strict=False):
            before = self._losses[index]
            if np.isnan(before):
                self._losses[index] = loss
            elif not np.isnan(loss):
                self._losses[index] = _MEMORY * before + (1 - _MEMORY) * loss

    def draw(self, size: int) -> list[Crop]:
        """Return images (C, *crop) with their labels (*crop)."""
        self._drawn = []
        return [self._draw() for _ in range(size)]

    def _draw(self) -> Crop:
        column = self._choose(self._class_weights)
        chosen = self._choose(self._example_given_class[:, column] * self._priorities())
        self._drawn.append(chosen)
        places = self._places[chosen][self.classes[column]]
        place = places[self._rng.integers(len(places))]
        shape = self._labels[chosen].shape
        starts = [
            int(np.clip(p - self._rng.integers(crop), 0, side - crop))
            for p, side, crop in zip(place, shape, self._crop, strict=True)
        ]
        box = tuple(slice(a, a + n) for a, n in zip(starts, self._crop, strict=True))
        return self._images[chosen][(slice(None), *box)], self._labels[chosen][box]

    def _choose(self, weights: NDArray[np.float64]) -> int:
        """Return an index, by weight; sooner than `Generator.choice`, which checks."""
        sums = np.cumsum(weights)
        return int(np.searchsorted(sums, self._rng.random() * sums[-1], side="right"))

    def _priorities(self) -> NDArray[np.float64]:
        """Return a factor for each example; those not seen yet come first."""
        known = self._losses[~np.isnan(self._losses)]
        if not (self._prioritized and known.size):
            return np.ones(len(self._losses))
        losses = np.where(np.isnan(self._losses), known.max(), self._losses)
        # What was easy once is looked at again now and then.
        return np.asarray(losses + _CURIOSITY * max(float(losses.mean()), 1e-6))


class MixedSampler:
    """Draws from two samplers: replay beside what is new.

    Parameters
    ----------
    new, replay : Sampler
        Of the same crop size, on the same device.
    share : float
        Share of the crops that come from `replay`, 0 to 1, whatever the numbers of
        images and pixels on either side.
    seed : int
        Seed of the choice between the two.
    """

    def __init__(
        self, new: Sampler, replay: Sampler, share: float, seed: int = 0
    ) -> None:
        self._new, self._replay, self._share = new, replay, share
        self._rng = np.random.default_rng(seed)
        self._replayed = 0

    @property
    def replayed(self) -> int:
        """Number of crops of the last batch, the first ones, that are replayed."""
        return self._replayed + self._new.replayed

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images (N, C, *crop) float32 and labels (N, *crop) uint8."""
        return _stacked(self.draw(size))

    def draw(self, size: int) -> list[Crop]:
        """Return images (C, *crop) with their labels (*crop)."""
        self._replayed = int((self._rng.random(size) < self._share).sum())
        old = self._replay.draw(self._replayed)
        return [*old, *self._new.draw(size - self._replayed)]

    def learn_from(self, losses: Sequence[float]) -> None:
        """Take in the losses of the replayed crops of the last batch, or draw."""
        self._replay.learn_from(losses[: self._replayed])
        self._new.learn_from(losses[self._replayed :])


def _stacked(crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*crops, strict=True)
    return torch.stack(images), torch.stack(labels)


def _padded(example: Example, crop: tuple[int, ...]) -> Crop:
    """Return tensors of at least `crop`: border repeated, labels unknown."""
    image = torch.from_numpy(np.ascontiguousarray(example.image))
    labels = torch.from_numpy(np.ascontiguousarray(example.labels))
    lacking = [max(n - side, 0) for n, side in zip(crop, labels.shape, strict=True)]
    if not any(lacking):
        return image, labels
    # The last axis comes first.
    sides = [side for each in reversed(lacking) for side in (0, each)]
    image = F.pad(image[None], sides, mode="replicate")[0]
    return image, F.pad(labels, sides, value=UNKNOWN)
