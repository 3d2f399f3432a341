"""Real images of several kinds, and windows of them as a user accepts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks._report import SHARED_DATA
from napari_seg.scoring.confusion import UNKNOWN, Scores, confusion_matrix

__all__ = ["KINDS", "SIDE", "Labelled", "Task", "draw", "mean_dice", "read"]

#: Labelled kinds of 2-D images that the nuclei models have not seen.
KINDS = (
    "axon_sem",
    "beach_grains",
    "ebc_oxide_sem",
    "ecoli_brightfield",
    "metal_powder_sem",
    "spheroidite_sem",
    "superalloy_sem",
)
#: Height and width of a window in pixels.
SIDE = 96
#: Crops of one original image lie in files of successive numbers.
_CROPS_OF_ONE = {"metal_powder_sem": 3}
#: Images that are scored, of those that no window comes from.
_SCORED = 4


@dataclass(frozen=True)
class Labelled:
    """An image with its truth: (Y, X) or (Y, X, 3), and (Y, X) class ids."""

    image: NDArray[Any]
    truth: NDArray[np.uint8]


@dataclass(frozen=True)
class Task:
    """What is learned from, in the order in which it is accepted, and what is scored.

    Attributes
    ----------
    windows : list of Labelled
        Whole images whose truth is 255 outside of one window.
    scored : list of Labelled
        Images that no window comes from.
    classes : list of str
        Names by id, the background first.
    """

    windows: list[Labelled]
    scored: list[Labelled]
    classes: list[str]

    @property
    def channels(self) -> int:
        """1, or 3 of RGB images."""
        return 3 if self.scored[0].image.ndim == 3 else 1


def read(kind: str) -> list[list[Labelled]]:
    """Return the images of a kind, those that were cut from one original together."""
    folder = SHARED_DATA / kind
    files = sorted((folder / "masks").glob("*.tif"))
    step = _CROPS_OF_ONE.get(kind, 1)
    return [
        [
            Labelled(
                tifffile.imread(folder / "images" / path.name),
                tifffile.imread(path).astype(np.uint8),
            )
            for path in files[first : first + step]
        ]
        for first in range(0, len(files), step)
    ]


def draw(groups: Sequence[Sequence[Labelled]], seed: int, count: int) -> Task:
    """Choose windows in half of the images, and images to score from the others.

    The first windows are the same whatever their `count`.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    half = math.ceil(len(groups) / 2)
    learned = [each for i in order[:half] for each in groups[i]]
    scored = [each for i in order[half:] for each in groups[i]][:_SCORED]
    windows: list[Labelled] = []
    while len(windows) < count:
        source = learned[rng.integers(len(learned))]
        top, left = (int(rng.integers(side - SIDE + 1)) for side in source.truth.shape)
        box = slice(top, top + SIDE), slice(left, left + SIDE)
        truth = np.full_like(source.truth, UNKNOWN)
        truth[box] = source.truth[box]
        # A window of nothing but background is not what anybody accepts first.
        if windows or source.truth[box].any():
            windows.append(Labelled(source.image, truth))
    highest = max(int(each.truth.max()) for group in groups for each in group)
    names = ["background", *(f"class {i}" for i in range(1, highest + 1))]
    return Task(windows, scored, names)


def mean_dice(task: Task, masks: Sequence[NDArray[np.integer]]) -> float:
    """Return the mean Dice of the classes beside background over the scored images."""
    count = len(task.classes)
    confusion = sum(
        confusion_matrix(mask, each.truth, count)
        for mask, each in zip(masks, task.scored, strict=True)
    )
    return float(np.nanmean(Scores(np.asarray(confusion)).dice[1:]))
