"""What a prediction costs beyond the network itself, on two CPU threads.

``predict()`` reads, normalises, tiles with halo, takes the argmax and puts the mask
together.  Beside it, on the same image and with the same weights, go

- the bare network over as many pixels, already normalised and in memory, in the tile
  size and memory layout that suit it best;
- the tile loop that one writes first: the same tiles and halo, the model as it was
  loaded, tensors as PyTorch makes them, softmax and argmax;
- MONAI's ``sliding_window_inference`` with the tile, batch and layout that suit it
  best, 12.5 % overlap and Gaussian weights, on an image that is already normalised,
  without the argmax.

All take turns in one process.

    python -m benchmarks --only inference
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks._fields import halo_of, varied_nuclei
from benchmarks._monai import Sliding, sliding_windows
from benchmarks._report import Row, row
from benchmarks._runtimes import Missing
from benchmarks._timing import Times, alternate, ratio, threads
from napari_seg.inference.predict import predict, stream
from napari_seg.inference.tiling import Tile, make_tile
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.training.examples import prepare_image

__all__ = ["run"]

SIDE, SAMPLE = 4096, 2048
THREADS, ROUNDS, TRIALS = 2, 5, 2
BARE, PLAIN, MONAI = 1.3, 1.0, 0.9
_TILES = (1024, 512, 256)
_LAYOUTS = {"planes": torch.contiguous_format, "channels last": torch.channels_last}
_OURS = "predict()"
_Key = TypeVar("_Key", bound=Hashable)


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    gray = _eight_bits(varied_nuclei(SIDE))
    small = gray[:SAMPLE, :SAMPLE]
    rgb = np.stack([small, small // 2, 255 - small], axis=-1)
    model = load_model("nuclei")
    with threads(THREADS):
        return [
            *_compare(model, gray, "gray"),
            *_compare(model, rgb, "RGB", rivals=False),
        ]


def _eight_bits(image: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return (image / image.max() * 255).astype(np.uint8)


def _compare(
    model: SegmentationModel, image: NDArray[np.uint8], kind: str, rivals: bool = True
) -> list[Row]:
    """Return the rows of one image; without `rivals` the bare passes alone."""
    x = torch.from_numpy(prepare_image(image, model.spec))[None]
    part = x[..., :SAMPLE, :SAMPLE].contiguous()
    tile, layout = _best(
        {
            (tile, layout): _bare(model, part, tile, layout)
            for tile, layout in product(_TILES, _LAYOUTS)
        }
    )
    bare = f"bare passes over tiles of {tile}² px, {layout}"
    actions: dict[str, Callable[[], object]] = {
        _OURS: lambda: predict(model, image, device="cpu"),
        bare: _bare(model, x, tile, layout),
    }
    plain = "the plain tile loop"
    if rivals:
        tiles = _tiles(model, image)
        actions[plain] = lambda: _plain(model, image, tiles)
    sliding: Sliding | None = None
    reason = ""
    if rivals:
        try:
            sliding = _best({each: each.on(model, part) for each in sliding_windows()})
            actions[str(sliding)] = sliding.on(model, x)
        except Missing as error:
            reason = str(error)
    # All but the plain loop have been running by now, on a smaller image.
    times = alternate(actions, ROUNDS, warm=False)
    claim = f"predict(), {len(image)}² {kind}, bundled `nuclei`, against"
    rows = [_row(claim, times, bare, "bare passes", BARE)]
    if rivals:
        rows.append(_row(claim, times, plain, plain, PLAIN))
        name = "MONAI's `sliding_window_inference`"
        if sliding is None:
            rows.append(row(f"{claim} {name}", None, f"≤ {MONAI} ×", None, reason))
        else:
            rows.append(_row(claim, times, str(sliding), name, MONAI))
        rows.append(_agreement(model, image[:SAMPLE, :SAMPLE], sliding))
    return rows


def _row(claim: str, times: Times[str], rival: str, name: str, target: float) -> Row:
    found = ratio(times, _OURS, rival)
    ours, other = (statistics.median(times[each]) for each in (_OURS, rival))
    spread = [a / b for a, b in zip(times[_OURS], times[rival], strict=True)]
    told = "" if rival == name else f" ({rival})"
    return row(
        f"{claim} {name}",
        f"{found:.2f} ×",
        f"≤ {target} ×",
        found <= target,
        f"{ours:.2f} s against {other:.2f} s{told}; {THREADS} threads, median of "
        f"{ROUNDS} alternating, rounds {min(spread):.2f} to {max(spread):.2f}",
    )


def _best(actions: Mapping[_Key, Callable[[], object]]) -> _Key:
    times = alternate(actions, TRIALS)
    return min(times, key=lambda key: min(times[key]))


def _bare(
    model: SegmentationModel, x: Tensor, tile: int, layout: str
) -> Callable[[], None]:
    tiles = [
        part.contiguous(memory_format=_LAYOUTS[layout])
        for rows in x.split(tile, dim=2)
        for part in rows.split(tile, dim=3)
    ]

    @torch.inference_mode()
    def forward() -> None:
        for part in tiles:
            model(part)

    return forward


def _tiles(model: SegmentationModel, image: NDArray[np.uint8]) -> list[Tile]:
    """Return the tiles that predict() makes of an image."""
    shape, halo = image.shape[:2], halo_of(model)
    return [
        make_tile(result.box, shape, halo, model.stride)
        for result in stream(model, image, device="cpu")
    ]


@torch.inference_mode()
def _plain(
    model: SegmentationModel, image: NDArray[np.uint8], tiles: list[Tile]
) -> NDArray[np.uint8]:
    """Return the mask as one writes it first; no tile reads beyond the image."""
    x = prepare_image(image, model.spec)
    mask = np.zeros(image.shape[:2], np.uint8)
    for tile in tiles:
        (rows, columns), (top, left) = tile.core, (span.start for span in tile.read)
        logits = model(torch.from_numpy(x[(slice(None), *tile.read)].copy())[None])
        classes = logits.softmax(1).argmax(1)[0].numpy().astype(np.uint8)
        mask[tile.core] = classes[
            rows.start - top : rows.stop - top,
            columns.start - left : columns.stop - left,
        ]
    return mask


def _agreement(
    model: SegmentationModel, image: NDArray[np.uint8], sliding: Sliding | None
) -> Row:
    """Return how many pixels get another class than from one pass over the image."""
    x = torch.from_numpy(prepare_image(image, model.spec))[None]
    with torch.inference_mode():
        whole = model(x).argmax(1)[0].numpy()
    ours = float((predict(model, image, device="cpu").labels != whole).mean())
    told, equal = "MONAI is not here to compare with", None
    if sliding is not None:
        rival = float((sliding.on(model, x)().argmax(1)[0].numpy() != whole).mean())
        told, equal = f"MONAI: {rival * 1e6:.1f} ({sliding})", ours <= rival
    return row(
        f"pixels of a million that are classed otherwise than in one pass over "
        f"{SAMPLE}²",
        f"{ours * 1e6:.1f}",
        "≤ MONAI's",
        equal,
        told,
    )
