"""Ways to run the bundled network on a CPU, on the same tiles.

Memory layouts, folded batch normalisation, PyTorch's compiler, ONNX Runtime and
OpenVINO beside what ships.  A runtime that is more than 1.3 times as fast is worth an
extra that a user can install.  Tiles are of the size that ``predict()`` chooses for a
large image; all take turns in one process.

    python -m benchmarks --only runtimes
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from benchmarks._fields import tile_reads, varied_nuclei
from benchmarks._report import Row, row
from benchmarks._runtimes import SHIPPED, Missing, Runtime, runtimes
from benchmarks._timing import Times, alternate, threads
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.training.examples import prepare_image

__all__ = ["run"]

MODELS = ("nuclei", "nuclei-fast")
THREADS, TILES, ROUNDS, WORTH = 2, 4, 5, 1.3


def run() -> list[Row]:
    """Return a row for each model and runtime."""
    with threads(THREADS):
        return [each for name in MODELS for each in _rows(name)]


def _rows(name: str) -> list[Row]:
    model = load_model(name)
    tiles = _tiles(model)
    ways: dict[str, Runtime] = {}
    missing: list[Row] = []
    for way, make in runtimes(model, tiles[0], THREADS).items():
        try:
            ways[way] = make()
        except Missing as error:
            missing.append(row(f"`{name}`, {way}", None, "measured", None, str(error)))
    told = {way: _compare(ways[way], ways["contiguous"], tiles) for way in ways}
    times = alternate(
        {way: lambda way=way: [ways[way](x) for x in tiles] for way in ways}, ROUNDS
    )
    pixels = sum(x[0, 0].numel() for x in tiles)
    rows = [_row(name, way, times, pixels, told[way]) for way in ways]
    return [*rows, *missing]


def _tiles(model: SegmentationModel) -> list[Tensor]:
    """Return tiles (1, C, H, W) as predict() cuts them inside a large image."""
    x = torch.from_numpy(prepare_image(varied_nuclei(2048), model.spec))[None]
    height, width = tile_reads(model, 4096)
    starts = [(0, 0), (0, 2048 - width), (2048 - height, 0), (512, 512)][:TILES]
    return [
        x[..., top : top + height, left : left + width].contiguous()
        for top, left in starts
    ]


def _compare(way: Runtime, plain: Runtime, tiles: list[Tensor]) -> str:
    """Return how far the logits differ, and how many pixels change their class."""
    pairs = [(way(x).clone(), plain(x)) for x in tiles]
    apart = max(float((one - other).abs().max()) for one, other in pairs)
    changed = sum(int((a.argmax(1) != b.argmax(1)).sum()) for a, b in pairs)
    pixels = sum(a[0, 0].numel() for a, _ in pairs)
    return f"logits apart by {apart:.1g} at most, {changed} of {pixels} classes differ"


def _row(name: str, way: str, times: Times[str], pixels: int, told: str) -> Row:
    here = statistics.median(times[way])
    gain = statistics.median(times[SHIPPED]) / here
    # OpenVINO ships, as an extra.
    rival = way == "ONNX Runtime" or "compile" in way
    return row(
        f"`{name}`, {way}: speed against what ships",
        f"{gain:.2f} ×",
        f"≤ {WORTH} ×, or it ships" if rival else "told, not aimed at",
        gain <= WORTH if rival else None,
        f"{here / pixels * 1e6:.2f} s a megapixel ({min(times[way]) / pixels * 1e6:.2f}"
        f" to {max(times[way]) / pixels * 1e6:.2f}); {told}; {THREADS} threads, median "
        f"of {ROUNDS} alternating",
    )
