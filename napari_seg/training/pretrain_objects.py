"""Give a model of nuclei an object head, trained on dsb2018; the rest stays as it is.

Run once and seldom, on the data that :mod:`napari_seg.training.pretrain` uses::

    python -m napari_seg.training.pretrain_objects nuclei DATA -o nuclei-objects
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_seg.inference.device import pick_device
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import with_object_head
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.loop import Budget, TrainOptions, train
from napari_seg.training.objects import ObjectBranch, few_numbers, object_loss
from napari_seg.training.pretrain_data import training_objects
from napari_seg.training.sampling import CropSampler, Example

__all__ = ["main", "train_object_head"]

_OPTIONS = TrainOptions(
    learning_rate=3e-3,
    encoder_rate=0.0,
    batch=6,
    crop=128,
    average=0.995,
    precision="float32",
    augmentation=AugmentOptions(
        scale=2.0, intensity=1.0, blur=0.3, inversion=0.4, stain=0.3, clutter=0.6
    ),
)


def train_object_head(
    model: SegmentationModel, examples: Sequence[Example], steps: int, seed: int = 0
) -> list[float]:
    """Train the object head of a model in place; return the loss of each step.

    Parameters
    ----------
    model : SegmentationModel
        With an object head.
    examples : sequence of Example
        Whose labels are numbers of objects, as
        :func:`~napari_seg.training.objects.few_numbers` makes them.
    steps : int
        Training steps.
    seed : int
        Of crops and augmentation.
    """
    device = next(model.parameters()).device
    sampler = CropSampler(examples, _OPTIONS.crop, seed, device)
    losses = []
    for step in train(
        ObjectBranch(model),
        sampler,
        _OPTIONS,
        Budget(steps),
        seed=seed,
        loss=object_loss,
    ):
        losses.append(step.loss)
        if step.step % 20 == 0:
            told = {"step": step.step, "loss": step.loss, "seconds": step.seconds}
            print(json.dumps(told), file=sys.stderr, flush=True)  # noqa: T201
    return losses


def _numbered(folder: Path, model: SegmentationModel, seed: int) -> list[Example]:
    """Return the training images of dsb2018 with numbers of objects as labels."""
    rng = np.random.default_rng(seed)
    return [
        replace(each, labels=few_numbers(ids, rng))
        for each, ids in training_objects(folder, model.spec)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the model to start from")
    parser.add_argument("data", type=Path, help="folder of folders of images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    model = with_object_head(load_model(given.model)).to(pick_device("auto"))
    examples = _numbered(given.data / "dsb2018", model, given.seed)
    train_object_head(model, examples, given.steps, given.seed)
    save_model(model.cpu(), given.output, half=True)


if __name__ == "__main__":
    main()
