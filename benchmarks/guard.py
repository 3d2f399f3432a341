"""Whether the guard ever lets a worse model pass.

A hundred short trainings with random kinds of images, windows and seeds: each chain
starts from ``nuclei``, and its second training goes on from the result of the first
with two more windows, where little is left to gain and chance decides.  A model counts
as kept where the card says that it is better; it is then scored on images that no
window comes from, beside the model before it.

    python -m benchmarks --only guard
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import napari_seg
from benchmarks._report import SHARED_DATA, Row, row
from benchmarks._windows import KINDS, Task, draw, mean_dice, read
from napari_seg.models.base import SegmentationModel
from napari_seg.training.calibration import Calibration
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.training.guard import Verdict

__all__ = ["run"]

CHAINS, STEPS = 50, 40
#: The guard's rule was chosen on the seeds below.
FIRST = 150
SLACK = 0.01
OPTIONS = FinetuneOptions(batch=4, crop=96)


@dataclass(frozen=True)
class Judged:
    """One training: what the guard said, and what untouched images say.

    Attributes
    ----------
    verdict : Verdict
        Of the card.
    change : float
        Of the mean Dice on untouched images.
    calibration : Calibration or None
        Of the new model, on held-out regions.
    """

    verdict: Verdict
    change: float
    calibration: Calibration | None

    @property
    def kept(self) -> bool:
        return self.verdict.improved


def run() -> list[Row]:
    """Return a row on the kept models, and one on the discarded."""
    if not SHARED_DATA.is_dir():
        reason = f"needs the data sets in {SHARED_DATA}"
        return [row("Kept models", None, "measured", None, reason)]
    found = [each for seed in range(FIRST, FIRST + CHAINS) for each in _chain(seed)]
    kept = [each.change for each in found if each.kept]
    discarded = [each.change for each in found if not each.kept]
    worse = sum(change < -SLACK for change in kept)
    unjudged = [each for each in found if not each.verdict.judged]
    missed = sum(change > SLACK for change in discarded)
    return [
        row(
            "Kept models that are worse on untouched images by more than 0.01 Dice",
            str(worse),
            "0",
            worse == 0,
            f"{len(found)} trainings of {STEPS} steps, {len(kept)} kept; change "
            f"{min(kept, default=0):+.3f} to {max(kept, default=0):+.3f}",
        ),
        row(
            "Models of which the card says no clear gain, better by more than 0.01",
            str(missed),
            "told, not aimed at",
            None,
            f"of {len(discarded)} that were not kept, {len(unjudged)} of them as too "
            f"little was labelled to judge; change {min(discarded, default=0):+.3f} to "
            f"{max(discarded, default=0):+.3f}",
        ),
        _calibration([c for each in found if (c := each.calibration)]),
    ]


def _calibration(found: Sequence[Calibration]) -> Row:
    """Return how far confidence is off, where the temperature was not fitted."""
    before, after = (
        float(np.mean([getattr(each, name) for each in found]))
        for name in ("error_before", "error_after")
    )
    return row(
        "Expected calibration error after temperature scaling",
        f"{after:.3f}",
        "below that before",
        after < before,
        f"{before:.3f} before; mean of {len(found)} trainings, on the half of the "
        "held-out squares that the temperature was not fitted to",
    )


def _chain(seed: int) -> Iterator[Judged]:
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    count = int(rng.integers(1, 5))
    task = draw(read(kind), seed, count + 2)
    model = napari_seg.adapt_model(
        napari_seg.load_model("nuclei"), classes=task.classes
    )
    before = _dice(model, task)
    for windows in (task.windows[:count], task.windows):
        result = napari_seg.finetune(
            model,
            [each.image for each in windows],
            [each.truth for each in windows],
            steps=STEPS,
            seed=seed,
            options=OPTIONS,
        )
        after = _dice(result.model, task)
        yield Judged(result.verdict, after - before, result.calibration)
        # What the card does not call better goes on, too: chance shall have its way.
        model, before = result.model, after


def _dice(model: SegmentationModel, task: Task) -> float:
    masks = [napari_seg.predict(model, each.image).labels for each in task.scored]
    return mean_dice(task, masks)
