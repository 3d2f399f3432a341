"""Fine-tuning on a real micrograph, as a user would do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_seg
from napari_seg.training.finetune import FinetuneOptions

UNKNOWN = 255


@pytest.mark.slow
def test_a_minute_of_corrections_helps_on_the_rest_of_the_image(shared_data: Path):
    """E. coli in brightfield: left half labelled in part, right half never seen."""
    folder = shared_data / "ecoli_brightfield"
    path = sorted((folder / "images").glob("*.tif"))[0]
    image = tifffile.imread(path)
    truth = (tifffile.imread(folder / "masks" / path.name) > 0).astype(int)
    width = image.shape[1] // 2
    labels = np.full(truth.shape, UNKNOWN)
    labels[:224, :width] = truth[:224, :width]
    model = napari_seg.load_model("nuclei")

    def dice(candidate: object) -> float:
        found = napari_seg.predict(candidate, image, device="cpu").labels
        return napari_seg.score(found[:, width:], truth[:, width:], 2).mean_dice

    result = napari_seg.finetune(
        model,
        [image],
        [labels],
        steps=25,
        device="cpu",
        options=FinetuneOptions(batch=4, crop=96),
    )
    assert result.improved, result.verdict.sentence
    assert dice(result.model) > dice(model) + 0.05
