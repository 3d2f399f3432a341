"""Who learns from accepted windows, and how the windows come about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from skimage.measure import label
from sklearn.ensemble import RandomForestClassifier

import napari_seg
from benchmarks._windows import SIDE, Box, Labelled, Task, mean_dice, reveal
from napari_seg.corrections.ledger import ACCEPTED
from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.workspace.uncertainty import UncertaintyMap

__all__ = ["Learner", "Reached", "effort", "forest", "painted"]

#: Pixels painted in a second, and seconds until an error is found, as in the published
#: simulation of RootPainter (Smith et al. 2022).
_PAINTED, _SEARCH = 400, 0.2
#: Images among which Next looks for the most doubtful place.
_LOOKED_AT = 4


@dataclass(frozen=True)
class Reached:
    """What is known after one round.

    Attributes
    ----------
    windows : int
        Seen so far.
    dice : float
        Mean over the classes beside background, on untouched images.
    effort : float or None
        Seconds that the user would need to correct the new windows of this round.
    loss : float or None
        Training loss, mean of the last tenth of the steps.
    """

    windows: int
    dice: float
    effort: float | None = None
    loss: float | None = None


def forest(task: Task, rounds: Sequence[int], seed: int) -> Iterator[Reached]:
    """Yield what a random forest on multiscale features reaches after each round."""
    # Several windows lie in one image.
    of_image = {id(each.image): each.image for each in task.windows}
    features_of = {key: _features(image) for key, image in of_image.items()}
    known = [_known(features_of[id(each.image)], each.truth) for each in task.windows]
    scored = [_features(each.image) for each in task.scored]
    for count in rounds:
        features, labels = (np.concatenate(p) for p in zip(*known[:count], strict=True))
        model = RandomForestClassifier(
            100, min_samples_leaf=2, max_features="sqrt", n_jobs=-1, random_state=seed
        )
        model.fit(features, labels)
        masks = [
            model.predict(each.reshape(-1, each.shape[-1])).reshape(each.shape[:2])
            for each in scored
        ]
        yield Reached(count, mean_dice(task, masks))


def _features(image: NDArray[Any]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = multiscale_basic_features(
        image, channel_axis=-1 if image.ndim == 3 else None, sigma_max=16
    )
    return found


def _known(
    features: NDArray[np.float32], truth: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    known = truth != UNKNOWN
    return features[known], truth[known]


@dataclass
class Learner:
    """A network that goes on from round to round.

    Attributes
    ----------
    model : SegmentationModel
        The start, then what was learned.
    options : FinetuneOptions
        How.
    steps : int
        Of each round.
    by_doubt : bool
        Whether the user goes where the model is least sure, not to random places.
    strokes_only : bool
        Whether only what the user painted is known, not the rest of the window.
    everything : bool
        Whether whole images are known from the first round on.
    """

    model: SegmentationModel
    options: FinetuneOptions
    steps: int
    by_doubt: bool = False
    strokes_only: bool = False
    everything: bool = False
    _known: list[Labelled] = field(default_factory=list)
    _places: list[tuple[int, Box]] = field(default_factory=list)

    def rounds(self, task: Task, counts: Sequence[int], seed: int) -> Iterator[Reached]:
        """Yield what is reached after each round."""
        for count in counts:
            seconds = self._annotate(task, count)
            tuned = napari_seg.finetune(
                self.model,
                [each.image for each in self._known],
                [each.truth for each in self._known],
                steps=self.steps,
                holdout=0,
                seed=seed,
                options=self.options,
            )
            self.model = tuned.model
            last = [step.loss for step in tuned.history[-max(self.steps // 10, 1) :]]
            masks = [self._predict(each.image) for each in task.scored]
            loss = float(np.mean(last))
            yield Reached(count, mean_dice(task, masks), seconds, loss)

    def _predict(self, image: NDArray[Any]) -> NDArray[np.integer]:
        labels: NDArray[np.integer] = napari_seg.predict(self.model, image).labels
        return labels

    def _annotate(self, task: Task, count: int) -> float | None:
        """Take windows in until there are `count`; return the user's seconds."""
        if self.everything:
            self._known = task.learned
            return None
        new = count - len(self._places)
        if self.by_doubt and self._places:
            boxes = self._doubtful(task, new)
        else:
            boxes = task.boxes[len(self._places) : count]
        seconds = 0.0
        for index, box in boxes:
            source = task.learned[index]
            found = self._predict(source.image)[box]
            seconds += effort(found, source.truth[box])
            window = reveal(source, box)
            if self.strokes_only:
                window.truth[box] = painted(found, source.truth[box])
            self._known.append(window)
        self._places += boxes
        return seconds

    def _doubtful(self, task: Task, count: int) -> list[tuple[int, Box]]:
        """Return the windows around the most doubtful blocks, as Next finds them."""
        found: list[tuple[float, int, Box]] = []
        for index, source in enumerate(task.learned[:_LOOKED_AT]):
            confidence = napari_seg.predict(
                self.model, source.image, confidence=True
            ).confidence
            wrong = 1 - np.asarray(confidence, np.float32)
            doubt = UncertaintyMap(wrong.shape)
            doubt.add(tuple(slice(0, side) for side in wrong.shape), 1 - wrong)
            reviewed = _Reviewed(wrong.shape)
            for other, place in self._places:
                if other == index:
                    reviewed.accept(place)
            for _ in range(count):
                block = doubt.next(reviewed)  # type: ignore[arg-type]
                if block is not None:
                    box = _around(block, wrong.shape)
                    reviewed.accept(box)
                    found.append((float(wrong[box].sum()), index, box))
        found.sort(key=lambda each: each[0], reverse=True)
        boxes = [(index, box) for _, index, box in found[:count]]
        # Small images may have too few places left.
        done = len(self._places) + len(boxes)
        return [*boxes, *task.boxes[done : len(self._places) + count]]


class _Reviewed:
    """What was accepted, as a ledger tells it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._state = np.zeros(shape, np.uint8)

    def accept(self, box: Box) -> None:
        """Take note that a window was accepted."""
        self._state[box] = ACCEPTED

    def state(self, box: Box) -> NDArray[np.uint8]:
        """Return the state of the pixels of a box."""
        return self._state[box]


def _around(box: Sequence[slice], shape: Sequence[int]) -> Box:
    """Return the window around the middle of a box."""
    starts = [
        min(max((part.start + part.stop - SIDE) // 2, 0), side - SIDE)
        for part, side in zip(box, shape, strict=True)
    ]
    return slice(starts[0], starts[0] + SIDE), slice(starts[1], starts[1] + SIDE)


def effort(found: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Return the seconds that painting over all errors takes.

    Parameters
    ----------
    found, truth : ndarray of int, shape (Y, X)
        Class ids. An error is a connected area of one class that should be another.
    """
    pixels, errors = 0, 0
    for class_id in np.unique(truth):
        wrong = (truth == class_id) & (found != class_id)
        pixels += int(wrong.sum())
        errors += int(label(wrong).max())
    return pixels / _PAINTED + errors * _SEARCH


def painted(found: NDArray[np.integer], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the truth where the user paints over an error, 255 elsewhere."""
    return np.where(found != truth, truth, UNKNOWN).astype(np.uint8)


#: Makes an arm from its task, the counts of windows of its rounds, and a seed.
Arm = Callable[[Task, Sequence[int], int], Iterator[Reached]]
