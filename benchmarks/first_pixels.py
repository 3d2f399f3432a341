"""How soon one sees something of a large image that lies on the disk.

The image is a zarr array of 16384² pixels, and the view a square of 1024² in it, off
the grid of chunks and tiles.  The clock starts with the call of ``stream()``, as the
dock calls it: reading the intensities of the image (which is done once for each image,
and told apart), choosing and reading the tiles, and computing them.  Beside it goes the
bare network over what the tiles that cover the view read, normalised and in memory.
"Correct" is the class that one pass over the view and 256 px around it gives.

    python -m benchmarks --only first_pixels
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._fields import halo_of, write_zarr
from benchmarks._report import Row, row
from benchmarks._timing import seconds, threads
from napari_seg.inference.axes import AxesReading, Box, read_axes
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.inference.predict import stream
from napari_seg.inference.tiling import clip_box, make_tile
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.scoring.regions import intersection, relative

__all__ = ["run"]

SIDE, VIEW, MARGIN = 16384, 1024, 256
THREADS, ROUNDS, TIMES = 2, 5, 1.5
#: Pixels of a million that the halo may cost.
WRONG = 100.0


@dataclass(frozen=True)
class _Start:
    """What one start gave: seconds, tiles that cover the view, and the view's mask."""

    first: float
    whole: float
    cores: list[Box]
    labels: NDArray[np.uint8] = field(repr=False)


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    with tempfile.TemporaryDirectory() as folder, threads(THREADS):
        return _measure(load_model("nuclei"), write_zarr(Path(folder) / "image", SIDE))


def _measure(model: SegmentationModel, image: Any) -> list[Row]:
    reading = read_axes(image.shape, image.dtype, model.spec)
    at = SIDE * 2 // 5 + 100
    view = (slice(at, at + VIEW), slice(at, at + VIEW))

    def ranges() -> NDArray[np.float64]:
        return channel_ranges(image, reading, model.spec.normalization)

    known = ranges()
    start = _start(model, image, view)
    bare = _Bare(model, image, reading, known, start.cores)
    bare()
    starts, passes, counts = [], [], []
    for _ in range(ROUNDS):
        starts.append(_start(model, image, view))
        passes.append(seconds(bare))
        counts.append(seconds(ranges))
    first, whole = (
        statistics.median(getattr(each, name) for each in starts)
        for name in ("first", "whole")
    )
    forward, counting = statistics.median(passes), statistics.median(counts)
    wrong = _wrong(model, image, reading, known, view, start.labels)
    what = f"a {VIEW}² view of a {SIDE}² zarr, `nuclei`"
    return [
        row(
            f"{what}: all of it there, against bare passes of the tiles that cover it",
            f"{whole / forward:.2f} ×",
            f"≤ {TIMES} ×",
            whole <= TIMES * forward,
            f"{whole:.2f} s against {forward:.2f} s, {len(start.cores)} tiles, "
            f"{bare.pixels / 1e6:.1f} Mpx with halo; {counting:.2f} s of it for the "
            f"image's intensities; {THREADS} threads, median of {ROUNDS} alternating",
        ),
        row(
            f"{what}: the first tile there",
            f"{first:.2f} s",
            "told, not aimed at",
            None,
            f"{first / forward:.2f} × the bare passes of all {len(start.cores)}",
        ),
        row(
            f"{what}: pixels of a million that are not correct",
            f"{wrong * 1e6:.1f}",
            f"≤ {WRONG:g}",
            wrong * 1e6 <= WRONG,
            f"against one pass over the view and {MARGIN} px around it",
        ),
    ]


def _start(model: SegmentationModel, image: Any, view: Box) -> _Start:
    """Predict until the view is complete."""
    begun = time.perf_counter()
    labels = np.zeros((VIEW, VIEW), np.uint8)
    missing = np.ones((VIEW, VIEW), bool)
    cores, first = [], 0.0
    with closing(
        stream(model, image, device="cpu", look=lambda: ((), view))
    ) as results:
        for result in results:
            shared = intersection(view, result.box)
            if shared is None:
                raise AssertionError("a tile outside the view came before it was done")
            here = relative(shared, view)
            labels[here] = result.labels[relative(shared, result.box)]
            missing[here] = False
            cores.append(result.box)
            first = first or time.perf_counter() - begun
            if not missing.any():
                break
        return _Start(first, time.perf_counter() - begun, cores, labels)


class _Bare:
    """The network alone, over what the tiles with these cores read."""

    def __init__(
        self,
        model: SegmentationModel,
        image: Any,
        reading: AxesReading,
        ranges: NDArray[np.float64],
        cores: list[Box],
    ) -> None:
        halo = halo_of(model)
        self._model = model
        self._tiles = [
            _network_input(
                model,
                image,
                reading,
                ranges,
                make_tile(core, reading.plane_shape, halo, model.stride).read,
            )
            for core in cores
        ]
        self.pixels = sum(x[0, 0].numel() for x in self._tiles)

    @torch.inference_mode()
    def __call__(self) -> None:
        for x in self._tiles:
            self._model(x)


def _network_input(
    model: SegmentationModel,
    image: Any,
    reading: AxesReading,
    ranges: NDArray[np.float64],
    box: Box,
) -> torch.Tensor:
    plane = normalize(
        reading.plane(image, (), clip_box(box, reading.plane_shape)), ranges
    )
    x = torch.from_numpy(plane)[None].expand(1, model.spec.in_channels, -1, -1)
    return x.contiguous(memory_format=torch.channels_last)


def _wrong(
    model: SegmentationModel,
    image: Any,
    reading: AxesReading,
    ranges: NDArray[np.float64],
    view: Box,
    labels: NDArray[np.uint8],
) -> float:
    """Return the share of the view's pixels that one pass classes otherwise."""
    rows, columns = (
        slice((s.start - MARGIN) // model.stride * model.stride, s.stop + MARGIN)
        for s in view
    )
    around = (rows, columns)
    with torch.inference_mode():
        logits = model(_network_input(model, image, reading, ranges, around))
    classes = logits.argmax(1)[0].numpy()[relative(view, around)]
    return float((classes != labels).mean())
