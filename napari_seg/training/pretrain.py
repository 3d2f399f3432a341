"""Training of the bundled ``nuclei`` model; run again with one command.

``python -m napari_seg.training.pretrain DATA -o nuclei.safetensors`` where DATA holds
``dsb2018/`` (images, masks, index.csv): the training set of the 2018 Data Science Bowl
(BBBC038, CC0; Caicedo et al. 2019, Nature Methods 16:1247-1253), masks as corrected by
the community.

Every eighth image of each experiment (images of one modality and size) is held out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import create_model
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.examples import prepare_image
from napari_seg.training.loop import Budget, TrainOptions, train
from napari_seg.training.sampling import CropSampler, Example

__all__ = ["main"]

_HELD_OUT_EVERY = 8
#: Held-out images per experiment that are scored while training.
_SCORED = 6

_OPTIONS = TrainOptions(
    learning_rate=2e-3,
    batch=8,
    crop=160,
    average=0.999,
    augmentation=AugmentOptions(scale=1.8, intensity=1.0, blur=0.3, inversion=0.15),
)

Named = tuple[str, Example]


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


def _split(
    folder: Path, model: SegmentationModel
) -> tuple[list[Example], dict[str, list[Example]]]:
    """Return training examples, and the held-out ones by experiment."""
    training: list[Example] = []
    held_out: dict[str, list[Example]] = {}
    for experiment, files in _experiments(folder).items():
        # Rare experiments are drawn more often than their share, common ones less.
        weight = len(files) ** -0.5
        kept = files[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
        held_out[experiment] = [_read(folder, name, 1.0, model) for name in kept]
        training += [
            _read(folder, name, weight, model) for name in files if name not in kept
        ]
    return training, {name: found for name, found in held_out.items() if found}


@torch.inference_mode()
def image_dice(model: SegmentationModel, example: Example) -> float:
    """Return the foreground Dice of one image; 1 where both masks are empty."""
    image = torch.from_numpy(example.image)[None]
    prediction = model(image)[0].argmax(dim=0).numpy()
    found, truth = prediction == 1, example.labels == 1
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


def _report(values: dict[str, Any]) -> None:
    print(json.dumps(values), file=sys.stderr, flush=True)  # noqa: T201


def pretrain(
    data: Path, output: Path, steps: int, width: int, seed: int, start: Path | None
) -> dict[str, float]:
    """Train the ``nuclei`` model and write it; return Dice by held-out experiment."""
    torch.manual_seed(seed)
    folder = data / "dsb2018"
    model = (
        load_model(start)
        if start
        else create_model(
            "unet",
            in_channels=3,
            classes=["background", "nucleus"],
            width=width,
            name="nuclei",
            gray_as_rgb=True,
        )
    )
    training, held_out = _split(folder, model)
    sampler = CropSampler(training, _OPTIONS.crop, seed)

    def evaluate(candidate: SegmentationModel) -> float:
        scores = _scores(candidate, held_out, _SCORED)
        mean = float(np.mean(list(scores.values())))
        _report({"dice": scores, "mean": mean})
        save_model(candidate, output.with_name(f"{output.stem}-latest"))
        return mean

    for step in train(
        model,
        sampler,
        _OPTIONS,
        Budget(steps=steps),
        evaluate=evaluate,
        evaluations=max(steps // 300, 1),
        seed=seed,
    ):
        if step.step % 20 == 0:
            _report({"step": step.step, "loss": step.loss, "seconds": step.seconds})
    scores = _scores(model, held_out, None)
    model.spec = model.spec.with_history(
        {
            "data": "dsb2018 (BBBC038, CC0), 7 of 8 images of each experiment",
            "steps": steps,
            "seed": seed,
            "holdout_dice": scores,
        }
    )
    save_model(model, output, half=True)
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds dsb2018/")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="model to go on from")
    given = parser.parse_args(arguments)
    _report(
        pretrain(
            given.data, given.output, given.steps, given.width, given.seed, given.start
        )
    )


if __name__ == "__main__":
    main()
