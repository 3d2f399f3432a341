"""How well objects of the mask are told apart, and how soon.

The images of dsb2018 that the bundled models did not learn from, predicted by `nuclei`;
the figure is the average precision at an IoU of 0.5 (TP / (TP + FP + FN), as Caicedo et
al. 2019 count it), the mean over images, against the true nuclei.  Beside it the same
for the true masks instead of predicted ones: what splitting alone costs.

    python -m benchmarks --only objects
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict

import numpy as np
import tifffile

import napari_seg
from benchmarks._report import SHARED_DATA, Row, row
from napari_seg.inference.axes import read_axes
from napari_seg.inference.object_maps import Seen, split_maps
from napari_seg.objects.instances import Split, find_objects
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.pretrain_data import held_out_nuclei

__all__ = ["run"]

FOLDER = SHARED_DATA / "dsb2018"
WANTED = 0.85
SIDE, REPEATS = 4096, 3
WORDS: dict[Split, str] = {
    "none": "connected pixels",
    "shape": "cut at waists",
    "probability": "cut where it is unsure",
    "model": "as its object head says",
}
#: What is proposed for a model with an object head.
USUAL: Split = "model"


def run() -> list[Row]:
    """Return one row per claim: claim, figure, target, met, detail."""
    if not FOLDER.is_dir():
        return [row("objects of `nuclei`", None, "measured", None, "no shared data")]
    scores = _scores()
    rows = []
    for modality in ("fluorescence", "histology"):
        for split, words in WORDS.items():
            found, given = scores[modality, split, "found"], scores[modality, split, ""]
            of_truth = f"; of the true masks {statistics.mean(given):.3f}"
            aimed = modality == "fluorescence" and split == USUAL
            mean = statistics.mean(found)
            rows.append(
                row(
                    f"AP at 0.5 of the objects of `nuclei`, {words}, {modality}",
                    f"{mean:.3f}",
                    f"≥ {WANTED}" if aimed else "–",
                    mean >= WANTED if aimed else None,
                    f"{len(found)} images that were not learned from"
                    + (of_truth if split != "probability" else ""),
                )
            )
    return [*rows, _speed()]


def _scores() -> dict[tuple[str, Split, str], list[float]]:
    model = napari_seg.load_model("nuclei")
    scores = defaultdict(list)
    for experiment, files in held_out_nuclei(FOLDER).items():
        modality = experiment.split()[0]
        for name in files:
            truth = tifffile.imread(FOLDER / "instances" / name)
            image = tifffile.imread(FOLDER / "images" / name)
            rgb = image.ndim == 3
            found = napari_seg.predict(model, image, rgb=rgb).labels
            reading = read_axes(image.shape, image.dtype, model.spec, rgb=rgb)
            seen = Seen(model, image, reading)
            masks = {"found": found, "": (truth > 0).astype(np.uint8)}
            for split in WORDS:
                for source, mask in masks.items():
                    ids = find_objects(mask, split, maps=split_maps(split, seen, mask))
                    ap = float(napari_seg.score_objects(ids, truth).ap[0])
                    scores[modality, split, source].append(ap)
    return scores


def _speed() -> Row:
    mask = synthetic_nuclei((SIDE // 4, SIDE // 4), 400, seed=0).mask
    mask = np.tile(mask.astype(np.uint8), (4, 4))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        ids = find_objects(mask)
        seconds.append(time.perf_counter() - start)
    return row(
        f"objects of a mask of {SIDE}², cut at waists",
        f"{statistics.median(seconds):.1f} s",
        "–",
        None,
        f"{ids.max()} objects, median of {REPEATS}",
    )
