"""The simulated annotator: Dice on untouched images after 1, 2, 4, 8, 16 windows.

    python -m benchmarks.annotation [--kinds a,b] [--arms forest,ours] [--rounds 4,16]
        [--generic FILE…] [--jobs 8]

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

Four more learn as ``ours`` does; the first from another start, the others ask about the
user rather than the network:

``nuclei``
    From ``nuclei`` in place of ``generic``.
``next``
    Each window lies where the model of the round before is least sure.
``strokes``
    Nothing is accepted: only what the user paints over errors is learned from.
``everything``
    All images of that half with their whole truth, for as long.

Any of the networks can be named with other options of fine-tuning or augmentation, to
compare recipes: ``ours+norm_statistics=kept+intensity=0``.

The networks go on from round to round, as a user does, with a budget of steps each.
Beside the Dice stands how long the user would take to correct the windows of a round,
at 400 painted pixels a second and 0.2 s to find each error.

Starts that have not seen a kind are made by ``pretrain generic DATA -o FILE --leave-out
KIND …``; two, each without half of the kinds, are enough.  On a GPU trainings as small
as these wait for each other: `--jobs 16` under NVIDIA's Multi-Process Service
(`nvidia-cuda-mps-control -d`) made 470 steps a second on an H200, without it 74.

What was measured is kept in a state file, `benchmarks/annotation.jsonl`, with the
commit that it was measured at, so that an interrupted run goes on where it stopped, in
another session, too; the section of RESULTS.md and the figure are made from all that is
in it for these rounds and steps.  Begin a new one where the code of training, or
`--generic`, has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import napari_seg
from benchmarks.__main__ import BENCHMARKS
from benchmarks._arms import Arm, Learner, forest
from benchmarks._figure import Curves, draw_curves
from benchmarks._report import ROOT, Row, Section, commit, machine, row, write
from benchmarks._windows import KINDS, MORE_KINDS, Task, draw, read
from napari_seg.models.catalog import read_spec
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.finetune import FinetuneOptions

TITLE = "Simulated annotator"
ROUNDS, SEEDS, STEPS = (1, 2, 4, 8, 16), 3, 200
ARMS = ("forest", "scratch", "plain", "ours")
OTHERS = ("nuclei", "next", "strokes", "everything")
FIGURE = ROOT / "docs" / "images" / "annotation.png"
STATE = ROOT / "benchmarks" / "annotation.jsonl"

_PLAIN = AugmentOptions(rotation=0, scale=1, intensity=0, blur=0)
OPTIONS = {
    "scratch": FinetuneOptions(),
    "plain": FinetuneOptions(norm_statistics="trained", average=0, augmentation=_PLAIN),
    "ours": FinetuneOptions(),
}

_Options = TypeVar("_Options", FinetuneOptions, AugmentOptions)


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
    effort : float or None
        Seconds of the user for the new windows of this round.
    seen : bool
        Whether the start had seen the kind.
    rounds : tuple of int
        Windows of all rounds: the network has been through the smaller ones.
    loss : float or None
        Training loss, mean of the last tenth of the steps of the round.
    commit, machine : str
        Code that was measured, and where.
    """

    kind: str
    arm: str
    seed: int
    windows: int
    steps: int
    dice: float
    seconds: float
    seen: bool = False
    effort: float | None = None
    rounds: tuple[int, ...] = ROUNDS
    loss: float | None = None
    commit: str = "unknown"
    machine: str = "unknown"


def options_of(arm: str) -> FinetuneOptions:
    """Return the options of an arm, those that its name changes included."""
    name, *changes = arm.split("+")
    options = OPTIONS.get(name, OPTIONS["ours"])
    for each in changes:
        key, _, value = each.partition("=")
        if hasattr(options, key):
            options = _changed(options, key, value)
        else:
            changed = _changed(options.augmentation, key, value)
            options = replace(options, augmentation=changed)
    return options


def _changed(options: _Options, key: str, value: str) -> _Options:
    return replace(options, **{key: type(getattr(options, key))(value)})


def start_of(arm: str, kind: str, generic: Sequence[Path]) -> tuple[str, bool]:
    """Return name or file of an arm's start, and whether it has seen the kind."""
    name = arm.partition("+")[0]
    if name == "scratch":
        return "", False
    if name in ("plain", "nuclei"):
        return "nuclei", _has_seen("nuclei", kind)
    files = [*map(str, generic), "generic"]
    unseen = [each for each in files if not _has_seen(each, kind)]
    return ([*unseen, "generic"])[0], not unseen


def _has_seen(model: str, kind: str) -> bool:
    return any(kind in run.get("data", "") for run in read_spec(model).history)


def learner(arm: str, task: Task, start: str, steps: int) -> Arm:
    """Return what learns in an arm; `start` is a bundled name, a file, or empty."""
    if arm == "forest":
        return forest
    if start:
        # The bundled models take gray and RGB images alike.
        model = napari_seg.adapt_model(
            napari_seg.load_model(start), classes=task.classes
        )
    else:
        width = read_spec("nuclei").width
        model = napari_seg.create_model(
            "unet", in_channels=task.channels, classes=task.classes, width=width
        )
    name = arm.partition("+")[0]
    return Learner(
        model,
        options_of(arm),
        steps,
        by_doubt=name == "next",
        strokes_only=name == "strokes",
        everything=name == "everything",
    ).rounds


def measure(
    kind: str,
    arm: str,
    seed: int,
    steps: int,
    rounds: tuple[int, ...],
    generic: Sequence[Path],
) -> Iterator[Measured]:
    """Yield what an arm reaches after each round."""
    task = draw(read(kind), seed, max(rounds))
    start, seen = ("", False) if arm == "forest" else start_of(arm, kind, generic)
    begin = time.monotonic()
    for each in learner(arm, task, start, steps)(task, rounds, seed):
        yield Measured(
            kind=kind,
            arm=arm,
            seed=seed,
            windows=each.windows,
            steps=steps,
            dice=each.dice,
            seconds=time.monotonic() - begin,
            seen=seen,
            effort=each.effort,
            rounds=rounds,
            loss=each.loss,
            commit=commit(),
            machine=machine(gpu=True),
        )
        begin = time.monotonic()


def _all_of(*given: Any) -> list[Measured]:
    """Return all rounds of one arm, measured in a process of its own."""
    return list(measure(*given))


def measure_all(
    wanted: Sequence[tuple[str, str, int]],
    jobs: int,
    steps: int,
    rounds: tuple[int, ...],
    generic: Sequence[Path],
) -> Iterator[Measured]:
    """Yield what is wanted, (kind, arm, seed) each, `jobs` of them at a time."""
    if jobs == 1:
        for kind, arm, seed in wanted:
            yield from measure(kind, arm, seed, steps, rounds, generic)
        return
    threads = max((os.cpu_count() or 1) // jobs, 1)
    spawning = get_context("spawn")
    with ProcessPoolExecutor(jobs, spawning, torch.set_num_threads, (threads,)) as pool:
        running = [pool.submit(_all_of, *w, steps, rounds, generic) for w in wanted]
        for each in as_completed(running):
            yield from each.result()


def read_state(state: Path, steps: int, rounds: tuple[int, ...]) -> list[Measured]:
    """Return what was measured before with this budget and these rounds."""
    if not state.is_file():
        return []
    lines = map(json.loads, state.read_text(encoding="utf-8").splitlines())
    found = [Measured(**(each | {"rounds": tuple(each["rounds"])})) for each in lines]
    return [each for each in found if (each.steps, each.rounds) == (steps, rounds)]


def curves(found: Sequence[Measured]) -> Curves:
    """Return the Dice of each draw by number of windows, by arm, by kind."""
    by_kind: dict[str, dict[str, dict[int, list[float]]]] = {}
    for each in sorted(found, key=lambda each: (each.kind, each.seed)):
        by_arm = by_kind.setdefault(each.kind, {})
        by_arm.setdefault(each.arm, {}).setdefault(each.windows, []).append(each.dice)
    return by_kind


def rows(found: Sequence[Measured]) -> list[Row]:
    """Return the rows of each kind, and then those on the user."""
    seen = {each.kind for each in found if each.seen and each.arm == "ours"}
    lines = []
    for kind, arms in curves(found).items():
        marked = f"{kind}{', seen by generic' * (kind in seen)}"
        counts = sorted({count for curve in arms.values() for count in curve})
        lines += [_against_others(marked, arms, windows) for windows in counts]
        lines += [_against_ours(marked, arm, arms) for arm in arms if arm not in ARMS]
    by_effort = [
        each for each in found if each.arm == "ours" and each.effort is not None
    ]
    if by_effort:
        lines.append(_effort(by_effort))
    return lines


def _against_others(
    kind: str, arms: Mapping[str, Mapping[int, Sequence[float]]], windows: int
) -> Row:
    dice = {arm: arms[arm][windows] for arm in ARMS if windows in arms.get(arm, {})}
    detail = "; ".join(
        f"{arm} {_spread(each)}{_behind(each, dice.get('ours', []))}"
        for arm, each in dice.items()
    )
    ours, ahead = dice.pop("ours", []), None
    # A single draw has no spread to be ahead by.
    if ours and dice and windows >= 4 and min(map(len, (ours, *dice.values()))) > 1:
        spread = max(float(np.std(each)) for each in (ours, *dice.values()))
        best = max(float(np.mean(each)) for each in dice.values())
        ahead = float(np.mean(ours)) > best + spread
    return row(
        f"{kind}: Dice after {windows} windows",
        f"{np.mean(ours):.3f}" if ours else None,
        "ahead of all by the spread" if windows >= 4 else "–",
        ahead,
        detail,
    )


def _against_ours(
    kind: str, arm: str, arms: Mapping[str, Mapping[int, Sequence[float]]]
) -> Row:
    ours, others = arms.get("ours", {}), arms[arm]
    last = max(others)
    gap = None
    if last in ours and last in others:
        draws = min(len(ours[last]), len(others[last]))
        gap = float(np.mean(ours[last][:draws]) - np.mean(others[last][:draws]))
    aimed = arm == "everything"
    return row(
        f"{kind}: ours at {last} windows, less {_SAID.get(arm, arm)}",
        None if gap is None else f"{gap:+.3f}",
        "at least -0.03" if aimed else "–",
        gap >= -0.03 if aimed and gap is not None else None,
        "; ".join(f"{n}: {_spread(dice)}" for n, dice in sorted(others.items())),
    )


_SAID = {
    "nuclei": "the same from nuclei",
    "next": "windows chosen by doubt",
    "strokes": "painted pixels only",
    "everything": "the whole truth",
}


def _spread(dice: Sequence[float]) -> str:
    if len(dice) == 1:
        return f"{dice[0]:.3f} (1 draw)"
    return f"{np.mean(dice):.3f} ({min(dice):.3f}–{max(dice):.3f}, {len(dice)} draws)"


def _behind(dice: Sequence[float], ours: Sequence[float]) -> str:
    """Say how ours does from the same windows, draw by draw."""
    if dice is ours or len(dice) != len(ours):
        return ""
    gains = np.subtract(ours, dice)
    return f", ours {np.mean(gains):+.3f}, better in {(gains > 0).sum()}"


def _effort(found: Sequence[Measured]) -> Row:
    """Return what a window costs the user, from round to round."""
    rounds = found[0].rounds
    before = dict(zip(rounds[1:], rounds, strict=False))
    seconds = {
        n: np.mean(
            [
                (each.effort or 0) / (n - before.get(n, 0))
                for each in found
                if each.windows == n
            ]
        )
        for n in rounds
        if any(each.windows == n for each in found)
    }
    detail = "; ".join(f"round up to {n}: {s:.1f} s" for n, s in seconds.items())
    return row(
        "Correcting one window, mean over kinds and draws, last round",
        f"{seconds[max(seconds)]:.1f} s",
        "–",
        None,
        f"400 painted pixels a second, 0.2 s to find an error; {detail}",
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, text.split(","))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not in the state yet, and write the section to RESULTS.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.annotation", description=__doc__
    )
    parser.add_argument("--kinds", default=",".join((*KINDS, *MORE_KINDS)))
    parser.add_argument("--arms", default=",".join((*ARMS, *OTHERS)))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=_counts, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--generic", type=Path, nargs="*", default=[])
    parser.add_argument("--state", type=Path, default=STATE)
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    found = read_state(given.state, given.steps, given.rounds)
    done = {(each.kind, each.arm, each.seed, each.windows) for each in found}
    given.state.parent.mkdir(exist_ok=True)
    wanted = [
        (kind, arm, seed)
        for seed in range(given.seeds)
        for kind in given.kinds.split(",")
        for arm in given.arms.split(",")
        if (kind, arm, seed, max(given.rounds)) not in done
    ]
    for each in measure_all(
        wanted, given.jobs, given.steps, given.rounds, given.generic
    ):
        # One that was interrupted begins anew, and counts once.
        if (each.kind, each.arm, each.seed, each.windows) in done:
            continue
        found.append(each)
        with given.state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(each)) + "\n")
        print(each, file=sys.stderr, flush=True)
    command = "python -m benchmarks.annotation"
    if given.rounds != ROUNDS:
        command += f" --rounds {','.join(map(str, given.rounds))}"
    section = Section(TITLE, rows(found), command, machine(), time.monotonic() - begin)
    write(section, [*BENCHMARKS.values(), TITLE])
    draw_curves(curves(found), FIGURE)
    print(section.text())


if __name__ == "__main__":
    main()
