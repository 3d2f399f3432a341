"""``napari-seg predict``: images in, masks out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_seg import __version__
from napari_seg.cli.arguments import (
    above_zero,
    add_device,
    add_json,
    add_options,
    add_progress,
    channel_numbers,
    check_writable,
    given_options,
)
from napari_seg.cli.progress import Progress, show_fetching
from napari_seg.cli.report import Report, note
from napari_seg.errors import InputError
from napari_seg.options import as_arguments

if TYPE_CHECKING:
    from napari_seg.cli.segmenting import Task
    from napari_seg.inference.predict import PredictOptions
    from napari_seg.models.base import SegmentationModel
    from napari_seg.models.spec import ModelSpec

__all__ = ["add_arguments", "run"]

_CRF = "crf_"

Failure = tuple[Path, InputError]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    from napari_seg.inference.predict import PredictOptions

    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="image (TIFF, PNG, JPEG), folder of images, or OME-Zarr",
    )
    parser.add_argument(
        "-m",
        "--model",
        required=True,
        help="model file, or name of a bundled or published model",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the masks; INPUT_mask.tif, or .zarr for zarr",
    )
    parser.add_argument(
        "--axes",
        metavar="A",
        help="one letter for each axis of the images, such as TZYX or YXC "
        "(default: as the file says, or by its shape)",
    )
    parser.add_argument(
        "--channels",
        type=channel_numbers,
        metavar="N,N",
        help="which channels the model takes, from 0, in its order (default: all)",
    )
    parser.add_argument(
        "--diameter",
        type=float,
        metavar="PX",
        help="of a typical object in the images, in pixels: sets --zoom so that the "
        "model sees objects as large as it has learned",
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="also write INPUT_instances, in which each object has a number",
    )
    parser.add_argument(
        "--split",
        choices=("model", "shape", "probability", "none"),
        help="with --instances: tell objects that touch apart as the model has learned "
        "to (model, the default of those that have), cut them at their waists (shape, "
        "the default of others), or also where the model is less sure (probability), "
        "or let all that is connected be one object (none)",
    )
    defaults = PredictOptions()
    add_options(parser, defaults)
    add_options(parser, defaults.crf_options, "with --crf", _CRF)
    add_device(parser)
    _add_cluster(parser)
    add_json(parser)
    add_progress(parser)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "on several workers (dask); a call that was interrupted goes on where it was"
    ).add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        type=above_zero(int),
        metavar="N",
        help="start N workers on this computer",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="use the workers of a dask scheduler, such as tcp://gpu-server:8786; they "
        "have to see the same files",
    )


def run(given: argparse.Namespace) -> Report:
    """Segment every input; one that fails does not stop the others."""
    from napari_seg.cli.files import find_images
    from napari_seg.cli.segmenting import Task, check_targets
    from napari_seg.inference.object_maps import check_split
    from napari_seg.models.checkpoint import load_model

    if given.split is not None and not given.instances:
        raise InputError("--split says how objects are told apart: add --instances.")
    distributed = given.workers is not None or given.scheduler is not None
    if distributed:
        _check_distributed()
    images = find_images(given.inputs)
    check_targets(images, given.output)
    check_writable(given.output)
    with show_fetching(given.progress) as on_progress:
        model = load_model(given.model, on_progress=on_progress)
    check_split(given.split or "", model)
    task = Task(
        folder=given.output,
        options=_zoomed(_options(given), given.diameter, model.spec),
        axes=given.axes,
        channels=given.channels,
        instances=given.instances,
        split=given.split or ("model" if model.spec.object_head else "shape"),
    )
    segment = _segment_on_cluster if distributed else _segment_here
    outputs, failures = segment(given, model, task, images)
    if not outputs:
        raise InputError(_complaint(failures, len(images)))
    return Report(
        text="\n".join(_line(output) for output in outputs),
        values={
            "outputs": outputs,
            "failed": [
                {"input": path, "message": str(error)} for path, error in failures
            ],
        },
        status=2 if failures else 0,
        complaint=_complaint(failures, len(images)) if failures else "",
    )


def _check_distributed() -> None:
    if find_spec("distributed") is None:
        raise InputError(
            "--workers and --scheduler need dask.distributed: pip install "
            "'napari-seg[distributed]', here and where workers run."
        )


def _options(given: argparse.Namespace) -> PredictOptions:
    from napari_seg.inference.predict import PredictOptions

    options = given_options(given, PredictOptions())
    crf = given_options(given, options.crf_options, _CRF)
    if crf != options.crf_options and not options.crf:
        flags = " ".join(as_arguments(crf, options.crf_options, _CRF))
        raise InputError(f"{flags} needs --crf, too: without it there is no CRF.")
    return replace(options, crf_options=crf)


def _zoomed(
    options: PredictOptions, diameter: float | None, spec: ModelSpec
) -> PredictOptions:
    """Return the options with the zoom for objects of this diameter."""
    if diameter is None:
        return options
    if options.zoom != 1:
        raise InputError("Give --zoom or --diameter, not both.")
    if spec.object_diameter is None:
        raise InputError(
            f"Nobody has told how large the objects are that {spec.name} has learned; "
            "give --zoom instead."
        )
    if not diameter > 0:
        raise InputError(f"--diameter is {diameter}; it must be above 0.")
    return replace(options, zoom=spec.object_diameter / diameter)


def _segment_here(
    given: argparse.Namespace,
    model: SegmentationModel,
    task: Task,
    images: Sequence[Path],
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Segment one image after the other in this process."""
    from napari_seg.cli.segmenting import Segmenter
    from napari_seg.inference.device import pick_device
    from napari_seg.inference.predict import check_options, make_runner

    device = pick_device(given.device)
    check_options(model, device, task.options)
    segmenter = Segmenter(make_runner(model, device, task.options), task)
    task.folder.mkdir(parents=True, exist_ok=True)
    outputs: list[dict[str, Any]] = []
    failures: list[Failure] = []
    with Progress(given.progress, "Predicting") as progress:
        shares = _Shares(progress, images)
        for path in images:
            try:
                outputs.append(segmenter.segment(path, partial(shares.on_tile, path)))
            except InputError as error:
                failures.append((path, error))
    return outputs, failures


def _segment_on_cluster(
    given: argparse.Namespace,
    model: SegmentationModel,
    task: Task,
    images: Sequence[Path],
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Segment images on workers; what an earlier call finished is not done again."""
    from napari_seg.cli.distributing import Distributor
    from napari_seg.cli.unfinished import Unfinished
    from napari_seg.inference.cluster import Cluster
    from napari_seg.inference.device import pick_device
    from napari_seg.inference.predict import check_options

    if given.workers is not None:
        check_options(model, pick_device(given.device), task.options)
    # Workers may have another working directory.
    named = {path.absolute(): path for path in images}
    task = replace(task, folder=task.folder.absolute())
    task.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster.connect(given.scheduler)
            if given.workers is None
            else Cluster.local(given.workers)
        )
        name = cluster.load(model, given.device, task.options)
        record = Unfinished(task.folder, f"{name} {task} {__version__}")
        stack.callback(record.close)
        if record.told:
            note(record.told)
        progress = stack.enter_context(Progress(given.progress, "Predicting"))
        shares = _Shares(progress, list(named))
        work = Distributor(cluster, name, model, task, record, shares.on_tile)
        outputs = work.segment(list(named))
        record.complete()
    for output in outputs:
        output["input"] = named[Path(output["input"])]
    return outputs, [(named[path], error) for path, error in work.failures.items()]


class _Shares:
    """Reports how far many images are.

    Parameters
    ----------
    progress : Progress
        Where.
    images : sequence of Path
        All images.
    """

    def __init__(self, progress: Progress, images: Sequence[Path]) -> None:
        self._progress = progress
        self._shares = dict.fromkeys(images, 0.0)

    def on_tile(self, path: Path, done: int, total: int) -> None:
        """Report the tiles of one image."""
        self._shares[path] = done / total
        event = {"event": "tile", "input": str(path), "done": done, "total": total}
        share = sum(self._shares.values()) / len(self._shares)
        self._progress.update(share, json.dumps(event), path.name)


def _complaint(failures: Sequence[Failure], total: int) -> str:
    if total == 1:
        return str(failures[0][1])
    reasons = "; ".join(f"{path}: {error}" for path, error in failures)
    return f"{len(failures)} of {total} images could not be segmented. {reasons}"


def _line(output: dict[str, Any]) -> str:
    pixels = sum(output["pixels_per_class"])
    shares = ", ".join(
        f"{name} {count / pixels:.1%}"
        for name, count in zip(
            output["classes"], output["pixels_per_class"], strict=True
        )
    )
    objects = f", {output['objects']} objects" if "objects" in output else ""
    return f"{output['mask']}: {shares}{objects} ({output['seconds']:.1f} s)"
