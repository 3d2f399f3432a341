"""What small batches do to batch normalisation, and what the default does about it.

Four windows of 96 × 96 pixels of two images of a kind that ``nuclei`` was not trained
on are labelled; the Dice of the class beside background is the mean over the last
three images, seen by no one.  Each start is trained with the statistics of each batch
(*trained*) and as by default (*auto*).  Steps, not crops, are the same for each size of
batch.

What *auto* does with the usual 8 crops is a question of how near a start is to the new
images: `benchmarks.annotation` compares it on many kinds, with the arms ``ours`` and
``ours+norm_statistics=kept``.

    python -m benchmarks --only batch_norm
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import tifffile
import torch

from benchmarks._report import SHARED_DATA, Row, row
from napari_seg.inference.predict import predict
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.models.registry import create_model
from napari_seg.scoring.confusion import UNKNOWN, score
from napari_seg.training.finetune import FinetuneOptions, finetune

__all__ = ["run"]

KINDS = ("ecoli_brightfield", "metal_powder_sem")
WINDOW = 96
#: Start → steps, sizes of the batch, seeds.
STARTS = {
    "nuclei": (30, (1, 2, 8), range(3)),
    "random": (120, (1, 2), range(2)),
}
#: Differences below this are those of other seeds.
SLACK = 0.005

Pair = tuple[npt.NDArray[np.generic], npt.NDArray[np.uint8]]


def run() -> list[Row]:
    """Return a row for each start, size of the batch and kind of image."""
    if not SHARED_DATA.is_dir():
        reason = f"needs the data sets in {SHARED_DATA}"
        return [row("Small batches", None, "measured", None, reason)]
    return [
        _compared(start, kind, batch)
        for start, (_, batches, _) in STARTS.items()
        for kind in KINDS
        for batch in batches
    ]


def _compared(start: str, kind: str, batch: int) -> Row:
    steps, _, seeds = STARTS[start]
    dice = {
        choice: [_dice(start, kind, batch, choice, seed) for seed in seeds]
        for choice in ("trained", "auto")
    }
    trained, auto = (float(np.mean(values)) for values in dice.values())
    each = "; ".join(
        f"{choice} " + ", ".join(f"{value:.3f}" for value in values)
        for choice, values in dice.items()
    )
    return row(
        f"Held-out Dice, batch {batch}, {start} start, {kind}",
        f"{auto:.3f}",
        "at most 0.005 below that of trained statistics",
        auto >= trained - SLACK,
        f"trained {trained:.3f}; {steps} steps, seeds: {each}",
    )


def _dice(start: str, kind: str, batch: int, choice: str, seed: int) -> float:
    pairs = list(_images(kind))
    options = FinetuneOptions(batch=batch, crop=WINDOW, norm_statistics=choice)
    result = finetune(
        _start(start, seed),
        [image for image, _ in pairs[:2]],
        [_windows(mask, seed) for _, mask in pairs[:2]],
        holdout=0,
        seed=seed,
        steps=STARTS[start][0],
        device="cpu",
        options=options,
    )
    return float(np.mean([_score(result.model, *pair) for pair in pairs[-3:]]))


def _start(name: str, seed: int) -> SegmentationModel:
    if name != "random":
        return load_model(name)
    torch.manual_seed(seed)
    return create_model("unet", classes=["background", "object"], width=16).eval()


def _images(kind: str) -> Iterator[Pair]:
    paths = sorted((SHARED_DATA / kind / "images").glob("*.tif"))
    for path in (*paths[:2], *paths[-3:]):
        mask = tifffile.imread(SHARED_DATA / kind / "masks" / path.name)
        yield tifffile.imread(path)[:256, :256], mask[:256, :256]


def _windows(mask: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Return labels that are known in two windows, each with both classes."""
    random = np.random.default_rng(seed)
    labels = np.full_like(mask, UNKNOWN)
    left = 2
    while left:
        top, side = (int(random.integers(n - WINDOW + 1)) for n in mask.shape)
        box = slice(top, top + WINDOW), slice(side, side + WINDOW)
        if len(np.unique(mask[box])) > 1:
            labels[box] = mask[box]
            left -= 1
    return labels


def _score(model: SegmentationModel, *pair: npt.NDArray[np.generic]) -> float:
    image, truth = pair
    return float(score(predict(model, image, device="cpu").labels, truth, 2).dice[1])
