"""The guard asks: is the new model better on pixels that training never saw.

Labelled images are cut into square regions, volumes into blocks.  Some are held out:
their labels are unknown to training and known to the guard only.  Which ones depends on
a hash of their pixels, not on what else is labelled, so a region that was held out once
stays held out in every later run.

Rare classes make two exceptions.  A class that is labelled in held-out regions alone
would never be learned: one of them is given to training.  A class that is labelled in
few of them could not be judged: more are held out, as far as training can spare them.
Where chance leaves fewer regions than a verdict needs, it gets more, up to a third.

A model remembers the regions that it was trained on, and none of them is ever held out
again: no score rests on what an earlier version has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN, Scores, confusion_matrix
from napari_seg.scoring.regions import changed_box
from napari_seg.training.sampling import Example

__all__ = [
    "Holdout",
    "Verdict",
    "Watch",
    "compare",
    "fresh_share",
    "hold_out",
    "region_names",
]

#: Side of a region in pixels. The same for all images and for ever, since a region
#: that is cut differently would be another one.
_SIDE = 32
#: Slices of a block, which are wider apart than pixels as a rule.
_SLICES = 16
#: A region with fewer known pixels says nothing about the model; where it falls to the
#: guard, training does not see it either, for it may grow.
_MIN_PIXELS = 16
#: More regions make the verdict slower, but hardly surer. A block costs as much as ten
#: or twenty squares, since context surrounds it on all sides.
_MOST_REGIONS, _MOST_BLOCKS = 128, 40
_RESAMPLES = 2000
#: A gain below it is none: in a few places it can lie beyond chance, and on other
#: images it was as often a loss.
_LEAST_GAIN = 0.01
#: Of the interval of a verdict.
_LEVEL = 0.9
#: Of that of a fall during training: the best of many scores is a lucky one.
_FALLEN = 0.99
#: In fewer places an interval says little; a fall of 0.14 Dice was chance there.
_FEWEST_TO_FALL, _FAR = 4, 0.2
#: A class that one region alone shows is missing from every third draw of a bootstrap,
#: one that four show from every fiftieth.
_COVERING = 4
#: Fewer say nothing about chance.
_FEWEST_REGIONS = 3
#: What is learned from one window need not hold anywhere else.
_FEWEST_PLACES = 2
#: Squares along a side of what counts as one place.
_REACH = 4


@dataclass(frozen=True, eq=False)
class Region:
    """One square of an example.

    Attributes
    ----------
    example : int
        Index of the example.
    box : tuple of slice
        Rows and columns, of volumes slices, rows and columns.
    digest : int
        Hash of its pixels, 64 bits.
    counts : ndarray of int64, shape (256,)
        Pixels by label.
    place : int
        The window that it lies in; see :func:`_places`.
    """

    example: int
    box: tuple[slice, ...]
    digest: int
    counts: NDArray[np.int64]
    place: int

    @property
    def chance(self) -> float:
        """From 0 to 1, by its pixels alone; the lowest are held out."""
        return self.digest / 2**64

    @property
    def name(self) -> str:
        """By which a model remembers it."""
        return f"{self.digest >> 32:08x}"

    @property
    def known(self) -> int:
        """Labelled pixels."""
        return int(self.counts[:UNKNOWN].sum())


def hold_out(
    examples: Sequence[Example], share: float, trained: Collection[str] = ()
) -> tuple[list[Example], Holdout]:
    """Divide labelled images into what training sees and what the guard keeps.

    Parameters
    ----------
    examples : sequence of Example
        Partly labelled images.
    share : float
        Expected share of the regions to hold out, 0 to 0.9; 0 holds out none.
    trained : collection of str
        Names of the regions that the model was trained on, from :func:`region_names`.

    Returns
    -------
    training : list of Example
        The examples, with held-out labels set to 255.
    holdout : Holdout
        The held-out regions; empty where fewer than two regions are labelled, or all
        were trained on.
    """
    regions = sorted(_regions(examples), key=lambda region: region.digest)
    fresh = [region for region in regions if region.name not in trained]
    chosen = [region for region in fresh if region.chance < share]
    _release_lonely_classes(chosen, regions)
    if share > 0:
        _cover_classes(chosen, regions, fresh)
        _fill_up(chosen, regions, fresh)
    labels = [example.labels.copy() for example in examples]
    for region in chosen:
        labels[region.example][region.box] = UNKNOWN
    training = [
        replace(example, labels=rest)
        for example, rest in zip(examples, labels, strict=True)
    ]
    chosen.sort(key=lambda region: region.digest)
    scored = [region for region in chosen if region.known >= _MIN_PIXELS]
    blocks = any(example.labels.ndim == 3 for example in examples)
    most = _MOST_BLOCKS if blocks else _MOST_REGIONS
    return training, Holdout(examples, scored[:most])


def _release_lonely_classes(chosen: list[Region], regions: Sequence[Region]) -> None:
    """Take regions out of `chosen` until training sees every class that is labelled.

    It then also sees something at all.
    """
    for class_id in np.flatnonzero(_pixels(regions)[:UNKNOWN]):
        if class_id in _hidden(chosen, regions):
            chosen.remove(max(chosen, key=lambda region: region.counts[class_id]))


def _cover_classes(
    chosen: list[Region], regions: Sequence[Region], fresh: Sequence[Region]
) -> None:
    """Add `fresh` ones to `chosen` until the guard sees enough of each class.

    That is a third of the regions that show it, from one to four.
    """
    for class_id in map(int, np.flatnonzero(_pixels(regions)[:UNKNOWN])):
        showing = _showing(class_id, regions)
        wanted = min(max(len(showing) // 3, 1), _COVERING)
        missing = wanted - sum(region in chosen for region in showing)
        for region in _showing(class_id, fresh):
            if missing <= 0:
                break
            if region not in chosen and not _hidden([*chosen, region], regions):
                chosen.append(region)
                missing -= 1


def _showing(class_id: int, regions: Sequence[Region]) -> list[Region]:
    return [region for region in regions if region.counts[class_id] >= _MIN_PIXELS]


def _fill_up(
    chosen: list[Region], regions: Sequence[Region], fresh: Sequence[Region]
) -> None:
    """Add `fresh` ones to `chosen` until it is enough, or a third of the regions.

    Enough are three, in two places.
    """
    wanted = min(_FEWEST_REGIONS, len(regions) // 3)
    for region in fresh:
        scored = [other for other in chosen if other.known >= _MIN_PIXELS]
        places = {other.place for other in scored}
        if len(scored) >= wanted:
            if len(places) >= min(_FEWEST_PLACES, wanted):
                return
            if region.place in places:
                continue
        if region in chosen or region.known < _MIN_PIXELS:
            continue
        if not _hidden([*chosen, region], regions):
            chosen.append(region)


def _hidden(chosen: Sequence[Region], regions: Sequence[Region]) -> list[int]:
    """Return the classes that are labelled in `chosen` alone."""
    inside, everywhere = _pixels(chosen), _pixels(regions)
    hidden = np.flatnonzero((inside > 0) & (inside == everywhere))
    return [int(class_id) for class_id in hidden if class_id != UNKNOWN]


def _pixels(regions: Sequence[Region]) -> NDArray[np.int64]:
    total = np.zeros(256, np.int64)
    for region in regions:
        total += region.counts
    return total


def _regions(examples: Sequence[Example]) -> Iterator[Region]:
    squares = []
    for index, example in enumerate(examples):
        for box in _squares(example.labels.shape):
            counts = np.bincount(example.labels[box].ravel(), minlength=256)
            if counts[:UNKNOWN].any():
                squares.append((index, box, counts))
    corners = [_corner(index, examples[index], box) for index, box, _ in squares]
    for (index, box, counts), place in zip(squares, _places(corners), strict=True):
        digest = _digest(examples[index].image[(slice(None), *box)])
        yield Region(index, box, digest, counts, place)


def _corner(
    index: int, example: Example, box: tuple[slice, ...]
) -> tuple[Hashable, int, int]:
    """Return plane, row and column of a square, counted in squares.

    Blocks of a volume that lie above each other are one place.
    """
    plane, top, left = example.origin or (index, 0, 0)
    rows, columns = box[-2:]
    return plane, (top + rows.start) // _SIDE, (left + columns.start) // _SIDE


def _places(corners: Sequence[tuple[Hashable, int, int]]) -> list[int]:
    """Return a number for each square that tells the windows apart.

    Squares of a plane that touch lie in one window. Where that is wider than one and a
    half of 128 pixels, it counts as several.
    """
    planes: dict[Hashable, list[tuple[int, int]]] = {}
    for plane, row, column in corners:
        planes.setdefault(plane, []).append((row, column))
    keys: dict[tuple[Hashable, int, int], tuple[Hashable, int, int, int]] = {}
    for plane, squares in planes.items():
        rows, columns = np.array(squares).T
        grid = np.zeros((rows.max() + 1, columns.max() + 1), bool)
        grid[rows, columns] = True
        windows, _ = ndimage.label(grid, np.ones((3, 3)))
        boxes = ndimage.find_objects(windows)
        for row, column in squares:
            window = int(windows[row, column])
            down, across = boxes[window - 1]
            parts = _part(row, down), _part(column, across)
            keys[plane, row, column] = (plane, window, *parts)
    number = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
    return [number[keys[corner]] for corner in corners]


def _part(square: int, extent: slice) -> int:
    """Return in which of the parts of a window, alike in size, a square lies."""
    start, side = int(extent.start), int(extent.stop - extent.start)
    return (square - start) * max((side + _REACH // 2) // _REACH, 1) // side


def region_names(examples: Sequence[Example]) -> list[str]:
    """Return the names of all regions with a label, by which a model remembers them."""
    return sorted({region.name for region in _regions(examples)})


def fresh_share(example: Example, trained: Collection[str]) -> float:
    """Return the share of the labels that lie in regions not trained on, 0 to 1."""
    known = fresh = 0
    for region in _regions([example]):
        known += region.known
        fresh += region.known * (region.name not in trained)
    return fresh / max(known, 1)


def _squares(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    sides = (_SLICES,) * (len(shape) - 2) + (_SIDE, _SIDE)
    spans = (
        [slice(start, start + side) for start in range(0, length, side)]
        for length, side in zip(shape, sides, strict=True)
    )
    return product(*spans)


def _digest(pixels: NDArray[np.float32]) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


class Holdout:
    """Held-out regions, each with the context that the network needs around it.

    Parameters
    ----------
    examples : sequence of Example
        Images with all their labels.
    regions : sequence of Region
        By ascending chance.
    """

    def __init__(self, examples: Sequence[Example], regions: Sequence[Region]) -> None:
        self._examples = examples
        self.regions = tuple(regions)

    def __len__(self) -> int:
        return len(self.regions)

    def first(self, count: int) -> Holdout:
        """Return at most `count` of the regions; the same ones each time."""
        return Holdout(self._examples, self.regions[:count])

    @property
    def enough(self) -> bool:
        """Whether there are regions enough to fit a number to."""
        return len(self) >= _FEWEST_REGIONS

    @property
    def places(self) -> list[int]:
        """A number for each region that tells in which window it lies."""
        return [region.place for region in self.regions]

    @torch.inference_mode()
    def logits(
        self, model: SegmentationModel
    ) -> Iterator[tuple[Tensor, NDArray[np.uint8]]]:
        """Yield logits (K, [Z,] Y, X) on the CPU and labels of each region.

        Of a block it is the part in which labels lie, often a single slice.

        Parameters
        ----------
        model : SegmentationModel
            In eval mode.
        """
        device = next(model.parameters()).device
        for region in self.regions:
            example = self._examples[region.example]
            box = region.box
            if len(box) == 3:
                box = changed_box(example.labels[box] != UNKNOWN, box) or box
            image, inner = _with_context(example.image, box, model)
            x = model.standardize(torch.from_numpy(image)[None].to(device))
            yield model(x)[0].cpu()[(..., *inner)], example.labels[box]

    def confusions(self, model: SegmentationModel) -> NDArray[np.int64]:
        """Return one confusion matrix for each region, shape (R, K, K).

        Parameters
        ----------
        model : SegmentationModel
            In eval mode.
        """
        n_classes = model.spec.n_classes
        counts = np.zeros((len(self), n_classes, n_classes), np.int64)
        for count, (logits, truth) in zip(counts, self.logits(model), strict=True):
            prediction = logits.argmax(dim=0).numpy()
            count[:] = confusion_matrix(prediction, truth, n_classes)
        return counts


def _with_context(
    image: NDArray[np.float32], box: tuple[slice, ...], model: SegmentationModel
) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
    """Return the box with the model's halo around it, and where the box lies inside.

    Origin and end lie on the model's grid, as for tiles of a prediction.
    """
    outer, inner = [], []
    axes = zip(
        box, image.shape[1:], model.halos, model.strides, model.least, strict=True
    )
    for part, side, halo, stride, least in axes:
        start = max(min(part.start - halo, side - least), 0)
        start = start // stride * stride
        end = max(part.stop + halo, start + least)
        end = min(-(-end // stride) * stride, side)
        outer.append(slice(start, end))
        inner.append(slice(part.start - start, min(part.stop, side) - start))
    return np.ascontiguousarray(image[(slice(None), *outer)]), tuple(inner)


@dataclass(frozen=True)
class Verdict:
    """Old model against new on held-out regions.

    Attributes
    ----------
    before, after : Scores
        Of the old and of the new model, over the same pixels.
    regions, places, pixels : int
        How much the comparison rests on.
    interval : tuple of float
        90 % bootstrap interval of the change of the mean Dice; NaN where there are
        fewer than three regions or two places.
    """

    before: Scores
    after: Scores
    regions: int
    places: int
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
    def judged(self) -> bool:
        """Whether there are regions enough to tell a change from chance."""
        return self.regions >= _FEWEST_REGIONS and self.places >= _FEWEST_PLACES

    @property
    def improved(self) -> bool:
        """Whether the gain lies beyond what chance would give, and is worth it."""
        return self.judged and self.gain >= _LEAST_GAIN and self.interval[0] > 0

    @property
    def worse(self) -> bool:
        """Whether the loss lies beyond what chance would give."""
        return self.judged and self.gain < 0 and self.interval[1] < 0

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if not self.judged:
            return "Too little is labelled to judge: accept more, in several places."
        if self.improved:
            return "Better on held-out pixels."
        if self.worse:
            return "Worse on held-out pixels."
        return "No clear gain on held-out pixels."

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "regions": self.regions,
            "places": self.places,
            "pixels": self.pixels,
            "interval": list(self.interval) if self.judged else None,
            "improved": self.improved,
            "sentence": self.sentence,
        }


class Watch:
    """Scores a model again and again while it is trained.

    A few regions say little: of several states of a training, the one that scores best
    on them is often only the luckiest, and worse elsewhere than the last one, which
    has settled. So the last one counts, unless it has fallen behind beyond chance; in
    too few places to tell, unless it has fallen far.

    Parameters
    ----------
    holdout : Holdout
        At least one region.
    """

    def __init__(self, holdout: Holdout) -> None:
        self._holdout = holdout
        self._best: NDArray[np.int64] | None = None
        self._last: NDArray[np.int64] | None = None

    def __call__(self, model: SegmentationModel) -> float:
        """Return the mean Dice of a model in eval mode, and remember its mistakes."""
        self._last = self._holdout.confusions(model)
        score = _mean_dice(self._last)
        if self._best is None or not _mean_dice(self._best) >= score:
            self._best = self._last
        return score

    def has_fallen(self) -> bool:
        """Return whether the last score is so far below the best one."""
        if self._best is None or self._last is None:
            return False
        verdict = compare(self._best, self._last, self._holdout.places, level=_FALLEN)
        if verdict.places < _FEWEST_TO_FALL:
            return verdict.gain < -_FAR
        return verdict.worse


def _mean_dice(confusions: NDArray[np.int64]) -> float:
    return Scores(confusions.sum(axis=0)).mean_dice


def compare(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    places: Sequence[int],
    seed: int = 0,
    level: float = _LEVEL,
) -> Verdict:
    """Judge two models by their confusion matrices on the same regions.

    The interval comes from resampling whole places with replacement (bootstrap, Efron
    1979; of clusters, Field & Welsh 2007), since neither the pixels of one region nor
    the regions of one window are independent.

    Parameters
    ----------
    before, after : ndarray of int64, shape (R, K, K)
        From :meth:`Holdout.confusions`.
    places : sequence of int
        For each region, where it lies; from :attr:`Holdout.places`.
    seed : int
        Seed of the resampling.
    level : float
        Probability of the interval, 0 to 1.
    """
    old, new = Scores(before.sum(axis=0)), Scores(after.sum(axis=0))
    inside = np.asarray(places)[:, None] == np.unique(np.asarray(places))
    count = inside.shape[1]
    if len(before) < _FEWEST_REGIONS or count < _FEWEST_PLACES:
        return Verdict(old, new, len(before), count, (float("nan"), float("nan")))
    before, after = (np.tensordot(inside.T, each, 1) for each in (before, after))
    rng = np.random.default_rng(seed)
    draws = rng.integers(count, size=(_RESAMPLES, count))
    gains = [
        Scores(after[draw].sum(axis=0)).mean_dice
        - Scores(before[draw].sum(axis=0)).mean_dice
        for draw in draws
    ]
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(gains, [tail, 100 - tail])
    return Verdict(old, new, len(inside), count, (float(low), float(high)))


def known_pixels(examples: Iterable[Example]) -> int:
    """Return the number of labelled pixels."""
    return sum(int(np.count_nonzero(e.labels != UNKNOWN)) for e in examples)
