"""Which start learns a new kind of image best from four accepted windows.

    python -m benchmarks.few_windows MODEL… [--draws 3] [--steps 190] [--kinds a,b]

For each labelled 2-D kind of image, four random windows of 96 × 96 with their whole
truth are given to fine-tuning, as after *Accept view*; the figure is the mean Dice of
the classes beside background on images that no window comes from.  Side by side, from
the same windows: random weights, the bundled ``nuclei``, and each MODEL that has not
seen the kind, as its history says (`pretrain generic --leave-out KIND`).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import napari_seg
from benchmarks.__main__ import BENCHMARKS
from benchmarks._report import Row, Section, machine, row, write
from benchmarks._windows import KINDS, Task, draw, mean_dice, read
from napari_seg.models.base import SegmentationModel
from napari_seg.models.catalog import read_spec
from napari_seg.training.finetune import FinetuneOptions

TITLE = "Starts for four windows"
WINDOWS, STEPS, DRAWS = 4, 190, 3


def start_model(start: str, classes: Sequence[str], channels: int) -> SegmentationModel:
    """Return a start for these classes: a file, a bundled name, or "random"."""
    if start == "random":
        width = read_spec("nuclei").width
        return napari_seg.create_model(
            "unet", in_channels=channels, classes=classes, width=width
        )
    return napari_seg.adapt_model(napari_seg.load_model(start), classes=classes)


def dice_after(
    start: str,
    task: Task,
    steps: int,
    seed: int,
    options: FinetuneOptions | None = None,
) -> float:
    """Fine-tune from the windows; return the mean foreground Dice where none lies."""
    tuned = napari_seg.finetune(
        start_model(start, task.classes, task.channels),
        [each.image for each in task.windows],
        [each.truth for each in task.windows],
        steps=steps,
        holdout=0,
        seed=seed,
        options=options,
    )
    masks = [napari_seg.predict(tuned.model, each.image).labels for each in task.scored]
    return mean_dice(task, masks)


def starts_for(kind: str, models: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield name and file of each start that has not seen the kind."""
    yield "random", "random"
    yield "nuclei", "nuclei"
    for path in models:
        spec = read_spec(path)
        if all(kind not in run["data"] for run in spec.history):
            yield spec.name, str(path)


def measure(
    kind: str, models: Sequence[Path], draws: int, steps: int
) -> dict[str, list[float]]:
    """Return the Dice of each start, one for each draw of windows."""
    groups = read(kind)
    found: dict[str, list[float]] = {}
    for seed in range(draws):
        task = draw(groups, seed, WINDOWS)
        for name, start in starts_for(kind, models):
            dice = dice_after(start, task, steps, seed)
            found.setdefault(name, []).append(dice)
            print(f"{kind} {seed} {name}: {dice:.3f}", file=sys.stderr, flush=True)
    return found


def rows(
    kinds: Sequence[str], models: Sequence[Path], draws: int, steps: int
) -> list[Row]:
    """Return a row for each kind."""
    lines = []
    for kind in kinds:
        found = measure(kind, models, draws, steps)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        others = {n: m for n, m in means.items() if n not in ("random", "nuclei")}
        best = max(others.values(), default=math.nan)
        ahead = best > max(means["random"], means["nuclei"]) if others else None
        detail = "; ".join(
            f"{name} {means[name]:.3f} ({min(v):.3f}–{max(v):.3f})"
            for name, v in found.items()
        )
        lines.append(
            row(
                f"{kind}: Dice after {steps} steps from {WINDOWS} windows",
                f"{best:.3f}" if others else None,
                "above nuclei and random",
                ahead,
                f"{detail}; mean and range of {draws} draws",
            )
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the section to RESULTS.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_windows", description=__doc__
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--kinds", default=",".join(KINDS))
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    found = rows(given.kinds.split(","), given.models, given.draws, given.steps)
    command = "python -m benchmarks.few_windows MODEL…"
    section = Section(TITLE, found, command, machine(), time.monotonic() - begin)
    write(section, [*BENCHMARKS.values(), TITLE])
    print(section.text())


if __name__ == "__main__":
    main()
