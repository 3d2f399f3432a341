"""What one brush dab costs: score, ledger and hand-over to the journal together.

Run with ``python -m benchmarks.live_score``.  The mask is painted with a round 40 px
brush at random places, so that its pixels are in no cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.journal import Journal
from napari_seg.corrections.ledger import Ledger

__all__ = ["run"]

SIZES = (1024, 4096, 8192, 16384)
BRUSH = 40
DABS = 400
CLASSES = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of the updates on one size of mask."""

    seconds: NDArray[np.float64]
    extra_bytes_per_pixel: float

    @property
    def median(self) -> float:
        """Median in ms."""
        return float(np.median(self.seconds)) * 1e3

    @property
    def p95(self) -> float:
        """95th percentile in ms."""
        return float(np.percentile(self.seconds, 95)) * 1e3


def run() -> list[dict[str, Any]]:
    """Measure every claim; return a row for each."""
    timings = {size: measure(size) for size in SIZES}
    pair = masks(8192)
    # The first one is slower, since the system finds it memory.
    first, *others = (timed(numpy_recount, *pair) * 1e3 for _ in range(6))
    recount = statistics.median(others)
    largest, growth = timings[16384], timings[16384].p95 / timings[1024].p95
    faster = recount / timings[8192].median
    extra = largest.extra_bytes_per_pixel
    detail = ", ".join(
        f"{size}²: median {timing.median:.2f} ms, p95 {timing.p95:.2f} ms"
        for size, timing in timings.items()
    )
    return [
        row(
            "Update for a 40 px brush on 4096×4096, median",
            f"{timings[4096].median:.2f} ms",
            "under 2 ms",
            timings[4096].median < 2,
            detail,
        ),
        row(
            "Update for a 40 px brush on 16384×16384, 95th percentile",
            f"{largest.p95:.2f} ms",
            "at most 1 ms",
            largest.p95 <= 1,
            "score, ledger and hand-over to the journal together",
        ),
        row(
            "Update on 16384×16384 against 1024×1024, 95th percentiles",
            f"{growth:.2f} ×",
            "at most 1.5 ×",
            growth <= 1.5,
            "cost follows the stroke, not the image",
        ),
        row(
            "Update against a NumPy recount on 8192×8192",
            f"{faster:,.0f} × faster",
            "at least 1000 ×",
            faster >= 1000,
            f"recount {recount:.0f} ms (median of 5; the first took {first:.0f} ms), "
            f"update {timings[8192].median:.2f} ms (median)",
        ),
        row(
            "Memory beyond mask and reference",
            f"{extra:.2f} bytes per pixel",
            "at most 1",
            extra <= 1,
            "label and flags packed into one byte, up to 63 classes",
        ),
    ]


def row(claim: str, figure: str, target: str, met: bool, detail: str) -> dict[str, Any]:
    return {
        "claim": claim,
        "figure": figure,
        "target": target,
        "met": met,
        "detail": detail,
    }


def masks(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a mask and a reference of blobs, which agree in most pixels."""
    rng = np.random.default_rng(0)
    tile = rng.integers(0, CLASSES, (16, 16), np.uint8).repeat(32, 0).repeat(32, 1)
    labels = np.tile(tile, (size // 512, size // 512))
    return labels, labels.copy()


def measure(size: int) -> Timing:
    labels, reference = masks(size)
    ledger = Ledger(labels, reference, CLASSES)
    rows, columns = np.ogrid[:BRUSH, :BRUSH]
    middle = (BRUSH - 1) / 2
    disk = (rows - middle) ** 2 + (columns - middle) ** 2 < (BRUSH / 2) ** 2
    rng = np.random.default_rng(1)
    seconds = np.zeros(DABS)
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        for i in range(DABS):
            y, x = rng.integers(0, size - BRUSH, 2).tolist()
            region = slice(y, y + BRUSH), slice(x, x + BRUSH)
            labels[region][disk] = rng.integers(0, CLASSES)
            seconds[i] = timed(update, ledger, journal, region)
            # As between two strokes: the journal's thread writes the last one.
            journal.flush()
        journal.close()
    return Timing(seconds, ledger.nbytes / labels.size)


def update(
    ledger: Ledger, journal: Journal, region: tuple[slice, ...]
) -> tuple[float, float]:
    """Do what one dab of the brush sets off; return what the score table shows."""
    change = ledger.edited(region)
    if change is not None:
        journal.append(change)
    scores = ledger.scores("whole")
    return scores.mean_iou, scores.mean_dice


def numpy_recount(labels: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Any:
    """Count the confusion matrix as one does with NumPy alone."""
    pairs = labels.astype(np.intp) * CLASSES + reference
    return np.bincount(pairs.ravel(), minlength=CLASSES**2)


def timed(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main() -> None:
    for line in run():
        verdict = "met" if line["met"] else "NOT MET"
        print(f"{line['claim']}: {line['figure']} ({line['target']}; {verdict})")
        print(f"    {line['detail']}")


if __name__ == "__main__":
    main()
