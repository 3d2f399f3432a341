"""What one fine-tuning run is made of: windows, a start, a command, a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.versions import VersionCard
from napari_seg.corrections.windows import (
    PixelSize,
    Window,
    cut_windows,
    save_windows,
)
from napari_seg.errors import NothingToLearnError
from napari_seg.inference.axes import as_array
from napari_seg.inference.normalization import channel_ranges
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.scoring.regions import Box
from napari_seg.workspace.choices import ModelChoice
from napari_seg.workspace.session import Session
from napari_seg.workspace.volumes import VolumeWindows, why_no_volumes

if TYPE_CHECKING:
    from napari_seg.training.child import FinetuneCommand

__all__ = [
    "Lesson",
    "VouchedPlane",
    "add_version",
    "earlier_projects",
    "finetune_command",
    "kept_and_new",
    "save_training_windows",
    "vouched_planes",
]

#: Projects of earlier images that are mixed in; reading more delays the start.
_REPLAYED = 8

#: What a card holds beside parent and scores.
_DETAILS = (
    "steps",
    "improved",
    "interval",
    "regions",
    "places",
    "pixels",
    "calibration",
)


@dataclass(frozen=True)
class Lesson:
    """What one fine-tuning run is asked to do.

    Attributes
    ----------
    choice : ModelChoice
        The start; an untrained one begins with random weights.
    minutes : float
        Time budget.
    device : str
        Where training runs.
    arguments : tuple of str
        Further arguments of ``napari-seg finetune``.
    objects : (..., Y, X) ndarray of uint32 or None
        Ids of the objects of the mask, where they were found.
    """

    choice: ModelChoice
    minutes: float
    device: str = "auto"
    arguments: tuple[str, ...] = ()
    objects: NDArray[np.uint32] | None = None


@dataclass(frozen=True, eq=False)
class VouchedPlane:
    """The vouched labels of one plane, copied for work beside the main thread."""

    index: tuple[int, ...]
    truth: NDArray[np.uint8]


def vouched_planes(session: Session) -> list[VouchedPlane]:
    """Return the planes in which the user vouches for something."""
    found = []
    for index in session.reading.indices():
        region = tuple(slice(i, i + 1) for i in index)
        truth = session.mask.truth((*region, slice(None), slice(None)))
        if (truth != UNKNOWN).any():
            found.append(VouchedPlane(index, truth.reshape(truth.shape[-2:])))
    return found


def save_training_windows(
    session: Session,
    planes: list[VouchedPlane],
    spec: ModelSpec,
    objects: NDArray[np.uint32] | None = None,
) -> int:
    """Cut the vouched regions into windows on disk, for a model.

    For one of volumes they are blocks, where the image has a Z axis. One that tells
    objects apart learns that from `objects`, their ids in the whole mask, if known.

    Returns
    -------
    int
        Number of windows that were passed over, since memory could not hold them.

    Raises
    ------
    NothingToLearnError
        If too little is vouched for.
    """
    if session.ranges is None:
        # Nothing was predicted yet, as with a new model.
        image = as_array(session.source.data)
        session.ranges = channel_ranges(image, session.reading, spec.normalization)
    volumes = spec.ndim == 3 and not why_no_volumes(session)
    windows = (
        VolumeWindows(session, planes, spec)
        if volumes
        else _plane_windows(session, planes, objects if spec.object_head else None)
    )
    if not len(windows):
        raise NothingToLearnError(
            "Too few pixels are corrected or accepted to learn from: at least 64 in "
            "one place. Paint a little more, or press Accept view where the mask is "
            "right."
        )
    save_windows(session.project.windows_folder, session.image_id, windows)
    return windows.passed_over if isinstance(windows, VolumeWindows) else 0


def _plane_windows(
    session: Session, planes: list[VouchedPlane], objects: NDArray[np.uint32] | None
) -> list[Window]:
    reading = session.reading
    image = as_array(session.source.data)

    def reader(index: tuple[int, ...], box: Box) -> NDArray[Any]:
        pixels = reading.plane(image, index, (box[0], box[1]))
        return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)

    return [
        window
        for plane in planes
        for window in cut_windows(
            plane.truth,
            partial(reader, plane.index),
            session.image_id,
            plane.index,
            ranges=session.ranges,
            pixel_size=PixelSize(
                session.source.read_as.zoom, session.source.pixel_size
            ),
            objects=None if objects is None else objects[plane.index],
        )
    ]


def _start_file(session: Session, choice: ModelChoice) -> Path:
    """Return the file of the model to start from; a new model is made first."""
    if choice.path is not None:
        return choice.path
    from napari_seg.models.checkpoint import save_model
    from napari_seg.models.pretrained import build_pretrained
    from napari_seg.models.registry import build

    spec = replace(
        choice.spec, classes=tuple(session.classes_to_train(choice.spec.classes))
    )
    model = build_pretrained(spec, "imagenet") if choice.imagenet else build(spec)
    return save_model(model, session.project.models_folder / "start")


def finetune_command(session: Session, lesson: Lesson) -> FinetuneCommand:
    """Return what the child process is told to do."""
    from napari_seg.training.child import FinetuneCommand

    choice = lesson.choice
    options = list(lesson.arguments)
    classes = session.classes_to_train(choice.spec.classes)
    if list(choice.spec.classes) != classes:
        options += ["--classes", ",".join(classes)]
    for folder in earlier_projects(choice.spec, session.project.folder):
        options += ["--replay", str(folder)]
    return FinetuneCommand(
        model=_start_file(session, choice),
        output=session.project.models_folder / "candidate.safetensors",
        project=session.project.folder,
        minutes=lesson.minutes,
        device=lesson.device,
        options=(*options, "--overwrite"),
    )


def kept_and_new(session: Session, choice: ModelChoice) -> str:
    """Return what of a model stays when it is fine-tuned, and what it learns anew.

    Empty where all of it stays.
    """
    if choice.imagenet:
        return "The encoder starts from ImageNet weights, all else is new."
    if choice.untrained:
        return "A new model: it learns everything from these."
    names = session.classes_to_train(choice.spec.classes)[len(choice.spec.classes) :]
    if not names:
        return ""
    return f"Keeps what {choice.label} has learned; new to it: {', '.join(names)}."


def earlier_projects(spec: ModelSpec, current: Path) -> list[Path]:
    """Return the projects of other images that a model has learned, oldest first.

    Parameters
    ----------
    spec : ModelSpec
        Of the model to start from; its history names them.
    current : Path
        Folder of this project; the others lie beside it, as far as they still exist.
    """
    names = dict.fromkeys(str(run.get("project", "")) for run in spec.history)
    # A model from elsewhere must not lead out of the folder.
    plain = [n for n in names if n not in ("", "..") and Path(n).name == n]
    found = [current.parent / name for name in plain if name != current.name]
    kept = [each for each in found if any((each / "windows" / "labels").glob("*.tif"))]
    return kept[-_REPLAYED:]


def add_version(session: Session, result: dict[str, Any], parent: str) -> str:
    """Keep the model of a finished run in the project; return its name.

    Raises
    ------
    StorageError
        If it cannot be saved.
    """
    card = VersionCard(
        parent=parent,
        windows=len(list((session.project.windows_folder / "images").glob("*.tif"))),
        before=result["before"],
        after=result["after"],
        seconds=result["seconds"],
        kept=False,
        details={key: result[key] for key in _DETAILS if key in result},
    )
    return session.project.add_version(Path(result["model"]), card).name
