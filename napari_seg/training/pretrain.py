"""Training of the bundled models; each is made again with one command.

``python -m napari_seg.training.pretrain NAME DATA -o FILE`` where DATA holds folders of
images with masks, see :mod:`napari_seg.training.pretrain_data`:

``nuclei``, ``nuclei-fast``
    ``dsb2018/``, the training set of the 2018 Data Science Bowl (BBBC038, CC0; Caicedo
    et al. 2019, Nature Methods 16:1247-1253), masks as corrected by the community.
    Every eighth image of each experiment (images of one modality and size) is held out.
``generic``
    All kinds of images and procedural shapes, with a head for each; the model keeps the
    head that tells foreground from background in all of them.

``--leave-out`` keeps whole experiments, or kinds, from training, which tells what to
expect of another microscope; with ``--start`` training goes on from a model, then with
all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor

from napari_seg.inference.device import pick_device
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import (
    adapt_model,
    create_model,
    without_object_head,
)
from napari_seg.scoring.confusion import UNKNOWN, score
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.calibration import calibrate
from napari_seg.training.guard import hold_out
from napari_seg.training.loop import Budget, Loss, TrainOptions, train
from napari_seg.training.losses import ce_dice_loss
from napari_seg.training.pretrain_data import (
    Kind,
    NucleiSplit,
    cells,
    read_kinds,
    shapes,
    split_nuclei,
)
from napari_seg.training.rehearsal import REHEARSAL
from napari_seg.training.sampling import CropSampler, Example

__all__ = [
    "DRAWN",
    "DRAWN_SIDE",
    "OPTIONS",
    "RECIPES",
    "KindsLoss",
    "main",
    "nuclei_notes",
    "pretrain",
]

#: Held-out images per experiment that are scored while training.
_SCORED = 6
_EVALUATE_EVERY = 300
#: Procedural images, and their height and width in pixels.
DRAWN, DRAWN_SIDE = 300, 192
#: Share of the regions of held-out images that confidence is calibrated on.
_CALIBRATED = 0.5

#: How bundled models are trained, unless said otherwise.
OPTIONS = TrainOptions(
    learning_rate=2e-3,
    batch=8,
    crop=160,
    average=0.999,
    patience=1,
    precision="bfloat16",
    augmentation=AugmentOptions(
        scale=2.0, intensity=1.0, blur=0.3, inversion=0.4, stain=0.3, clutter=0.6
    ),
)


_NUCLEI = 17.5


@dataclass(frozen=True)
class _Recipe:
    """What one bundled model is: classes, channels of its first level, steps, crops.

    `start` is the model that training goes on from; None starts with random weights.
    `diameter` is the median of the median diameters of objects in the images of
    dsb2018, in pixels.
    """

    foreground: str
    width: int
    steps: int
    crop: int
    start: str | None = None
    diameter: float | None = None


RECIPES = {
    "nuclei": _Recipe("nucleus", 16, 12000, 160, diameter=_NUCLEI),
    "nuclei-fast": _Recipe("nucleus", 8, 12000, 160, diameter=_NUCLEI),
    "generic": _Recipe("foreground", 16, 3000, 128, "nuclei"),
}


def pretrain(
    name: str,
    data: Path,
    output: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    start: str | os.PathLike[str] | None = None,
    leave_out: Sequence[str] = (),
) -> dict[str, float]:
    """Train a bundled model and write it.

    Parameters
    ----------
    name : str
        A key of :data:`RECIPES`.
    data : Path
        Folder of folders of images.
    output : Path
        File of the model; the state of each evaluation goes beside it, as NAME-latest.
    steps : int, optional
        Training steps, by default those of the recipe.
    minutes : float, optional
        Training ends after these, if that is sooner.
    learning_rate : float, optional
        Largest one.
    seed : int
        Of weights, crops and augmentation.
    start : str or path-like, optional
        Model to go on from, by default that of the recipe.
    leave_out : sequence of str
        Experiments that are only scored, or kinds that are not used at all.

    Returns
    -------
    dict of str to float
        Mean Dice per image of each experiment, on images that were not trained on;
        empty for the generic model.
    """
    torch.manual_seed(seed)
    recipe = RECIPES[name]
    options = replace(OPTIONS, crop=min(recipe.crop, OPTIONS.crop))
    if learning_rate is not None:
        options = replace(options, learning_rate=learning_rate)
    model = _start(name, start or recipe.start).to(pick_device("auto"))
    budget = Budget(steps or recipe.steps, None if minutes is None else minutes * 60)
    run = _Run(data, output, options, budget, seed, tuple(leave_out))
    model, notes = (_generic if name == "generic" else _nuclei)(model, run)
    model.cpu()
    model.spec = model.spec.with_history(
        {"left_out": list(leave_out), "seed": seed, **notes}
    )
    save_model(model, output, half=True)
    return dict(notes.get("holdout_dice", {}))


@dataclass(frozen=True)
class _Run:
    data: Path
    output: Path
    options: TrainOptions
    budget: Budget
    seed: int
    leave_out: tuple[str, ...]


def _start(name: str, start: str | os.PathLike[str] | None) -> SegmentationModel:
    recipe = RECIPES[name]
    classes = ["background", recipe.foreground]
    if start:
        # Objects of kinds other than nuclei are not what its head has learned.
        begun = without_object_head(load_model(start))
        model = adapt_model(begun, classes=classes)
        model.spec = replace(model.spec, name=name, object_diameter=recipe.diameter)
        return model
    model = create_model(
        "unet",
        in_channels=3,
        classes=classes,
        width=recipe.width,
        name=name,
        gray_as_rgb=True,
    )
    model.spec = replace(model.spec, object_diameter=recipe.diameter)
    return model


def _train(
    model: SegmentationModel,
    examples: Sequence[Example],
    run: _Run,
    evaluate: Callable[[SegmentationModel], float] | None = None,
    loss: Loss | None = None,
) -> int:
    """Train the model; return the number of steps."""
    done = 0
    for step in train(
        model,
        CropSampler(
            examples, run.options.crop, run.seed, next(model.parameters()).device
        ),
        run.options,
        run.budget,
        evaluate=evaluate,
        evaluations=max((run.budget.steps or 0) // _EVALUATE_EVERY, 1),
        seed=run.seed,
        loss=loss,
    ):
        done = step.step
        if done % 20 == 0:
            _report({"step": step.step, "loss": step.loss, "seconds": step.seconds})
    return done


def _report(values: dict[str, Any]) -> None:
    print(json.dumps(values), file=sys.stderr, flush=True)  # noqa: T201


# Nuclei -----------------------------------------------------------------------


def _nuclei(
    model: SegmentationModel, run: _Run
) -> tuple[SegmentationModel, dict[str, Any]]:
    """Train on the experiments; return the model and what its history shall say."""
    split = split_nuclei(run.data / "dsb2018", model.spec, run.leave_out)
    latest = run.output.with_name(f"{run.output.stem}-latest")

    def evaluate(candidate: SegmentationModel) -> float:
        scores = _scores(candidate, split.held_out, _SCORED)
        mean = float(np.mean(list(scores.values())))
        _report({"dice": scores, "mean": mean})
        save_model(candidate, latest)
        return mean

    drawn = cells(DRAWN, DRAWN_SIDE, model.spec, run.seed)
    steps = _train(model, [*split.training, *drawn], run, evaluate)
    return model, {"steps": steps, **nuclei_notes(model, split)}


def nuclei_notes(model: SegmentationModel, split: NucleiSplit) -> dict[str, Any]:
    """Score and calibrate the model on images not trained on; return the figures."""
    unseen = split.held_out | split.left_out
    held_out = [example for found in split.held_out.values() for example in found]
    calibration = calibrate(model, hold_out(held_out, _CALIBRATED)[1])
    if calibration is not None:
        model.spec = replace(model.spec, temperature=calibration.temperature)
    return {
        REHEARSAL: "nuclei",
        "calibration": asdict(calibration) if calibration else None,
        "data": "dsb2018 (BBBC038, CC0), 7 of 8 images of each experiment; drawn cells",
        "holdout_dice": _scores(model, unseen, None),
        "otsu_dice": _threshold_scores(unseen),
        "holdout_images": {name: len(found) for name, found in unseen.items()},
    }


@torch.inference_mode()
def image_dice(model: SegmentationModel, example: Example) -> float:
    """Return the foreground Dice of one image; 1 where both masks are empty."""
    device = next(model.parameters()).device
    image = model.standardize(torch.from_numpy(example.image)[None].to(device))
    prediction = model(image)[0].argmax(dim=0).cpu().numpy()
    return _dice(prediction == 1, example.labels == 1)


def otsu_dice(example: Example, *, dark: bool) -> float:
    """Return the Dice of Otsu's threshold on the mean of the channels.

    `dark` says that nuclei are darker than what is around them.
    """
    gray = example.image.mean(axis=0)
    if gray.min() == gray.max():
        return float(not (example.labels == 1).any())
    found = gray > threshold_otsu(gray)
    return _dice(~found if dark else found, example.labels == 1)


def _dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    dice = float(score(found, truth, n_classes=2).dice[1])
    return 1.0 if math.isnan(dice) else dice


def _scores(
    model: SegmentationModel, held_out: dict[str, list[Example]], limit: int | None
) -> dict[str, float]:
    """Return the mean per-image Dice of each experiment."""
    return {
        name: float(np.mean([image_dice(model, example) for example in found[:limit]]))
        for name, found in held_out.items()
    }


def _threshold_scores(held_out: dict[str, list[Example]]) -> dict[str, float]:
    return {
        name: float(
            np.mean(
                [otsu_dice(each, dark="fluorescence" not in name) for each in found]
            )
        )
        for name, found in held_out.items()
    }


# Generic ----------------------------------------------------------------------


def _generic(
    model: SegmentationModel, run: _Run
) -> tuple[SegmentationModel, dict[str, Any]]:
    """Train with a head for each kind; return the model with the common head only."""
    kinds = read_kinds(run.data, model.spec, run.leave_out)
    kinds.append(shapes(DRAWN, DRAWN_SIDE, model.spec, run.seed))
    common = model.spec.classes
    names = [*common, *(f"{k.name} {i}" for k in kinds for i in range(k.classes))]
    many = adapt_model(model, classes=names)
    loss = KindsLoss(len(common), [kind.classes for kind in kinds])
    steps = _train(many, list(_numbered(kinds, loss)), run, loss=loss)
    data = "kinds: " + ", ".join(kind.name for kind in kinds)
    notes = {"steps": steps, "data": data}
    return adapt_model(many, classes=common), notes


def _numbered(kinds: Sequence[Kind], loss: KindsLoss) -> list[Example]:
    """Return the examples of all kinds, each class with a number of its own."""
    examples = []
    for first, kind in zip(loss.firsts, kinds, strict=True):
        for each in kind.examples:
            labels = (each.labels + first).astype(np.uint8)
            examples.append(Example(each.image, labels, each.weight))
    return examples


class KindsLoss:
    """Loss of images of several kinds, each with a head of its own beside a common one.

    An image counts in the head of its kind alone, whose classes compete with each
    other and not with those of other kinds, and in the common head, which tells
    class 0 of any kind from its other classes.

    Parameters
    ----------
    common : int
        Classes of the common head, the first ones: background and foreground.
    classes : sequence of int
        Number of classes of each kind, in their order.

    Attributes
    ----------
    firsts : list of int
        Id of class 0 of each kind in the targets.
    """

    def __init__(self, common: int, classes: Sequence[int]) -> None:
        ends = common + np.cumsum(classes)
        self.firsts = [
            int(end - count) for end, count in zip(ends, classes, strict=True)
        ]
        self._common = common
        self._parts = list(zip(self.firsts, ends.tolist(), strict=True))

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of (N, K, H, W) logits and (N, H, W) targets, 255 unknown."""
        known = target != UNKNOWN
        foreground = known.to(target.dtype)
        foreground[~known] = UNKNOWN
        for first in self.firsts:
            foreground[target == first] = 0
        loss = ce_dice_loss(logits[:, : self._common], foreground)
        for first, end in self._parts:
            inside = (target >= first) & (target < end)
            chosen = inside.flatten(1).any(dim=1)
            if chosen.any():
                ids = torch.where(inside, target - first, UNKNOWN)[chosen]
                share = chosen.float().mean()
                loss = loss + share * ce_dice_loss(logits[chosen, first:end], ids)
        return loss


# Command line -----------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(RECIPES), help="the model to train")
    parser.add_argument("data", type=Path, help="folder of folders of images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="by default those of the model")
    parser.add_argument("--minutes", type=float, help="end after these, if sooner")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", help="model to go on from, a name or a file")
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="NAME",
        help='experiment ("brightfield 1024x1024") or kind to keep from training',
    )
    _report(pretrain(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
