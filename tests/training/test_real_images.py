"""Fine-tuning on a real micrograph, as a user would do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_seg
from napari_seg.models.base import SegmentationModel
from napari_seg.training.finetune import FinetuneOptions

UNKNOWN = 255


@pytest.mark.slow
def test_a_little_training_helps_on_the_rest_of_the_image(shared_data: Path):
    """E. coli in brightfield: left halves labelled, right halves never seen."""
    folder = shared_data / "ecoli_brightfield"
    files = sorted((folder / "images").glob("*.tif"))[:2]
    images = [tifffile.imread(path) for path in files]
    truths = [
        (tifffile.imread(folder / "masks" / path.name) > 0).astype(int)
        for path in files
    ]
    unseen = slice(images[0].shape[1] // 2, None)
    labels = [truth.copy() for truth in truths]
    for each in labels:
        each[:, unseen] = UNKNOWN
    model = napari_seg.load_model("nuclei")

    def dice(candidate: SegmentationModel) -> float:
        found = [napari_seg.predict(candidate, i, device="cpu").labels for i in images]
        found, truth = (np.stack(each)[..., unseen] for each in (found, truths))
        return napari_seg.score(found, truth, 2).mean_dice

    result = napari_seg.finetune(
        model,
        images,
        labels,
        steps=20,
        device="cpu",
        options=FinetuneOptions(batch=4, crop=96),
    )
    assert dice(result.model) > dice(model) + 0.05
    assert result.improved, result.verdict.sentence
