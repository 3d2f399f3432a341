"""Model versions of a project: a model file and a card that says where it is from."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_seg.corrections.durable import sync_folder, write_json
from napari_seg.errors import InputError, ProjectError, StorageError

__all__ = ["ModelVersion", "VersionCard", "add_version", "mark_kept", "read_versions"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("napari-seg", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@dataclass(frozen=True)
class VersionCard:
    """How a model version came about.

    Attributes
    ----------
    parent : str or None
        What was fine-tuned: a version's name, or a bundled model's.
    windows : int
        Number of windows trained on.
    before, after : mapping
        Held-out scores of parent and version: `iou`, `dice`, `mean_iou`,
        `mean_dice`.
    seconds : float
        Time of training.
    kept : bool
        Whether the user kept it.
    created : str
        ISO 8601, UTC.
    software : mapping of str to str
        Versions of the programs that made it.
    details : mapping
        Whatever else is worth keeping, as plain numbers, strings and lists.
    """

    parent: str | None = None
    windows: int = 0
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    kept: bool = True
    created: str = field(default_factory=_now)
    software: Mapping[str, str] = field(default_factory=_software)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """A model file of a project.

    Attributes
    ----------
    name : str
        "v001", "v002" and so on.
    path : Path
        The safetensors file.
    card : VersionCard
        How it came about.
    """

    name: str
    path: Path
    card: VersionCard


def add_version(folder: Path, model_file: Path, card: VersionCard) -> ModelVersion:
    """Copy a model file into `folder` under the next number, with its card.

    The card is written last: a model without a card is left from a crash, and is
    not a version.

    Raises
    ------
    InputError
        If the model file does not exist.
    StorageError
        If it cannot be copied.
    """
    if not model_file.is_file():
        raise InputError(f"There is no model file {model_file}.")
    taken = [int(path.stem[1:]) for path in folder.glob("v[0-9]*.json")]
    name = f"v{max(taken, default=0) + 1:03d}"
    path = folder / f"{name}.safetensors"
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model_file, partial)
        partial.replace(path)
        sync_folder(folder)
        write_json(folder / f"{name}.json", asdict(card))
    except OSError as error:
        raise StorageError(
            f"The model could not be saved as {path} ({error}); free some space and "
            "keep it again."
        ) from error
    return ModelVersion(name, path, card)


def mark_kept(version: ModelVersion) -> None:
    """Write into the card of a version that the user kept it.

    Raises
    ------
    StorageError
        If the card cannot be written; the model is not affected.
    """
    card = replace(version.card, kept=True)
    try:
        write_json(version.path.with_suffix(".json"), asdict(card))
    except OSError as error:
        raise StorageError(
            f"The card of {version.name} could not be saved ({error}); free some "
            "space and keep it again."
        ) from error


def read_versions(folder: Path) -> tuple[ModelVersion, ...]:
    """Return the versions in `folder`, oldest first.

    Raises
    ------
    ProjectError
        If a card cannot be read.
    """
    return tuple(
        ModelVersion(path.stem, path.with_suffix(".safetensors"), _card(path))
        for path in sorted(folder.glob("v[0-9]*.json"), key=lambda p: int(p.stem[1:]))
        if path.with_suffix(".safetensors").exists()
    )


def _card(path: Path) -> VersionCard:
    known = {f.name for f in fields(VersionCard)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return VersionCard(**{k: v for k, v in content.items() if k in known})
    except (ValueError, AttributeError, TypeError) as error:
        raise ProjectError(
            f"{path} is no model card ({error}); move it away to open the project "
            "without this version."
        ) from error
