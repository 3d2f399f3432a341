"""How soon one can go on: a corrected 8192² image opened again.

Each run is a process of its own, as after a restart.  The mask has as many objects as
a field of nuclei, a prediction everywhere, and 300 corrected strokes that only the
journal has.  Before the first run the files are put out of the disk's cache.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import Row, row
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.project import Project
from napari_seg.scoring.regions import split

__all__ = ["run"]

_SIZE = 8192
_STROKES = 300
_DABS = 10
_BRUSH = 20
_REPEATS = 5
_PARTS = ("open project and store", "load", "ledger", "100 strokes to undo")


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_project(folder)
        uncached = _forget(folder)
        first, *runs = [_run(folder) for _ in range(1 + _REPEATS)]
    seconds = [sum(parts[:3]) for parts in runs]
    medians = [statistics.median(part) for part in zip(*runs, strict=True)]
    median = statistics.median(seconds)
    span = f"{min(seconds):.2f} to {max(seconds):.2f} s"
    return [
        row(
            f"Reopening a corrected {_SIZE}² image, {_STROKES} strokes in the journal",
            f"{median:.2f} s",
            "< 2 s",
            median < 2,
            f"median of {_REPEATS} processes, {span}; {_told(medians[:3])}; "
            "with the import of zarr",
        ),
        row(
            "the same for the first time",
            f"{sum(first[:3]):.2f} s",
            "told, not aimed at",
            None,
            f"{_told(first[:3])}; files {'not ' * uncached}in the disk's cache",
        ),
        row(
            "Strokes for the viewer's undo, read after that",
            f"{medians[3]:.2f} s",
            "told, not aimed at",
            None,
            "the last 100 strokes",
        ),
    ]


def _told(seconds: list[float]) -> str:
    return ", ".join(
        f"{name} {value:.2f} s" for name, value in zip(_PARTS, seconds, strict=False)
    )


def make_project(folder: Path) -> None:
    """Write a project as a day of corrections leaves it."""
    rng = np.random.default_rng(0)
    with Project.create(folder) as project:
        store = project.open_store(project.add_image("image", "0" * 32, (_SIZE,) * 2))
        mask = store.load()
        ledger = Ledger(mask.labels, mask.reference, 2, mask.state)
        predicted = nuclei(rng)
        for tile in split(tuple(slice(0, n) for n in ledger.shape), 1 << 20):
            store.append(ledger.predicted(tile, predicted[tile]))
        store.stroke_finished()
        store.flush()
        store.compact()
        rows, columns = np.ogrid[:_BRUSH, :_BRUSH]
        middle = (_BRUSH - 1) / 2
        disk = (rows - middle) ** 2 + (columns - middle) ** 2 < (_BRUSH / 2) ** 2
        for stroke in range(_STROKES):
            place, step = rng.integers(0, _SIZE, 2), rng.integers(-12, 13, 2)
            for dab in range(_DABS):
                y, x = np.clip(place + dab * step, 0, _SIZE - _BRUSH).tolist()
                region = slice(y, y + _BRUSH), slice(x, x + _BRUSH)
                ledger.labels[region][disk] = stroke % 2
                change = ledger.edited(region)
                if change is not None:
                    store.append(change)
            store.stroke_finished()
        store.close()


def nuclei(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a mask of ellipses, one for each 50 × 50 pixels."""
    mask = np.zeros((_SIZE, _SIZE), np.uint8)
    for _ in range((_SIZE // 50) ** 2):
        y, x = rng.integers(0, _SIZE - 40, 2)
        height, width = rng.uniform(8, 20, 2)
        rows, columns = np.ogrid[-20:20, -20:20]
        inside = (rows / height) ** 2 + (columns / width) ** 2 < 1
        mask[y : y + 40, x : x + 40][inside] = 1
    return mask


def _forget(folder: Path) -> bool:
    """Put the files out of the disk's cache, where the system lets us."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    return True


def _run(folder: Path) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.reopening", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def _reopen(folder: Path) -> list[float]:
    """Return the seconds of each part."""
    times = [time.perf_counter()]
    # Read-only, so that the strokes stay in the journal for the next run.
    project = Project.open(folder, read_only=True)
    (image,) = project.images.values()
    store = project.open_store(image)
    times.append(time.perf_counter())
    mask = store.load()
    times.append(time.perf_counter())
    ledger = Ledger(mask.labels, mask.reference, 2, mask.state)
    times.append(time.perf_counter())
    from napari_seg.corrections.history import last_strokes

    strokes = last_strokes(store, labels=ledger.labels)
    times.append(time.perf_counter())
    assert ledger.corrected_pixels
    assert len(strokes) == 100
    return np.diff(times).tolist()


if __name__ == "__main__":
    print(json.dumps(_reopen(Path(sys.argv[1]))))
