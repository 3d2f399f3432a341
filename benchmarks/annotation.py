"""The simulated annotator: Dice on untouched images after 1, 2, 4, 8, 16 windows.

    python -m benchmarks.annotation [--kinds a,b] [--arms forest,ours] [--generic FILE…]

A user reveals the truth in windows of 96 × 96 pixels, at random places of half of the
images of a kind.  After each round every arm learns from all windows so far, and the
mean Dice of the classes beside background is taken on images that no window comes from:

``forest``
    Random forest on multiscale features, as ilastik and convpaint fit it
    (`multiscale_basic_features` of scikit-image, scikit-learn).
``scratch``
    The bundled models' U-Net from random weights.
``plain``
    The same from ``nuclei``, by gradient descent alone: no augmentation beside
    mirroring, no average of the weights, statistics of each batch.
``ours``
    From ``generic``, as the dock does it.  A FILE given as `--generic` takes its place
    for the kinds that it has not seen, by its history; without one a kind that the
    bundled model has seen is marked.

The networks go on from round to round, as a user does, with a budget of steps each.
What was measured is kept in a state file, so that an interrupted run goes on where it
stopped; the section of RESULTS.md is written from all that is in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

import napari_seg
from benchmarks.__main__ import BENCHMARKS
from benchmarks._report import ROOT, Row, Section, machine, row, write
from benchmarks._windows import KINDS, Task, draw, mean_dice, read
from napari_seg.models.base import SegmentationModel
from napari_seg.models.catalog import read_spec
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.finetune import FinetuneOptions

TITLE = "Simulated annotator"
ROUNDS, SEEDS, STEPS = (1, 2, 4, 8, 16), 3, 200
ARMS = ("forest", "scratch", "plain", "ours")
STATE = ROOT / ".work" / "annotation.jsonl"

_PLAIN = AugmentOptions(rotation=0, scale=1, intensity=0, blur=0)
OPTIONS = {
    "scratch": FinetuneOptions(precision="bfloat16"),
    "plain": FinetuneOptions(
        precision="bfloat16",
        norm_statistics="trained",
        average=0,
        augmentation=_PLAIN,
    ),
    "ours": FinetuneOptions(precision="bfloat16"),
}


@dataclass(frozen=True)
class Measured:
    """One arm after one round.

    Attributes
    ----------
    kind, arm : str
        What was learned, and how.
    seed, windows, steps : int
        Draw of the windows, their number, training steps of a round.
    dice, seconds : float
        On untouched images; of learning in this round.
    seen : bool
        Whether the start had seen the kind.
    """

    kind: str
    arm: str
    seed: int
    windows: int
    steps: int
    dice: float
    seconds: float
    seen: bool = False


def forest(task: Task, rounds: Sequence[int], seed: int) -> Iterator[tuple[int, float]]:
    """Yield number of windows and Dice of the random forest after each round."""
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
        yield count, mean_dice(task, masks)


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


def network(
    task: Task,
    rounds: Sequence[int],
    seed: int,
    *,
    start: SegmentationModel,
    options: FinetuneOptions,
    steps: int,
) -> Iterator[tuple[int, float]]:
    """Yield number of windows and Dice of a network that goes on after each round."""
    model = start
    for count in rounds:
        windows = task.windows[:count]
        model = napari_seg.finetune(
            model,
            [each.image for each in windows],
            [each.truth for each in windows],
            steps=steps,
            holdout=0,
            seed=seed,
            options=options,
        ).model
        masks = [napari_seg.predict(model, each.image).labels for each in task.scored]
        yield count, mean_dice(task, masks)


def start_of(arm: str, kind: str, generic: Sequence[Path]) -> tuple[str, bool]:
    """Return name or file of an arm's start, and whether it has seen the kind."""
    if arm != "ours":
        return {"scratch": "", "plain": "nuclei"}[arm], False
    files = [*map(str, generic), "generic"]
    unseen = [each for each in files if not _has_seen(each, kind)]
    return ([*unseen, "generic"])[0], not unseen


def _has_seen(model: str, kind: str) -> bool:
    return any(kind in run.get("data", "") for run in read_spec(model).history)


def measure(
    kind: str, arm: str, seed: int, steps: int, generic: Sequence[Path]
) -> Iterator[Measured]:
    """Yield what an arm reaches after each round."""
    task = draw(read(kind), seed, max(ROUNDS))
    learn, seen = forest, False
    if arm != "forest":
        name, seen = start_of(arm, kind, generic)
        if name:
            model = napari_seg.adapt_model(
                napari_seg.load_model(name), classes=task.classes
            )
        else:
            width = read_spec("nuclei").width
            model = napari_seg.create_model(
                "unet", in_channels=task.channels, classes=task.classes, width=width
            )
        learn = partial(network, start=model, options=OPTIONS[arm], steps=steps)
    begin = time.monotonic()
    for count, dice in learn(task, ROUNDS, seed):
        now = time.monotonic()
        yield Measured(kind, arm, seed, count, steps, dice, now - begin, seen)
        begin = time.monotonic()


def read_state(state: Path, steps: int) -> list[Measured]:
    """Return what was measured before with this budget."""
    if not state.is_file():
        return []
    lines = map(json.loads, state.read_text(encoding="utf-8").splitlines())
    return [Measured(**each) for each in lines if each["steps"] == steps]


def rows(found: Sequence[Measured]) -> list[Row]:
    """Return a row for each kind and round from four windows on, and those before."""
    return [
        _row(
            kind, windows, [m for m in found if (m.kind, m.windows) == (kind, windows)]
        )
        for kind in sorted({each.kind for each in found})
        for windows in ROUNDS
    ]


def _row(kind: str, windows: int, found: Sequence[Measured]) -> Row:
    by_arm = {arm: [m.dice for m in found if m.arm == arm] for arm in ARMS}
    by_arm = {arm: dice for arm, dice in by_arm.items() if dice}
    ours, others = by_arm.pop("ours", []), by_arm
    ahead = None
    if ours and others and windows >= 4:
        spread = max(float(np.std(d)) for d in (ours, *others.values()))
        best = max(float(np.mean(d)) for d in others.values())
        ahead = float(np.mean(ours)) > best + spread
    seen = any(each.seen for each in found)
    detail = "; ".join(
        f"{arm} {np.mean(dice):.3f} ({min(dice):.3f}–{max(dice):.3f})"
        for arm, dice in {**others, "ours": ours}.items()
        if dice
    )
    draws = max(map(len, (ours, *others.values())), default=0)
    return row(
        f"{kind}{', seen by generic' * seen}: Dice after {windows} windows",
        f"{np.mean(ours):.3f}" if ours else None,
        "ahead of all by the spread" if windows >= 4 else "–",
        ahead,
        f"{detail}; {draws} draws",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not in the state yet, and write the section to RESULTS.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.annotation", description=__doc__
    )
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--generic", type=Path, nargs="*", default=[])
    parser.add_argument("--state", type=Path, default=STATE)
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    found = read_state(given.state, given.steps)
    done = {(each.kind, each.arm, each.seed, each.windows) for each in found}
    given.state.parent.mkdir(exist_ok=True)
    for seed in range(given.seeds):
        for kind in given.kinds.split(","):
            for arm in given.arms.split(","):
                if (kind, arm, seed, max(ROUNDS)) in done:
                    continue
                for each in measure(kind, arm, seed, given.steps, given.generic):
                    # One that was interrupted begins anew, and counts once.
                    if (kind, arm, seed, each.windows) in done:
                        continue
                    found.append(each)
                    with given.state.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(each)) + "\n")
                    print(each, file=sys.stderr, flush=True)
    command = "python -m benchmarks.annotation"
    section = Section(TITLE, rows(found), command, machine(), time.monotonic() - begin)
    write(section, [*BENCHMARKS.values(), TITLE])
    print(section.text())


if __name__ == "__main__":
    main()
