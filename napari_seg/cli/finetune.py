"""``napari-seg finetune``: a better model from partly labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_seg.cli.arguments import (
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
from napari_seg.errors import ChannelError, InputError, LabelsError

if TYPE_CHECKING:
    from napari_seg.cli.labelled import Labelled
    from napari_seg.cli.selection import Selection
    from napari_seg.models.base import SegmentationModel

__all__ = ["add_arguments", "run"]

_AUGMENT = "augment_"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    from napari_seg.training.finetune import FinetuneOptions

    parser.add_argument(
        "-m",
        "--model",
        required=True,
        help="model file, or name of a bundled or published model",
    )
    parser.add_argument(
        "--images", type=existing_folder, metavar="DIR", help="folder of images"
    )
    parser.add_argument(
        "--labels",
        type=existing_folder,
        metavar="DIR",
        help="folder of class ids, one file for each image; 255 is unknown",
    )
    parser.add_argument(
        "--project",
        type=existing_folder,
        metavar="DIR",
        help="project folder, instead of --images and --labels",
    )
    parser.add_argument(
        "--replay",
        type=existing_folder,
        action="append",
        default=[],
        metavar="DIR",
        help="project, or folder with images/ and labels/, of earlier work that must "
        "not be forgotten; may be given more than once",
    )
    parser.add_argument(
        "--classes",
        type=class_names,
        metavar="A,B,C",
        help="classes of the new model; those that the model has, by name, are kept",
    )
    parser.add_argument(
        "--adapt-channels",
        action="store_true",
        help="adapt the model to images with another number of channels",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MODEL", help="new model"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="let -o be the same file as -m"
    )
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default: 0)")
    add_objects(parser)
    add_budget(parser, usual=1)
    add_device(parser)
    add_json(parser)
    add_progress(parser)
    parser.add_argument(
        "--cancel-on-stdin",
        action="store_true",
        help="stop with what was learned at the line 'cancel' or the end of stdin",
    )
    defaults = FinetuneOptions()
    add_options(parser, defaults, "training")
    add_options(parser, defaults.augmentation, "changes made to images", _AUGMENT)


def run(given: argparse.Namespace) -> Report:
    """Fine-tune, and write the new model."""
    from napari_seg.cli.labelled import (
        Planes,
        labelled_files,
        pixel_size,
        read_labelled,
    )
    from napari_seg.cli.selection import Selection
    from napari_seg.cli.teaching import check_objects_wanted, checked_output, teach
    from napari_seg.models.checkpoint import load_model, save_model
    from napari_seg.models.registry import with_object_head
    from napari_seg.training.finetune import default_options

    folders = _folders(given)
    output = _output(given, checked_output(given.output))
    files = labelled_files(*folders)
    with show_fetching(given.progress) as on_progress:
        start = load_model(given.model, on_progress=on_progress)
    has_head = given.object_head or start.spec.object_head
    check_objects_wanted(given, has_head=has_head)
    selection = Selection(start.spec)
    chosen = selection.of(files)
    if not chosen:
        raise InputError(
            f"The training windows in {folders[0].parent} are planes, and the model "
            "learns from volumes: fine-tune it on their images in the dock, which cuts "
            "them anew, or take a model of planes."
        )
    beside = _numbered(folders[0]) if has_head else None
    pairs = read_labelled(chosen, given.objects or beside)
    model = _adapted(start, pairs, given)
    if given.object_head:
        model = with_object_head(model)
    options = given_options(given, default_options(model.spec))
    options = replace(
        options, augmentation=given_options(given, options.augmentation, _AUGMENT)
    )
    replay = _replay(given.replay, model.spec.classes, selection)
    selection.say()
    result = teach(
        given,
        model,
        Planes.of(pairs, model.spec),
        options,
        replay=Planes.of(replay, model.spec) if replay else None,
    )
    result.model.spec = replace(
        result.model.spec, pixel_size=pixel_size(pairs) or model.spec.pixel_size
    )
    if given.project is not None:
        _remember(result.model, given.project)
    path = save_model(result.model, output)
    values = {
        "model": path,
        **result.to_dict(),
        "planes_left_out": selection.planes,
        "passed_over": selection.passed_over,
    }
    return Report(_text(result, path), values)


def _replay(
    folders: Sequence[Path], classes: Sequence[str], selection: Selection
) -> list[Labelled]:
    """Read earlier work; each folder has its share of the memory."""
    from napari_seg.cli.labelled import read_replay

    choose = partial(selection.of, shares=len(folders))
    return [pair for each in folders for pair in read_replay(each, classes, choose)]


def _remember(model: SegmentationModel, project: Path) -> None:
    """Note in the model where its training windows lie, for replay."""
    *before, last = model.spec.history
    entry = {**last, "project": project.resolve().name}
    model.spec = replace(model.spec, history=(*before, entry))


def _folders(given: argparse.Namespace) -> tuple[Path, Path]:
    from napari_seg.cli.labelled import training_folders

    separate = (given.images, given.labels)
    if given.project is not None and separate == (None, None):
        return training_folders(given.project)
    if given.project is None and None not in separate:
        return given.images, given.labels
    raise InputError("Give --images DIR and --labels DIR, or --project DIR alone.")


def _numbered(images: Path) -> Path | None:
    """Return the folder of objects beside the windows of a project, if there is one."""
    beside = images.parent / "objects"
    windows = images.parent.name == "windows" and beside.is_dir()
    return beside if windows and any(beside.glob("*.tif")) else None


def _output(given: argparse.Namespace, output: Path) -> Path:
    from napari_seg.models.catalog import find_model

    start = find_model(given.model)
    if start.resolve() == output.resolve() and not given.overwrite:
        raise InputError(
            f"-o names the model to start from, {start}; name another file, or give "
            "--overwrite to replace it."
        )
    return output


def _adapted(
    model: SegmentationModel, pairs: list[Labelled], given: argparse.Namespace
) -> SegmentationModel:
    """Return the model for the classes and channels that were asked for."""
    from napari_seg.cli.labelled import channel_counts, class_ids
    from napari_seg.models.registry import adapt_model

    counts, spec = channel_counts(pairs), model.spec
    accepted = {spec.in_channels, 1 if spec.gray_as_rgb else spec.plane_channels}
    fits = counts <= accepted
    if not fits and not (given.adapt_channels and len(counts) == 1):
        has = " or ".join(map(str, sorted(counts)))
        raise ChannelError(
            f"The images have {has} channel(s), and the model takes "
            f"{' or '.join(map(str, sorted(accepted)))}; --adapt-channels fits the "
            "model to images of one kind."
        )
    if given.classes is not None or not fits:
        model = adapt_model(model, None if fits else counts.pop(), given.classes)
    names = model.spec.classes
    foreign = [i for i in class_ids(pairs) if i >= len(names)]
    if foreign:
        raise LabelsError(
            f"The labels hold class {foreign[0]}, but the model has the classes 0 to "
            f"{len(names) - 1} ({','.join(names)}); --classes {','.join(names)},NAME "
            "adds one, and 255 marks unknown pixels."
        )
    return model


def _text(result: Any, path: Path) -> str:
    early = ", until the held-out Dice no longer rose" * result.plateau
    seconds = f"{len(result.history)} steps, {result.seconds:.0f} s{early}"
    if result.verdict.regions == 0:
        return f"{result.verdict.sentence}\n{path} ({seconds})"
    return (
        f"{result.verdict.sentence} Mean Dice {result.before.mean_dice:.3f} → "
        f"{result.after.mean_dice:.3f}, mean IoU {result.before.mean_iou:.3f} → "
        f"{result.after.mean_iou:.3f} ({result.verdict.regions} regions)\n"
        f"{path} ({seconds})"
    )
