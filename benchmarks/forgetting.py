"""What a model forgets when it learns another kind of image.

``nuclei`` learns axons in scanning electron micrographs from four windows, for 200
steps of 8 crops of 128 pixels, and is then scored on images of `dsb2018` that it has
never seen, every eighth of each experiment.  Axons are either more of its one class, or
classes of their own beside it.  Against forgetting it has sixteen images of its past,
chosen at random, and the drawn ones that come with it, or these alone, or nothing.

    python -m benchmarks --only forgetting
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

import napari_seg
from benchmarks._report import SHARED_DATA, Row, row
from benchmarks._windows import Labelled, Task, draw, mean_dice, read
from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.training.pretrain import image_dice
from napari_seg.training.pretrain_data import NucleiSplit, split_nuclei
from napari_seg.training.sampling import Example

__all__ = ["run"]

SEEDS, STEPS, WINDOWS, REPLAYED = 3, 200, 4, 16
#: Held-out images of an experiment that are scored.
SCORED = 5
SLACK = 0.01
#: Share of the crops from earlier images, and from drawn ones.
MEASURES = {
    "16 earlier images and drawn ones": (
        FinetuneOptions().replay_share,
        FinetuneOptions().drawn_share,
    ),
    "drawn images": (0.0, FinetuneOptions().drawn_share),
    "nothing": (0.0, 0.0),
}
SCENES = {"the same class": False, "classes of their own": True}


@dataclass(frozen=True)
class _Left:
    """What is left of the old, and what there is of the new: mean Dice."""

    old: float
    new: float


def run() -> list[Row]:
    """Return a row for each scene and each measure against forgetting."""
    if not SHARED_DATA.is_dir():
        reason = f"needs the data sets in {SHARED_DATA}"
        return [row("Forgetting", None, "measured", None, reason)]
    model = napari_seg.load_model("nuclei")
    split = split_nuclei(SHARED_DATA / "dsb2018", model.spec, [])
    before = _old_dice(model, split)
    lines = []
    for scene, apart in SCENES.items():
        for measure, shares in MEASURES.items():
            found = [
                _after(model, split, seed, apart=apart, shares=shares)
                for seed in range(SEEDS)
            ]
            lost = before - float(np.mean([each.old for each in found]))
            print(f"{scene}, {measure}: {found}", file=sys.stderr, flush=True)
            lines.append(
                row(
                    f"Dice lost on dsb2018 after axon_sem as {scene}, with {measure}",
                    f"{lost:.3f}",
                    f"≤ {SLACK}" if shares[0] else "–",
                    lost <= SLACK if shares[0] else None,
                    f"{before:.3f} before; after {_range([f.old for f in found])}; "
                    f"axons {_range([f.new for f in found])}; {SEEDS} draws",
                )
            )
    return lines


def _range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def _old_dice(model: SegmentationModel, split: NucleiSplit) -> float:
    """Return the mean over experiments of the mean Dice of their images."""
    means = [
        np.mean([image_dice(model, example) for example in examples[:SCORED]])
        for examples in split.held_out.values()
    ]
    return float(np.mean(means))


def _after(
    model: SegmentationModel,
    split: NucleiSplit,
    seed: int,
    *,
    apart: bool,
    shares: tuple[float, float],
) -> _Left:
    task = draw(read("axon_sem"), seed, WINDOWS)
    if apart:
        classes = [*model.spec.classes, *task.classes[1:]]
        start = napari_seg.adapt_model(model, classes=classes)
    else:
        start = model
    lessons = [_relabelled(each, apart=apart) for each in task.windows]
    replay_share, drawn_share = shares
    tuned = napari_seg.finetune(
        start,
        [each.image for each in lessons],
        [each.truth for each in lessons],
        steps=STEPS,
        holdout=0,
        seed=seed,
        replay=_replay(split.training, seed) if replay_share else None,
        options=FinetuneOptions(replay_share=replay_share, drawn_share=drawn_share),
    ).model
    return _Left(_old_dice(tuned, split), _new_dice(tuned, task, apart=apart))


def _relabelled(each: Labelled, *, apart: bool) -> Labelled:
    """Move the classes behind `nucleus`, or make them one with it."""
    known = (each.truth > 0) & (each.truth != UNKNOWN)
    truth = each.truth.copy()
    truth[known] = each.truth[known] + 1 if apart else 1
    return replace(each, truth=truth)


def _replay(
    examples: Sequence[Example], seed: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return images, labels and ranges of a few examples, scaled as they are."""
    rng = np.random.default_rng(seed)
    chosen = [examples[i] for i in rng.choice(len(examples), REPLAYED, replace=False)]
    images = [np.moveaxis(each.image, 0, -1) for each in chosen]
    unit = np.array([[0.0, 1.0]] * images[0].shape[-1])
    return images, [each.labels for each in chosen], [unit] * len(chosen)


def _new_dice(model: SegmentationModel, task: Task, *, apart: bool) -> float:
    """Return the mean Dice of what was learned, on images that no window is from."""
    scored = [_relabelled(each, apart=apart) for each in task.scored]
    masks = [napari_seg.predict(model, each.image).labels for each in scored]
    if apart:
        # The nucleus, which no axon is, would count as a class that is missed.
        masks = [np.where(mask > 1, mask - 1, 0) for mask in masks]
        return mean_dice(task, masks)
    both = replace(task, scored=scored, classes=list(model.spec.classes))
    return mean_dice(both, masks)
