"""Prediction and fine-tuning on an NVIDIA GPU beside the bare network.

Steps of fine-tuning per second as in :mod:`benchmarks.finetune_speed`.  Prediction goes
end to end, from a NumPy array to a NumPy mask: the paper's U-Net of 31 M parameters,
and every architecture with its default encoder.  Beside it goes the bare network over
as many pixels that are on the GPU already, with weights and pixels in bfloat16,
channels last, in the size of tile and batch that suits it best.  The two take turns.

``python -m benchmarks.gpu`` goes the same way on a small image and the CPU, and prints
the rows: a trial of the code, no measurement.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import finetune_speed
from benchmarks._report import Row, row
from benchmarks._timing import alternate, seconds
from napari_seg.errors import NapariSegError
from napari_seg.inference.predict import predict
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import ARCHITECTURES, create_model, parameter_count

__all__ = ["run"]

SHARE = 0.85
_CLASSES = ("background", "a", "b")


@dataclass(frozen=True)
class _Place:
    """Where and with what size of image it is measured."""

    device: str
    large: int
    side: int
    tiles: tuple[int, ...]
    batches: tuple[int, ...] = (1, 4, 16)
    rounds: int = 5
    dtype: torch.dtype = torch.bfloat16


_GPU = _Place("cuda", 8192, 4096, (2048, 1024, 512))
# Without instructions for it, a CPU takes forever in bfloat16.
_TRIAL = _Place("cpu", 128, 64, (64, 32), (1, 2), 1, torch.float32)


def run() -> list[Row]:
    """Measure every architecture with its default encoder; return a row for each."""
    if not torch.cuda.is_available():
        return [row("speed on a GPU", None, "measured", None, "no CUDA GPU here")]
    return [
        *(finetune_speed.steps(name) for name in finetune_speed.MODELS),
        *_speeds(_GPU),
    ]


def _speeds(place: _Place) -> Iterator[Row]:
    width = 64 if place is _GPU else 8
    paper = create_model("unet", 1, _CLASSES, width=width)
    yield _speed(paper, _image(place.large, 1), place, SHARE)
    for arch in ARCHITECTURES:
        model = create_model(arch, 3, _CLASSES)
        yield _speed(model, _image(place.side, 3), place)


def _image(side: int, channels: int) -> NDArray[np.uint8]:
    shape = (side, side) if channels == 1 else (side, side, channels)
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


def _speed(
    model: SegmentationModel,
    image: NDArray[np.uint8],
    place: _Place,
    share: float | None = None,
) -> Row:
    """Return the row of one model; `share` of the bare rate is aimed at."""
    model = model.eval()
    side, channels = len(image), model.spec.in_channels
    claim = (
        f"{model.spec.label}, {parameter_count(model) / 1e6:.1f} M parameters, {side}² "
        f"px of {channels} channel{'s' * (channels > 1)}, NumPy to NumPy"
    )
    target = "told, not aimed at" if share is None else f"≥ {share} of the bare rate"

    def whole() -> None:
        predict(model, image, device=place.device)

    try:
        whole()
        memory = _peak(whole, place)
    except NapariSegError as error:
        return row(claim, None, target, None, str(error))
    found = _best(model, side, place)
    if found is None:
        return row(claim, None, target, None, "no bare pass fits into memory")
    name, bare = found
    times = alternate({"whole": whole, "bare": bare}, place.rounds)
    ours, forward = (statistics.median(times[each]) for each in ("whole", "bare"))
    reached = forward / ours
    return row(
        claim,
        f"{side**2 / 1e6 / ours:.1f} Mpx/s, {reached:.2f} of the bare rate",
        target,
        None if share is None else reached >= share,
        f"{ours:.2f} s; the bare network {forward:.2f} s ({side**2 / 1e6 / forward:.1f}"
        f" Mpx/s, {name}); peak of GPU memory {memory:.2f} GB; median of "
        f"{place.rounds} alternating",
    )


def _peak(action: Callable[[], object], place: _Place) -> float:
    """Return the memory that PyTorch holds on the GPU at most, in GB."""
    if place.device != "cuda":
        action()
        return float("nan")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    action()
    return torch.cuda.max_memory_reserved() / 1e9


def _best(
    model: SegmentationModel, side: int, place: _Place
) -> tuple[str, Callable[[], None]] | None:
    """Return the fastest of the bare passes, and what it is; None if none fits."""
    network = deepcopy(model).to(place.device, place.dtype)
    speeds = {}
    for tile, batch in product(place.tiles, place.batches):
        if batch > (side // tile) ** 2:
            continue
        try:
            bare = _bare(network, side, tile, batch, place)
            bare()
            speeds[tile, batch] = seconds(bare)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    if not speeds:
        return None
    tile, batch = min(speeds, key=lambda each: speeds[each])
    bare = _bare(network, side, tile, batch, place)
    return f"{place.dtype}, {batch} at once of {tile}² px", bare


def _bare(
    network: SegmentationModel, side: int, tile: int, batch: int, place: _Place
) -> Callable[[], None]:
    """Return what computes as many tiles as cover the image, and waits for the GPU."""
    shape = (batch, network.spec.in_channels, tile, tile)
    x = torch.rand(shape, device=place.device, dtype=place.dtype)
    x = x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward() -> None:
        for _ in range((side // tile) ** 2 // batch):
            network(x)
        if place.device == "cuda":
            torch.cuda.synchronize()

    return forward


if __name__ == "__main__":
    for each in _speeds(_TRIAL):
        print(each, flush=True)
