"""What can be taken away as files."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.durable import write_atomically
from napari_seg.errors import InputError, NapariSegError, StorageError
from napari_seg.exchange.exchanged import Exchanged, Kind
from napari_seg.exchange.formats import FORMATS, write
from napari_seg.exchange.objects import classes_of
from napari_seg.scoring.confusion import mean_present
from napari_seg.workspace.lesson import save_training_windows, vouched_planes
from napari_seg.workspace.models_out import (
    Signature,
    model_file,
    write_onnx,
    write_package,
    write_torchscript,
)
from napari_seg.workspace.tasks import Job
from napari_seg.workspace.workspace import Workspace
from napari_seg.writer import Calibration, write_mask

__all__ = ["EXPORTS", "Export", "export", "scores_as_csv"]


@dataclass(frozen=True)
class Export:
    """One thing that can be taken away.

    Attributes
    ----------
    title : str
        What it is called in menus.
    write : callable
        Writes it, or returns a function that does so beside the main thread.
    suffix : str
        Suffix of the proposed file name.
    pattern : str
        File filter of the dialog.
    folder : bool
        Whether it is a folder of files.
    menu : str
        Menu that it stands in; empty is the first one.
    needs : tuple of str
        Modules of the extra ``zoo`` without which it cannot be written.
    signed : bool
        Whether its writer takes a :class:`~napari_seg.workspace.models_out.Signature`
        as well.
    """

    title: str
    write: Callable[..., Callable[[], Any] | None]
    suffix: str = ""
    pattern: str = ""
    folder: bool = False
    menu: str = ""
    needs: tuple[str, ...] = ()
    signed: bool = False

    def named(self, path: Path) -> Path:
        """Return the file to write: with its ending, if the name has none.

        Raises
        ------
        InputError
            If that file is there: nobody was asked whether to replace it.
        """
        ending = self.suffix[self.suffix.find(".") :]
        if self.folder or path.suffix or "." not in ending:
            return path
        full = path.with_name(path.name + ending)
        if full.exists():
            raise InputError(
                f"{full} is there already; choose it by its full name to replace it, "
                "or another name."
            )
        return full

    def check(self) -> None:
        """Check that what it needs is installed.

        Raises
        ------
        InputError
            If not; the message names it.
        """
        if self.needs:
            from napari_seg.zoo.extra import need

            need(self.title.rstrip("…"), *self.needs)


def export(
    workspace: Workspace, kind: str, path: Path, signature: Signature | None = None
) -> bool:
    """Write one of :data:`EXPORTS`; return whether that has begun well.

    What takes long is written beside the main thread; the workspace tells its end.

    Parameters
    ----------
    workspace : Workspace
        Whose mask, scores or model it is.
    kind : str
        Its key.
    path : Path
        The file, or the folder.
    signature : Signature, optional
        For what is `signed`.
    """
    workspace.settling.emit()
    what = EXPORTS[kind]
    signed = (signature,) if what.signed else ()
    try:
        what.check()
        path = what.named(path)
        rest = what.write(workspace, path, *signed)
    except (NapariSegError, OSError) as error:
        _failed(workspace, path, error)
        return False
    if rest is None:
        workspace.told.emit(f"Saved {path}")
    else:
        save_beside(workspace, path, rest)
    return True


def save_beside(workspace: Workspace, path: Path, write: Callable[[], Any]) -> None:
    """Write a file beside the main thread, and tell when it is there."""

    def job() -> Job:
        written = write()
        # A suffix may have been added.
        yield written if isinstance(written, Path) else path

    workspace.runner(
        job(),
        on_item=lambda written: workspace.told.emit(f"Saved {written}"),
        on_done=lambda: None,
        on_error=lambda error: _failed(workspace, path, error),
    )


def _failed(workspace: Workspace, path: Path, error: Exception) -> None:
    if isinstance(error, OSError):
        error = StorageError(
            f"{path} could not be written ({error}); choose another place. The "
            "mask and its corrections are unchanged."
        )
    workspace.failed.emit(error)


def _mask(workspace: Workspace, path: Path) -> None:
    if workspace.session is not None:
        write_mask(path, workspace.session.mask.labels)


def scores_as_csv(workspace: Workspace) -> str:
    """Return the live scores as a table: a row for each class and one for the mean."""
    session, scores = workspace.session, workspace.scores
    if session is None or scores is None:
        raise InputError("There are no scores yet: press Predict view first.")
    text = io.StringIO()
    table = csv.writer(text)
    head = ["image", "scope", "class", "iou", "dice", "pixels"]
    table.writerow([*head, "pq", "sq", "rq", "ap50"])
    image, scope = session.source.name, workspace.scope
    *objects, mean_of_objects = _object_rows(workspace, len(session.classes))
    for name, iou, dice, pixels, more in zip(
        session.classes,
        scores.iou,
        scores.dice,
        scores.truth_pixels,
        objects,
        strict=True,
    ):
        row = [image, scope, name, _cell(iou), _cell(dice), int(pixels)]
        table.writerow([*row, *more])
    mean = [_cell(scores.mean_iou), _cell(scores.mean_dice), scores.pixels]
    table.writerow([image, scope, "mean", *mean, *mean_of_objects])
    return text.getvalue()


def _object_rows(workspace: Workspace, classes: int) -> list[list[str]]:
    """Return the cells of PQ, SQ, RQ and AP for each class and the mean."""
    scores = workspace.object_score.scores
    if scores is None:
        return [[""] * 4] * (classes + 1)
    columns = (scores.pq, scores.sq, scores.rq, scores.ap)
    rows = [[_cell(column[i]) for column in columns] for i in range(classes)]
    return [*rows, [_cell(mean_present(column)) for column in columns]]


def _cell(value: float) -> str:
    return "" if isnan(value) else f"{value:.6f}"


def _scores(workspace: Workspace, path: Path) -> None:
    write_atomically(path, scores_as_csv(workspace).encode())


def _work(workspace: Workspace, path: Path) -> None:
    diary = None if workspace.session is None else workspace.session.diary
    if diary is not None:
        diary.flush()
    if diary is None or not diary.path.exists():
        raise InputError("There is no record yet: predict, correct or accept first.")
    shutil.copyfile(diary.path, path)


def _windows(workspace: Workspace, folder: Path) -> None:
    session, choice = workspace.session, workspace.choice
    if choice is None:
        raise InputError("Choose a model first: windows are cut as it takes them.")
    if session is not None:
        planes, ids = vouched_planes(session), workspace.objects.ids
        save_training_windows(session, planes, choice.spec, ids)
        source = session.project.windows_folder
        shutil.copytree(source, folder / "windows", dirs_exist_ok=True)


def _model(workspace: Workspace, path: Path) -> None:
    shutil.copyfile(model_file(workspace), path)


def _exchanged(workspace: Workspace, kind: Kind) -> Exchanged:
    """Return the mask, or its objects and their classes, for other programs."""
    session = workspace.session
    if session is None:
        raise InputError("There is no mask yet: predict or paint one first.")
    axes = session.reading.leading + "YX"
    size = session.source.pixel_size
    # The step between slices or in time is not known here.
    scale = () if size is None or len(axes) > 2 else (size, size)
    units = ("micrometer",) * len(scale)
    return Exchanged(
        # Copies, since the user may go on painting.
        session.mask.labels.copy(),
        workspace.objects.needed().copy() if kind == "objects" else None,
        tuple(session.classes),
        Calibration(axes, scale, units),
    )


def _leave_out_uncounted(content: Exchanged, countable: NDArray[np.bool_]) -> None:
    """Take the objects of classes that are not countable any more out of a copy."""
    if content.ids is None or content.labels is None:
        return
    classes = classes_of(content.ids, content.labels)
    gone = [i for i, kind in classes.items() if kind and not countable[kind]]
    if gone:
        content.ids[np.isin(content.ids, gone)] = 0


def _writer(key: str, kind: Kind) -> Callable[[Workspace, Path], Callable[[], Any]]:
    def write_format(workspace: Workspace, path: Path) -> Callable[[], Any]:
        content, session = _exchanged(workspace, kind), workspace.session
        assert session is not None
        countable = session.countable

        def write_it() -> None:
            _leave_out_uncounted(content, countable)
            write(path, content, format=key, kind=kind)

        return write_it

    return write_format


def _formats(kind: Kind, menu: str) -> dict[str, Export]:
    """Return the formats of other programs that hold masks, or objects."""
    # A word that tells the files of one image apart.
    word = "mask" if kind == "classes" else "objects"
    return {
        f"{word}-{key}": Export(
            f"{each.title}…",
            _writer(key, kind),
            f"_{word}{each.suffix}",
            each.pattern,
            menu=menu,
        )
        for key, each in FORMATS.items()
        if kind in each.holds
    }


_MODELS = "Model for other programs"

EXPORTS = {
    "mask": Export("Mask (TIFF)…", _mask, "_mask.tif", "TIFF (*.tif *.tiff)"),
    "scores": Export("Scores (CSV)…", _scores, "_scores.csv", "CSV (*.csv)"),
    "work": Export("Record of work (CSV)…", _work, "_work.csv", "CSV (*.csv)"),
    "windows": Export("Training windows (folder)…", _windows, folder=True),
    "model": Export(
        "Model (safetensors)…", _model, ".safetensors", "Models (*.safetensors)"
    ),
    "model-onnx": Export(
        "ONNX…", write_onnx, ".onnx", "ONNX (*.onnx)", menu=_MODELS, needs=("onnx",)
    ),
    "model-torchscript": Export(
        "TorchScript…", write_torchscript, ".pt", "TorchScript (*.pt)", menu=_MODELS
    ),
    "model-zoo": Export(
        "BioImage Model Zoo package…",
        write_package,
        ".zip",
        "Packages (*.zip)",
        menu=_MODELS,
        needs=("bioimageio.core", "onnx"),
        signed=True,
    ),
    **_formats("classes", "Mask for other programs"),
    **_formats("objects", "Objects"),
}
