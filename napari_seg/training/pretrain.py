"""Training of the bundled nuclei models; run again with one command each.

``python -m napari_seg.training.pretrain nuclei DATA -o nuclei`` where DATA holds
``dsb2018/`` (images, masks, index.csv): the training set of the 2018 Data Science Bowl
(BBBC038, CC0; Caicedo et al. 2019, Nature Methods 16:1247-1253), masks as corrected by
the community.

Every eighth image of each experiment (images of one modality and size) is held out.
``--leave-out`` keeps whole experiments from training, which tells what to expect of
another microscope; with ``--start`` training goes on from a model, then with all.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import create_model
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.examples import prepare_image
from napari_seg.training.loop import Budget, TrainOptions, train
from napari_seg.training.sampling import CropSampler, Example

__all__ = ["RECIPES", "main", "pretrain"]

_HELD_OUT_EVERY = 8
#: Held-out images per experiment that are scored while training.
_SCORED = 6

_OPTIONS = TrainOptions(
    learning_rate=2e-3,
    batch=8,
    crop=160,
    average=0.999,
    precision="bfloat16",
    augmentation=AugmentOptions(
        scale=2.0, intensity=1.0, blur=0.3, inversion=0.3, stain=0.3, clutter=0.4
    ),
)


@dataclass(frozen=True)
class _Recipe:
    """What one bundled model is: channels of its first level, and training steps."""

    width: int
    steps: int


RECIPES = {"nuclei": _Recipe(24, 12000), "nuclei-fast": _Recipe(8, 12000)}


def _experiments(folder: Path) -> dict[str, list[str]]:
    """Return file names by experiment: modality and image size."""
    experiments = defaultdict(list)
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            experiments[f"{row['modality']} {row['h']}x{row['w']}"].append(row["file"])
    return {name: sorted(files) for name, files in sorted(experiments.items())}


def _read(folder: Path, name: str, weight: float, model: SegmentationModel) -> Example:
    image = tifffile.imread(folder / "images" / name)
    labels = tifffile.imread(folder / "masks" / name).astype(np.uint8)
    return Example(prepare_image(image, model.spec), labels, weight)


@dataclass(frozen=True)
class _Split:
    """Examples to train on, and those that are scored, by experiment."""

    training: list[Example]
    held_out: dict[str, list[Example]]
    left_out: dict[str, list[Example]]


def _split(folder: Path, model: SegmentationModel, leave_out: Sequence[str]) -> _Split:
    """Divide the images of each experiment, but for those left out altogether."""
    split = _Split([], {}, {})
    experiments = _experiments(folder)
    if unknown := set(leave_out) - set(experiments):
        raise InputError(
            f"No experiment {sorted(unknown)[0]!r}; there are {', '.join(experiments)}."
        )
    for experiment, files in experiments.items():
        if experiment in leave_out:
            split.left_out[experiment] = [_read(folder, f, 1.0, model) for f in files]
            continue
        # Rare experiments are drawn more often than their share, common ones less.
        weight = len(files) ** -0.5
        kept = files[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
        if kept:
            split.held_out[experiment] = [_read(folder, f, 1.0, model) for f in kept]
        split.training.extend(
            _read(folder, f, weight, model) for f in files if f not in kept
        )
    return split


@torch.inference_mode()
def image_dice(model: SegmentationModel, example: Example) -> float:
    """Return the foreground Dice of one image; 1 where both masks are empty."""
    prediction = model(torch.from_numpy(example.image)[None])[0].argmax(dim=0).numpy()
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
    total = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


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


def _report(values: dict[str, Any]) -> None:
    print(json.dumps(values), file=sys.stderr, flush=True)  # noqa: T201


def pretrain(
    name: str,
    data: Path,
    output: Path,
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    start: Path | None = None,
    leave_out: Sequence[str] = (),
) -> dict[str, float]:
    """Train a nuclei model and write it.

    Parameters
    ----------
    name : str
        A key of :data:`RECIPES`.
    data : Path
        Folder that holds ``dsb2018/``.
    output : Path
        File of the model; the state of each evaluation goes beside it, as NAME-latest.
    steps : int, optional
        Training steps, by default those of the recipe.
    learning_rate : float, optional
        Largest one.
    seed : int
        Of weights, crops and augmentation.
    start : Path, optional
        Model to go on from, by default random weights.
    leave_out : sequence of str
        Experiments that are only scored.

    Returns
    -------
    dict of str to float
        Mean Dice per image of each experiment, on images that were not trained on.
    """
    torch.manual_seed(seed)
    recipe = RECIPES[name]
    steps = steps or recipe.steps
    options = _OPTIONS
    if learning_rate is not None:
        options = replace(options, learning_rate=learning_rate)
    model = load_model(start) if start else _new_model(name, recipe.width)
    split = _split(data / "dsb2018", model, leave_out)
    latest = output.with_name(f"{output.stem}-latest")

    def evaluate(candidate: SegmentationModel) -> float:
        scores = _scores(candidate, split.held_out, _SCORED)
        mean = float(np.mean(list(scores.values())))
        _report({"dice": scores, "mean": mean})
        save_model(candidate, latest)
        return mean

    for step in train(
        model,
        CropSampler(split.training, options.crop, seed),
        options,
        Budget(steps=steps),
        evaluate=evaluate,
        evaluations=max(steps // 300, 1),
        seed=seed,
    ):
        if step.step % 20 == 0:
            _report({"step": step.step, "loss": step.loss, "seconds": step.seconds})
    unseen = split.held_out | split.left_out
    scores = _scores(model, unseen, None)
    model.spec = model.spec.with_history(
        {
            "data": "dsb2018 (BBBC038, CC0), 7 of 8 images of each experiment",
            "left_out": list(leave_out),
            "steps": steps,
            "seed": seed,
            "holdout_dice": scores,
            "otsu_dice": _threshold_scores(unseen),
            "holdout_images": {name: len(found) for name, found in unseen.items()},
        }
    )
    save_model(model, output, half=True)
    return scores


def _new_model(name: str, width: int) -> SegmentationModel:
    return create_model(
        "unet",
        in_channels=3,
        classes=["background", "nucleus"],
        width=width,
        name=name,
        gray_as_rgb=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(RECIPES), help="the model to train")
    parser.add_argument("data", type=Path, help="folder that holds dsb2018/")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="by default those of the model")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="model to go on from")
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="EXPERIMENT",
        help='keep it from training, such as "brightfield 1024x1024"',
    )
    _report(pretrain(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
