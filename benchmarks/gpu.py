"""Prediction and fine-tuning on an NVIDIA GPU beside the bare network.

Steps of fine-tuning per second as in :mod:`benchmarks.finetune_speed`. For prediction
the same comparison as in :mod:`benchmarks.inference`: ``predict()`` on an image in
memory, against the bare network over the same pixels in the same precision, already on
the GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import finetune_speed
from benchmarks._report import Row, row
from napari_seg.errors import NapariSegError
from napari_seg.inference.device import mixed_precision
from napari_seg.inference.predict import predict
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import ARCHITECTURES, create_model

__all__ = ["run"]

SIDE = 4096
_REPEATS = 3
_TILES = (2048, 1024, 512)


def run() -> list[Row]:
    """Measure every architecture with its default encoder; return a row for each."""
    if not torch.cuda.is_available():
        return [row("speed on a GPU", None, "measured", None, "no CUDA GPU here")]
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return [
        *(finetune_speed.steps(name) for name in finetune_speed.MODELS),
        *(_speed(arch, image) for arch in ARCHITECTURES),
    ]


def _speed(arch: str, image: np.ndarray) -> Row:
    torch.manual_seed(0)
    model = create_model(arch, 3, ["background", "a", "b"]).eval().cuda()
    claim = f"{model.spec.label}, {SIDE}² RGB"
    megapixels = SIDE * SIDE / 1e6
    try:
        whole = _median(lambda: predict(model, image, device="cuda"))
    except NapariSegError as error:
        return row(claim, None, "measured", None, str(error))
    bare, tile = min((_bare(model, tile), tile) for tile in _TILES)
    model.cpu()
    torch.cuda.empty_cache()
    return row(
        claim,
        f"{megapixels / whole:.1f} Mpx/s",
        "told, not aimed at",
        None,
        f"{whole:.2f} s; the bare network {bare:.2f} s ({megapixels / bare:.1f} Mpx/s, "
        f"tiles of {tile} px): {bare / whole:.0%} of the time",
    )


def _bare(model: SegmentationModel, tile: int) -> float:
    """Return the seconds for as many tiles as cover the image."""
    x = torch.rand(1, 3, tile, tile, device="cuda")
    x = x.contiguous(memory_format=torch.channels_last)
    precision = mixed_precision(x.device)

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast("cuda", precision, enabled=precision is not None):
            for _ in range((SIDE // tile) ** 2):
                model(x)

    try:
        return _median(forward)
    except torch.cuda.OutOfMemoryError:
        return float("inf")


def _median(action: Callable[[], object]) -> float:
    action()
    seconds = []
    for _ in range(_REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
