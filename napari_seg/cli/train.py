"""``napari-seg train``: a model from scratch."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_seg.cli.arguments import (
    above_zero,
    add_budget,
    add_device,
    add_json,
    add_objects,
    add_options,
    add_progress,
    class_names,
    existing_folder,
    given_options,
)
from napari_seg.cli.progress import show_fetching
from napari_seg.cli.report import Report
from napari_seg.errors import InputError, LabelsError

if TYPE_CHECKING:
    from napari_seg.cli.labelled import Labelled
    from napari_seg.models.base import SegmentationModel
    from napari_seg.training.finetune import FinetuneOptions

__all__ = ["add_arguments", "run"]

_AUGMENT = "augment_"
_MINUTES = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    from napari_seg.models.registry import architectures

    parser.add_argument(
        "--images",
        type=existing_folder,
        required=True,
        metavar="DIR",
        help="folder of images",
    )
    parser.add_argument(
        "--labels",
        type=existing_folder,
        required=True,
        metavar="DIR",
        help="folder of class ids, one file for each image; 255 is unknown",
    )
    parser.add_argument("--arch", choices=tuple(architectures()), required=True)
    parser.add_argument(
        "--encoder", metavar="E", help="napari-seg models lists those that fit"
    )
    parser.add_argument(
        "--encoder-weights",
        choices=("imagenet",),
        help="start the encoder from torchvision's weights, fetched on first use "
        "(default: random weights)",
    )
    parser.add_argument(
        "--width",
        type=int,
        metavar="W",
        help="channels of the first level of the U-Nets, or of the FCNs' last layers",
    )
    parser.add_argument(
        "--output-stride",
        type=int,
        choices=(8, 16, 32),
        help="of the encoder of fcn and the DeepLabs: smaller is finer and slower",
    )
    parser.add_argument(
        "--separable",
        action="store_true",
        help="depthwise separable convolutions in deeplabv3plus: fewer weights",
    )
    parser.add_argument(
        "--slices",
        type=int,
        default=1,
        metavar="N",
        help="2.5-D: the network sees N neighbouring slices of a stack, and segments "
        "the one in their middle; odd (default: 1)",
    )
    parser.add_argument(
        "--anisotropy",
        type=above_zero(float),
        metavar="A",
        help="of unet3d, which learns from volumes (Z, Y, X): the step between slices "
        "in pixels (default: as the files say, or 1)",
    )
    parser.add_argument(
        "--classes",
        type=class_names,
        metavar="A,B,C",
        help="names of the classes (default: background,class 1,... as in the labels)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MODEL", help="new model"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights and sampling (default: 0)"
    )
    add_objects(parser)
    add_budget(parser, usual=_MINUTES)
    add_device(parser)
    add_json(parser)
    add_progress(parser)
    defaults = _defaults()
    add_options(parser, defaults, "training")
    add_options(parser, defaults.augmentation, "changes made to images", _AUGMENT)


def run(given: argparse.Namespace) -> Report:
    """Make a model, train it and write it."""
    from napari_seg.cli.labelled import Planes, labelled_files, read_labelled
    from napari_seg.cli.teaching import check_objects_wanted, checked_output, teach
    from napari_seg.models.checkpoint import save_model

    options = given_options(given, _defaults(volumes=_sees_volumes(given.arch)))
    options = replace(
        options, augmentation=given_options(given, options.augmentation, _AUGMENT)
    )
    output = checked_output(given.output)
    check_objects_wanted(given, has_head=given.object_head)
    pairs = read_labelled(labelled_files(given.images, given.labels), given.objects)
    model = _new_model(given, pairs, name=output.stem)
    planes = Planes.of(pairs, model.spec)
    result = teach(given, model, planes, options, minutes=_MINUTES)
    path = save_model(result.model, output)
    values = {
        "model": path,
        "steps": len(result.history),
        "seconds": result.seconds,
        "holdout": result.after.to_dict(),
    }
    beside = (
        " They lie in one place, beside what was learned: elsewhere it may be worse."
        if result.verdict.places == 1
        else ""
    )
    scores = (
        f"Mean Dice {result.after.mean_dice:.3f}, mean IoU {result.after.mean_iou:.3f} "
        f"on {result.verdict.regions} held-out regions.{beside}"
        if result.verdict.regions
        else "Too little is labelled to hold something out: no score."
    )
    spent = f"{len(result.history)} steps, {result.seconds:.0f} s"
    return Report(f"{scores}\n{path} ({spent})", values)


def _defaults(*, volumes: bool = False) -> FinetuneOptions:
    """Return the options for random weights: larger steps, stronger augmentation."""
    from napari_seg.training.augmentation import AugmentOptions
    from napari_seg.training.finetune import FinetuneOptions, for_volumes

    options = FinetuneOptions(
        learning_rate=2e-3,
        augmentation=AugmentOptions(scale=1.5, intensity=0.8, blur=0.2),
    )
    return for_volumes(options) if volumes else options


def _sees_volumes(arch: str) -> bool:
    from napari_seg.models.registry import ARCHITECTURES

    return ARCHITECTURES[arch].model.ndim == 3


def _new_model(
    given: argparse.Namespace, pairs: list[Labelled], name: str
) -> SegmentationModel:
    import torch

    from napari_seg.cli.labelled import anisotropy, channel_counts
    from napari_seg.models.registry import create_model

    counts = channel_counts(pairs)
    if given.slices > 1 and len(counts) > 1:
        raise InputError(
            "Gray and RGB images together cannot train a model with --slices; give "
            "images of one kind."
        )
    step = given.anisotropy
    if step is None and _sees_volumes(given.arch):
        step = anisotropy(pairs)
    torch.manual_seed(given.seed)
    with show_fetching(given.progress) as on_progress:
        return create_model(
            given.arch,
            in_channels=max(counts) * given.slices,
            classes=_classes(given.classes, pairs),
            encoder=given.encoder,
            width=given.width,
            output_stride=given.output_stride,
            separable=given.separable,
            name=name,
            gray_as_rgb=len(counts) > 1,
            slices=given.slices,
            anisotropy=step,
            object_head=given.object_head,
            encoder_weights=given.encoder_weights,
            on_progress=on_progress,
        )


def _classes(names: tuple[str, ...] | None, pairs: list[Labelled]) -> tuple[str, ...]:
    from napari_seg.cli.labelled import class_ids

    ids = class_ids(pairs)
    if len(ids) < 2:
        raise LabelsError(
            f"The labels hold the class ids {ids} (255 is unknown); training needs at "
            "least two classes. A mask of 0 and 255 becomes one of 0 and 1 by mask > 0."
        )
    if names is None:
        return ("background", *(f"class {i}" for i in range(1, ids[-1] + 1)))
    if ids[-1] >= len(names):
        raise InputError(
            f"The labels hold class {ids[-1]}, but --classes names only "
            f"{len(names)}; name the classes 0 to {ids[-1]}."
        )
    return names
