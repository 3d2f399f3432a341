"""What CRF refinement gains on real images, and what it costs.

Predictions are simulated from the truth of ``dsb2018`` and ``axon_sem``, so that their
weakness is known: *blurred* (Gaussian, 3 px), *coarse* (cells of 8 px, interpolated, as
from a network of output stride 8) and *sharp* (1 px), each with correlated noise on the
logits.  The figure is the boundary IoU at 3 px (Cheng et al., "Boundary IoU", CVPR
2021), mean over the classes beside background and over the images.

    python -m benchmarks.crf
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d, interpolate

from benchmarks._report import SHARED_DATA
from napari_seg.inference.crf import refine
from napari_seg.scoring.boundary import boundary_scores

# Every 16th of dsb2018: 26 fluorescence and 3 histology images, no brightfield.
IMAGES = {"dsb2018": slice(None, None, 16), "axon_sem": slice(None)}
WEAKNESSES = ("blurred", "coarse", "sharp")
CROP = 384
#: Of the rims, in pixels.
WIDTH = 3


def run() -> list[dict[str, Any]]:
    """Return one row per claim: claim, figure, target, met, detail."""
    if not SHARED_DATA.is_dir():
        return [_row("CRF on real images", None, "measured", None, "no shared data")]
    rows = [_gain(folder, weakness) for folder in IMAGES for weakness in WEAKNESSES]
    return [*rows, _speed()]


def _row(
    claim: str, figure: float | None, target: str, met: bool | None, detail: str
) -> dict[str, Any]:
    return {
        "claim": claim,
        "figure": figure,
        "target": target,
        "met": met,
        "detail": detail,
    }


def _gain(folder: str, weakness: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    before, after = [], []
    for image, truth in _images(folder):
        weak = _simulated(truth, weakness, random)
        refined = refine(weak, image)
        before.append(_boundary_iou(weak.argmax(dim=0).numpy(), truth))
        after.append(_boundary_iou(refined.argmax(dim=0).numpy(), truth))
    old, new = float(np.nanmean(before)), float(np.nanmean(after))
    mends = weakness != "sharp"
    return _row(
        f"CRF, boundary IoU gained on {weakness} predictions, {folder}",
        round(new - old, 3),
        "> 0" if mends else "told, not aimed at",
        new > old if mends else None,
        f"{old:.3f} before, {new:.3f} after, {len(before)} images",
    )


def _speed() -> dict[str, Any]:
    image, truth = next(_images("axon_sem"))
    weak = _simulated(truth, "blurred", np.random.default_rng(0))
    repeats = 1, 3, 3
    weak, image = weak.repeat(repeats), image.repeat(repeats)
    seconds = min(_seconds(weak, image) for _ in range(3)) / (weak[0].numel() / 1e6)
    return _row(
        "CRF, seconds per megapixel, 3 classes",
        round(seconds, 2),
        "<= 2",
        seconds <= 2,
        f"default options, CPU, {torch.get_num_threads()} threads, best of 3",
    )


def _seconds(probabilities: torch.Tensor, image: torch.Tensor) -> float:
    start = time.perf_counter()
    refine(probabilities, image)
    return time.perf_counter() - start


def _images(folder: str) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.uint8]]]:
    """Yield (C, Y, X) normalized images with (Y, X) truth, cut to at most 384 px."""
    paths = sorted((SHARED_DATA / folder / "images").glob("*.tif"))
    for path in paths[IMAGES[folder]]:
        image = np.atleast_3d(tifffile.imread(path)[:CROP, :CROP]).astype(np.float32)
        low, high = np.percentile(image, (1, 99.8), axis=(0, 1))
        image = ((image - low) / np.maximum(high - low, 1)).clip(-0.5, 2)
        truth = tifffile.imread(SHARED_DATA / folder / "masks" / path.name)
        yield (
            torch.from_numpy(image).float().movedim(-1, 0).contiguous(),
            truth[:CROP, :CROP],
        )


def _simulated(
    truth: npt.NDArray[np.uint8], weakness: str, random: np.random.Generator
) -> torch.Tensor:
    """Return (K, Y, X) probabilities of a model that is weak in a known way."""
    classes = np.arange(max(int(truth.max()) + 1, 2))
    planes = (truth == classes[:, None, None]).astype(np.float32)
    if weakness == "coarse":
        cells = avg_pool2d(torch.from_numpy(planes)[None], 8, ceil_mode=True)
        planes = interpolate(cells, size=truth.shape, mode="bilinear")[0].numpy()
    else:
        sigma = {"blurred": 3, "sharp": 1}[weakness]
        planes = gaussian_filter(planes, (0, sigma, sigma))
    noise = gaussian_filter(random.standard_normal(planes.shape), (0, 2, 2))
    strength = 0.3 if weakness == "sharp" else 0.7
    logits = np.log(planes.clip(0.01)) + strength * noise / noise.std()
    return torch.from_numpy(logits).float().softmax(dim=0)


def _boundary_iou(labels: npt.NDArray[Any], truth: npt.NDArray[np.uint8]) -> float:
    """Mean boundary IoU at 3 px over the classes of the truth beside background."""
    scores = boundary_scores(labels, truth, WIDTH).boundary_iou
    present = np.unique(truth[truth > 0])
    return float(scores[present].mean()) if len(present) else float("nan")


if __name__ == "__main__":
    for row in run():
        print(row)
