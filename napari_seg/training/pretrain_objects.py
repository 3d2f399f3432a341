"""Give a model of nuclei an object head, trained on dsb2018.

Run once and seldom, on the data that :mod:`napari_seg.training.pretrain` uses.  First
the head alone, while all else stays as it is; then head and classes together, which
also teaches the classes to see the gaps between nuclei::

    python -m napari_seg.training.pretrain_objects nuclei DATA -o headed
    python -m napari_seg.training.pretrain_objects headed DATA -o FILE --together
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.inference.device import pick_device
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.objects import OBJECT_MAPS, WithObjects
from napari_seg.models.registry import with_object_head
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.loop import Budget, Loss, Step, TrainOptions, train
from napari_seg.training.losses import dice_loss
from napari_seg.training.objects import (
    OBJECTS_TAUGHT,
    ObjectBranch,
    few_numbers,
    number_examples,
    object_loss,
)
from napari_seg.training.pretrain import DRAWN, DRAWN_SIDE, OPTIONS, nuclei_notes
from napari_seg.training.pretrain_data import cells, split_nuclei, training_objects
from napari_seg.training.sampling import CropSampler, Example

__all__ = ["main", "together_loss", "train_object_head", "train_together"]

_OPTIONS = replace(OPTIONS, crop=128, precision="float32")
_HEAD_OPTIONS = replace(
    _OPTIONS, learning_rate=3e-3, encoder_rate=0.0, batch=6, average=0.995
)
#: The model knows what an image may look like; now for what is hard in most of them.
_FIRST_OPTIONS = replace(
    _OPTIONS,
    augmentation=AugmentOptions(
        scale=1.6, intensity=0.8, blur=0.25, inversion=0.2, stain=0.25, clutter=0.4
    ),
)
_LAST_OPTIONS = replace(
    _FIRST_OPTIONS,
    learning_rate=1e-3,
    augmentation=AugmentOptions(
        scale=1.35, intensity=0.6, blur=0.2, inversion=0.1, stain=0.2, clutter=0.25
    ),
)
#: Share of the steps that the latter take.
_LAST = 0.31
#: Experiments are drawn more by their size than for the classes alone.
_RARITY = -0.6
#: What a pixel between two objects weighs beside any other, and up to how many pixels
#: from both it is one.
_GAP_WEIGHT, _GAP = 5.0, 3


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
    options = _HEAD_OPTIONS
    return _train(ObjectBranch(model), examples, options, steps, seed, object_loss)


def train_together(
    model: SegmentationModel, examples: Sequence[Example], steps: int, seed: int = 0
) -> list[float]:
    """Train classes and object head of a model in place; return the loss of each step.

    Parameters
    ----------
    model, examples, steps, seed
        As :func:`train_object_head` takes them. The model has two classes; every object
        is one of class 1.
    """
    both, last = WithObjects(model), round(_LAST * steps)
    return [
        *_train(both, examples, _FIRST_OPTIONS, steps - last, seed, together_loss),
        *_train(both, examples, _LAST_OPTIONS, last, seed + 1, together_loss),
    ]


def together_loss(outputs: Tensor, numbers: Tensor) -> Tensor:
    """Return the loss of classes and object head.

    Cross entropy + Dice + that of the head. Background between two objects weighs more
    in the entropy, in the manner of Ronneberger et al. 2015 (arXiv:1505.04597, Eq. 2),
    but alike wherever the objects are near. Where objects touch, the pixels on both
    sides count for the head alone: to call them background would eat into the mask, to
    call them nucleus would teach to bridge the narrowest gaps.

    Parameters
    ----------
    outputs : Tensor
        (N, 2 + 3, H, W), as :class:`~napari_seg.models.objects.WithObjects` gives them.
    numbers : Tensor
        (N, H, W) uint8: 0 background, 255 unknown, else the object.
    """
    logits, maps = outputs[:, :-OBJECT_MAPS], outputs[:, -OBJECT_MAPS:]
    inside = (numbers > 0) & (numbers != UNKNOWN)
    gap = _several_near(numbers, _GAP) & (numbers == 0)
    seam = _several_near(numbers, 1) & inside
    target = (numbers > 0).long()
    target[(numbers == UNKNOWN) | seam] = UNKNOWN
    entropy = F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="none")
    weight = torch.where(gap, _GAP_WEIGHT, 1.0) * (target != UNKNOWN)
    mean = (entropy * weight).sum() / weight.sum().clamp_min(1)
    return mean + dice_loss(logits, target) + object_loss(maps, numbers)


def _several_near(numbers: Tensor, radius: int) -> Tensor:
    """Return where objects of different numbers lie within a square of this radius."""
    known = torch.where(numbers == UNKNOWN, 0, numbers).float()[:, None]
    side = 2 * radius + 1
    highest = F.max_pool2d(known, side, 1, radius)
    lowest = -F.max_pool2d(-torch.where(known == 0, UNKNOWN, known), side, 1, radius)
    return ((highest > 0) & (highest != lowest))[:, 0]


def _train(
    model: SegmentationModel,
    examples: Sequence[Example],
    options: TrainOptions,
    steps: int,
    seed: int,
    loss: Loss,
) -> list[float]:
    device = next(model.parameters()).device
    sampler = CropSampler(examples, options.crop, seed, device)
    run = train(model, sampler, options, Budget(steps), seed=seed, loss=loss)
    return [each.loss for each in _told(run)]


def _told(run: Iterator[Step]) -> Iterator[Step]:
    for step in run:
        if step.step % 20 == 0:
            told = {"step": step.step, "loss": step.loss, "seconds": step.seconds}
            print(json.dumps(told), file=sys.stderr, flush=True)  # noqa: T201
        yield step


def _numbered(
    folder: Path, model: SegmentationModel, seed: int, **drawing: float
) -> list[Example]:
    """Return the training images of dsb2018 with numbers of objects as labels."""
    rng = np.random.default_rng(seed)
    return [
        replace(each, labels=few_numbers(ids, rng))
        for each, ids in training_objects(folder, model.spec, **drawing)
    ]


def _teach_together(
    model: SegmentationModel, folder: Path, steps: int, seed: int
) -> None:
    """Train, score and calibrate a model in place, and write that into its history."""
    torch.manual_seed(seed)
    drawn = cells(DRAWN, DRAWN_SIDE, model.spec, 0, rarity=_RARITY)
    examples = [
        *_numbered(folder, model, seed, rarity=_RARITY),
        *number_examples(drawn, [None] * len(drawn), seed),
    ]
    train_together(model, examples, steps, seed)
    model.cpu()
    notes = nuclei_notes(model, split_nuclei(folder, model.spec, ()))
    run = {"left_out": [], "seed": seed, "steps": steps, OBJECTS_TAUGHT: True, **notes}
    model.spec = model.spec.with_history(run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the model to start from")
    parser.add_argument("data", type=Path, help="folder of folders of images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="2500, and 7500 with --together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", action="store_true", help="the classes, too")
    given = parser.parse_args(arguments)
    model = with_object_head(load_model(given.model)).to(pick_device("auto"))
    folder = given.data / "dsb2018"
    if given.together:
        _teach_together(model, folder, given.steps or 7500, given.seed)
    else:
        examples = _numbered(folder, model, given.seed)
        train_object_head(model, examples, given.steps or 2500, given.seed)
    save_model(model.cpu(), given.output, half=True)


if __name__ == "__main__":
    main()
