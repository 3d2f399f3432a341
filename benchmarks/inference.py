"""What a prediction costs beyond the network itself, on two CPU threads.

``predict()`` reads, normalises, tiles with halo, takes the argmax and puts the mask
together.  Beside it the bare network goes over the same pixels, already normalised and
in memory, in the tile size and memory layout that suit it best.  The two alternate, so
that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks._report import Row, row
from napari_seg.inference.predict import predict
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.examples import prepare_image

__all__ = ["run"]

SIDE = 1024
THREADS = 2
REPEATS = 9
_TILES = (SIDE, SIDE // 2, SIDE // 4)
_LAYOUTS = {"planes": torch.contiguous_format, "channels last": torch.channels_last}


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    field = synthetic_nuclei((SIDE, SIDE), 400, seed=0)
    gray = (field.image / field.image.max() * 255).astype(np.uint8)
    rgb = np.stack([gray, gray // 2, 255 - gray], axis=-1)
    model = load_model("nuclei")
    with _threads(THREADS):
        return [_compare(model, gray, "gray"), _compare(model, rgb, "RGB")]


def _compare(model: SegmentationModel, image: NDArray[np.uint8], kind: str) -> Row:
    x = torch.from_numpy(prepare_image(image, model.spec))[None]
    passes = {
        f"{tile}² px, {layout}": _bare(model, x, tile, _LAYOUTS[layout])
        for tile, layout in product(_TILES, _LAYOUTS)
    }
    for each in passes.values():
        each()
    best = min(passes, key=lambda name: min(_seconds(passes[name]) for _ in range(2)))

    def whole() -> None:
        predict(model, image, device="cpu")

    whole()
    rounds = [(_seconds(whole), _seconds(passes[best])) for _ in range(REPEATS)]
    ours, bare = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = ours / bare
    at_once = min(
        statistics.median(_seconds(passes[name]) for _ in range(3))
        for name in passes
        if name.startswith(f"{SIDE}²")
    )
    return row(
        f"predict(), {SIDE}² {kind}, bundled `nuclei`, against bare forward passes",
        f"{ratio:.2f} ×",
        "≤ 1.3 ×",
        ratio <= 1.3,
        f"{ours:.2f} s against {bare:.2f} s (tiles of {best}), {THREADS} threads, "
        f"median of {REPEATS} alternating; one bare pass over the whole image "
        f"{at_once:.2f} s",
    )


def _bare(
    model: SegmentationModel, x: Tensor, tile: int, layout: torch.memory_format
) -> Callable[[], None]:
    tiles = [
        part.contiguous(memory_format=layout)
        for rows in x.split(tile, dim=2)
        for part in rows.split(tile, dim=3)
    ]

    @torch.inference_mode()
    def forward() -> None:
        for part in tiles:
            model(part)

    return forward


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
