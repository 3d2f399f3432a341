"""Real images of several kinds, and windows of them as a user accepts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks._report import SHARED_DATA
from napari_seg.samples import load_sample
from napari_seg.scoring.confusion import UNKNOWN, Scores, confusion_matrix
from napari_seg.synthetic import synthetic_nuclei

__all__ = [
    "KINDS",
    "MORE_KINDS",
    "SIDE",
    "Box",
    "Labelled",
    "Task",
    "draw",
    "mean_dice",
    "read",
    "reveal",
]

#: Rows and columns of a window.
Box: TypeAlias = tuple[slice, slice]

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
#: What they have seen, and what everybody has: samples of one image each, cut in four,
#: and synthetic nuclei.
MORE_KINDS = ("dsb2018", "sample_ihc", "sample_retina", "synthetic_nuclei")
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
    learned, scored : list of Labelled
        Images with their whole truth: those that windows come from, and others.
    boxes : list of tuple of (int, tuple of slice)
        Index in `learned` and place of each window.
    classes : list of str
        Names by id, the background first.
    """

    windows: list[Labelled]
    learned: list[Labelled]
    scored: list[Labelled]
    boxes: list[tuple[int, Box]]
    classes: list[str]

    @property
    def channels(self) -> int:
        """1, or 3 of RGB images."""
        return 3 if self.scored[0].image.ndim == 3 else 1


def read(kind: str) -> list[list[Labelled]]:
    """Return the images of a kind, those that were cut from one original together."""
    if kind.startswith("sample_"):
        sample = load_sample(kind.removeprefix("sample_"))
        return [[part] for part in _quarters(Labelled(sample.image, sample.mask))]
    if kind == "synthetic_nuclei":
        fields = (synthetic_nuclei((256, 256), 30, seed) for seed in range(8))
        return [[Labelled(field.image, field.mask)] for field in fields]
    folder = SHARED_DATA / kind
    files = sorted((folder / "masks").glob("*.tif"))
    step = _CROPS_OF_ONE.get(kind, 1)
    return [
        [_read(folder, path.name) for path in files[first : first + step]]
        for first in range(0, len(files), step)
    ]


def _read(folder: Path, name: str) -> Labelled:
    image = tifffile.imread(folder / "images" / name)
    truth = tifffile.imread(folder / "masks" / name).astype(np.uint8)
    if folder.name == "dsb2018" and image.ndim == 3:
        # Most of its images are gray, and a forest wants them all alike.
        image = image.mean(axis=-1).astype(np.uint8)
    return Labelled(image, truth)


def _quarters(whole: Labelled) -> list[Labelled]:
    middle = [side // 2 for side in whole.truth.shape]
    halves = [(slice(0, m), slice(m, None)) for m in middle]
    return [Labelled(whole.image[box], whole.truth[box]) for box in product(*halves)]


def draw(groups: Sequence[Sequence[Labelled]], seed: int, count: int) -> Task:
    """Choose windows in half of the images, and images to score from the others.

    The first windows are the same whatever their `count`.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    half = math.ceil(len(groups) / 2)
    learned = [each for i in order[:half] for each in groups[i]]
    scored = [each for i in order[half:] for each in groups[i]][:_SCORED]
    boxes: list[tuple[int, Box]] = []
    while len(boxes) < count:
        index = int(rng.integers(len(learned)))
        truth = learned[index].truth
        top, left = (int(rng.integers(side - SIDE + 1)) for side in truth.shape)
        box = slice(top, top + SIDE), slice(left, left + SIDE)
        # A window of nothing but background is not what anybody accepts first.
        if boxes or truth[box].any():
            boxes.append((index, box))
    windows = [reveal(learned[index], box) for index, box in boxes]
    highest = max(int(each.truth.max()) for group in groups for each in group)
    names = ["background", *(f"class {i}" for i in range(1, highest + 1))]
    return Task(windows, learned, scored, boxes, names)


def reveal(source: Labelled, box: Box) -> Labelled:
    """Return the image with its truth inside of one window, 255 elsewhere."""
    truth = np.full_like(source.truth, UNKNOWN)
    truth[box] = source.truth[box]
    return Labelled(source.image, truth)


def mean_dice(task: Task, masks: Sequence[NDArray[np.integer]]) -> float:
    """Return the mean Dice of the classes beside background over the scored images."""
    count = len(task.classes)
    confusion = sum(
        confusion_matrix(mask, each.truth, count)
        for mask, each in zip(masks, task.scored, strict=True)
    )
    return float(np.nanmean(Scores(np.asarray(confusion)).dice[1:]))
