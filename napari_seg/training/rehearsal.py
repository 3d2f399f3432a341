"""Replay for the bundled models, which a user has no earlier images of.

Images are drawn, not stored, and labelled by the model itself before it learns anything
new (pseudo-rehearsal: Robins 1995, "Catastrophic Forgetting, Rehearsal and
Pseudorehearsal", Connection Science 7). They are nothing to learn from, but a model
that keeps to its own answers on them keeps more of what it knew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike

from napari_seg.inference.device import trains_in_bfloat16
from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.examples import prepare_image
from napari_seg.training.sampling import Example
from napari_seg.training.textures import stained_cells

__all__ = ["REHEARSAL", "drawn_replay"]

#: Entry of a bundled model's history that names what it is rehearsed on.
REHEARSAL = "rehearsal"
#: Images, and their height and width in pixels: more delay the first step.
_COUNT, _SIDE = 24, 128
_SMALLEST, _LARGEST = 5.0, 24.0
#: Less sure answers are not held to.
_SURE = 0.7


def drawn_replay(model: SegmentationModel) -> list[Example]:
    """Return what keeps a bundled model fit, labelled by itself.

    Parameters
    ----------
    model : SegmentationModel
        In eval mode, before it learns.

    Returns
    -------
    list of Example
        Always the same images for a model; none for one that does not come from a
        bundled model with classes of its own, or has other classes or channels now.
    """
    names = {run.get(REHEARSAL) for run in model.spec.history}
    known = "nuclei" in names and "nucleus" in model.spec.classes
    # Nobody can draw what other channels would show.
    if not (known and model.spec.gray_as_rgb):
        return []
    images = [prepare_image(image, model.spec) for image in _nuclei()]
    device = next(model.parameters()).device
    half = trains_in_bfloat16(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, half):
        x = model.standardize(torch.from_numpy(np.stack(images)).to(device))
        # In parts, which stay in the processor's cache.
        logits = torch.cat([model(part) for part in x.split(4)])
        sure, labels = (
            (logits.float() / model.spec.temperature).softmax(dim=1).max(dim=1)
        )
    answers = torch.where(sure < _SURE, UNKNOWN, labels).to(torch.uint8).cpu().numpy()
    return [Example(i, a) for i, a in zip(images, answers, strict=True)]


def _nuclei() -> Iterator[ArrayLike]:
    """Yield fluorescent nuclei and stained cells of many sizes in turn."""
    rng = np.random.default_rng(0)
    for index in range(_COUNT // 2):
        radius = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST))))
        count = max(int((_SIDE / radius) ** 2 * rng.uniform(0.01, 0.12)), 2)
        field = synthetic_nuclei((_SIDE, _SIDE), count, seed=index, radius=radius)
        yield field.image
        yield stained_cells(_SIDE, rng).image
