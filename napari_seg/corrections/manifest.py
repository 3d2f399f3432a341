"""``project.json``: what a project knows beside its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_seg.corrections.durable import write_json
from napari_seg.corrections.identity import safe_name
from napari_seg.errors import ProjectError

__all__ = ["AS_GUESSED", "FILE", "ImageEntry", "Manifest", "ProjectClass", "ReadAs"]

FILE = "project.json"
_FORMAT = 1


@dataclass(frozen=True)
class ProjectClass:
    """A class: its id is its place in the list.

    Attributes
    ----------
    name : str
        As the user calls it.
    color : str
        "#rrggbb", or empty.
    earlier : tuple of str
        Names that it had before; models may still use them.
    countable : bool
        Whether its pixels are objects, one beside the other.
    """

    name: str
    color: str
    earlier: tuple[str, ...] = ()
    countable: bool = True


@dataclass(frozen=True)
class ReadAs:
    """How an image is read, as far as somebody said so.

    Attributes
    ----------
    axes : str or None
        One letter for each axis.
    channels : tuple of int or None
        Which of its channels the model takes.
    zoom : float
        In which size the model sees it.
    """

    axes: str | None = None
    channels: tuple[int, ...] | None = None
    zoom: float = 1.0


#: Nobody said anything.
AS_GUESSED = ReadAs()


@dataclass(frozen=True)
class ImageEntry:
    """An image of the project.

    Attributes
    ----------
    id : str
        Name of its folder, and first part of the names of its windows.
    name : str
        As the viewer shows it.
    fingerprint : str
        See :func:`napari_seg.corrections.identity.fingerprint`.
    shape : tuple of int
        Shape of its mask, (..., Y, X).
    source : str or None
        File it was opened from.
    read_as : ReadAs
        How it was read last.
    """

    id: str
    name: str
    fingerprint: str
    shape: tuple[int, ...]
    source: str | None = None
    read_as: ReadAs = AS_GUESSED

    def is_of(self, fingerprint: str, shape: tuple[int, ...], axes: str | None) -> bool:
        """Whether a mask of these axes of an image is this one."""
        same = (self.fingerprint, self.shape) == (fingerprint, shape)
        known = self.read_as.axes
        return same and (not known or not axes or _order(known) == _order(axes))


def _order(axes: str) -> str:
    """Return which of rows and columns comes first."""
    return "".join(letter for letter in axes if letter in "YX")


@dataclass(frozen=True)
class Manifest:
    """What project.json holds.

    Attributes
    ----------
    classes : tuple of ProjectClass
        In the order of their ids.
    images : tuple of ImageEntry
        In the order in which they were added.
    current : str or None
        Name of the model in use.
    """

    classes: tuple[ProjectClass, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    current: str | None = None

    def write(self, folder: Path) -> None:
        """Write ``project.json``, atomically.

        Raises
        ------
        OSError
            If that fails; the old file is kept then.
        """
        head = {"format": _FORMAT, "program": "napari-seg"}
        write_json(folder / FILE, {**head, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``project.json``.

        Raises
        ------
        ProjectError
            If there is none, or it is damaged or of a newer program.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] > _FORMAT:
                raise ProjectError(
                    f"{folder} was made by a newer napari-seg; update to open it."
                )
            return cls(
                tuple(_class(entry) for entry in content["classes"]),
                tuple(_image(entry) for entry in content["images"]),
                content["current"],
            )
        except FileNotFoundError as error:
            raise ProjectError(
                f"{folder} is no napari-seg project: it has no {FILE}."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ProjectError):
                raise
            raise ProjectError(
                f"{path} cannot be read ({error}). Corrections and models beside it "
                "are not affected; restore the file from a copy."
            ) from error


def _class(entry: dict[str, Any]) -> ProjectClass:
    return ProjectClass(**{**entry, "earlier": tuple(entry.get("earlier", ()))})


def _image(entry: dict[str, Any]) -> ImageEntry:
    said = dict(entry.get("read_as", {}))
    if said.get("channels") is not None:
        said["channels"] = tuple(said["channels"])
    image = ImageEntry(
        **{**entry, "shape": tuple(entry["shape"]), "read_as": ReadAs(**said)}
    )
    # The id becomes a path: a damaged or foreign file must not lead out of the folder.
    if safe_name(image.id) != image.id:
        raise ValueError(f"image id {image.id!r}")
    return image
