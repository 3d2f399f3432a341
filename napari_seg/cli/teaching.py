"""What training from scratch and fine-tuning share: one run, watched."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_seg.cli.arguments import check_writable
from napari_seg.cli.labelled import Planes
from napari_seg.cli.progress import Progress
from napari_seg.cli.stop import stop_requests
from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.catalog import SUFFIX
from napari_seg.training.child import step_to_json
from napari_seg.training.finetune import FinetuneOptions, FinetuneResult, finetune
from napari_seg.training.loop import Step

__all__ = ["check_objects_wanted", "checked_output", "teach"]


def checked_output(path: Path) -> Path:
    """Return the model file to write; refuse before training what fails after it.

    Raises
    ------
    InputError
        If nothing can be written there.
    """
    path = path.expanduser()
    if path.suffix != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file with -o.")
    check_writable(path.parent)
    return path


def check_objects_wanted(given: argparse.Namespace, *, has_head: bool) -> None:
    """Raise InputError for objects from which nothing would be learned."""
    if given.objects is not None and not has_head:
        raise InputError(
            "--objects is for models that tell objects apart; add --object-head to "
            "give this one a second decoder."
        )


def teach(
    given: argparse.Namespace,
    model: SegmentationModel,
    planes: Planes,
    options: FinetuneOptions,
    minutes: float | None = None,
    replay: Planes | None = None,
) -> FinetuneResult:
    """Train a copy of `model` within the budget that was given, and show how it goes.

    Parameters
    ----------
    given : Namespace
        Of the command line: budget, device, seed, progress.
    model : SegmentationModel
        The start.
    planes : Planes
        Images and labels.
    options : FinetuneOptions
        How to train.
    minutes : float or None
        Budget where none was given.
    replay : Planes or None
        Earlier images and labels.
    """
    on_stdin = getattr(given, "cancel_on_stdin", False)
    with (
        Progress(given.progress, "Training") as progress,
        stop_requests(on_stdin) as should_stop,
    ):

        def on_step(step: Step) -> None:
            words = f"step {step.step}, loss {step.loss:.3f}"
            progress.update(step.spent, step_to_json(step), words)

        return finetune(
            model,
            planes.images,
            planes.labels,
            minutes if given.minutes is None and given.steps is None else given.minutes,
            options.holdout,
            given.seed,
            steps=given.steps,
            replay=(replay.images, replay.labels, replay.ranges, replay.origins)
            if replay
            else None,
            ranges=planes.ranges,
            origins=planes.origins,
            objects=planes.objects,
            device=given.device,
            options=options,
            on_step=on_step,
            should_stop=should_stop,
        )
