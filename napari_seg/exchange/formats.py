"""The formats as a table, and the way into each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from napari_seg.errors import InputError, NapariSegError, StorageError
from napari_seg.exchange.exchanged import Exchanged, Hints, Kind
from napari_seg.folders import is_zarr, zarr_root

__all__ = ["FORMATS", "Format", "format_of", "read", "write"]


@dataclass(frozen=True)
class Format:
    """One way to write masks and objects down.

    Attributes
    ----------
    title : str
        What it is called in menus.
    module : str
        Module of this package with ``read(path, hints)`` and ``write(path, content,
        kind, **preset)``.
    suffixes : tuple of str
        Endings of its files; the first one is proposed.
    pattern : str
        File filter of a dialog.
    holds : tuple of str
        "classes", "objects"; a file has one of them, or with `together` both.
    together : bool
        Whether one file holds objects and their classes.
    ndim : tuple of int
        Numbers of axes that it can have.
    file_per_plane : bool
        Whether each plane of a stack is a file of its own.
    needs_shape : bool
        Whether files of other programs do not tell the shape of the image.
    opens_in : str
        Programs that read it.
    preset : mapping
        What its writer is told, where a module writes several formats.
    """

    title: str
    module: str
    suffixes: tuple[str, ...]
    pattern: str
    holds: tuple[Kind, ...] = ("classes", "objects")
    together: bool = False
    ndim: tuple[int, ...] = (2, 3, 4)
    file_per_plane: bool = False
    needs_shape: bool = False
    opens_in: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """The ending that is proposed."""
        return self.suffixes[0]

    def write(
        self, path: Path, content: Exchanged, kind: Kind | None = None
    ) -> list[Path]:
        """Write a file, as :func:`write` does."""
        home = import_module(f"napari_seg.exchange.{self.module}")
        written: list[Path] = home.write(path, content, kind, **self.preset)
        return written

    def read(self, path: Path, hints: Hints) -> Exchanged:
        """Read a file, as :func:`read` does."""
        home = import_module(f"napari_seg.exchange.{self.module}")
        content: Exchanged = home.read(path, hints)
        return content


FORMATS: dict[str, Format] = {
    "ome-tiff": Format(
        "OME-TIFF",
        "ometiff",
        (".ome.tif", ".ome.tiff"),
        "OME-TIFF (*.ome.tif *.ome.tiff)",
        opens_in="Fiji (Bio-Formats), QuPath, OMERO, napari",
    ),
    "tiff": Format(
        "TIFF",
        "tiff",
        (".tif", ".tiff"),
        "TIFF (*.tif *.tiff)",
        opens_in="ImageJ, Fiji, napari, most others",
    ),
    "ome-zarr": Format(
        "OME-Zarr 0.4",
        "omezarr",
        (".zarr",),
        "OME-Zarr (*.zarr)",
        together=True,
        opens_in="napari, Fiji (MoBIE), Vizarr, OMERO",
        preset={"version": 2},
    ),
    "ome-zarr-0.5": Format(
        "OME-Zarr 0.5",
        "omezarr",
        (".zarr",),
        "OME-Zarr (*.zarr)",
        together=True,
        opens_in="napari, newer versions of the others",
        preset={"version": 3},
    ),
    "png": Format(
        "PNG",
        "png",
        (".png",),
        "PNG (*.png)",
        file_per_plane=True,
        opens_in="everything",
    ),
    "coco": Format(
        "COCO (run lengths)",
        "coco",
        (".json",),
        "COCO (*.json)",
        ("objects",),
        together=True,
        opens_in="pycocotools, Detectron2, MMDetection, CVAT",
    ),
    "coco-polygons": Format(
        "COCO (polygons)",
        "coco",
        (".json",),
        "COCO (*.json)",
        ("objects",),
        together=True,
        opens_in="the same, Label Studio, Roboflow",
        preset={"polygons": True},
    ),
    "geojson": Format(
        "GeoJSON annotations",
        "geojson",
        (".geojson",),
        "GeoJSON (*.geojson)",
        ("objects",),
        together=True,
        needs_shape=True,
        opens_in="QuPath",
    ),
    "geojson-detections": Format(
        "GeoJSON detections",
        "geojson",
        (".geojson",),
        "GeoJSON (*.geojson)",
        ("objects",),
        together=True,
        needs_shape=True,
        opens_in="QuPath",
        preset={"kind_of_object": "detection"},
    ),
    "imagej": Format(
        "ImageJ ROIs",
        "imagej",
        (".zip", ".roi"),
        "ImageJ ROIs (*.zip)",
        ("objects",),
        together=True,
        needs_shape=True,
        opens_in="ImageJ and Fiji (ROI Manager)",
    ),
}


def format_of(path: Path) -> str:
    """Return the key of the format that a path's name stands for.

    Raises
    ------
    InputError
        If none does.
    """
    name = path.name.lower()
    for key, each in FORMATS.items():
        if name.endswith(each.suffixes):
            return key
    if is_zarr(path) or zarr_root(path) != path:
        return "ome-zarr"
    known = sorted({ending for each in FORMATS.values() for ending in each.suffixes})
    raise InputError(
        f"{path} has no ending of a known format; these are known: {', '.join(known)}."
    )


def write(
    path: str | os.PathLike[str],
    content: Exchanged,
    *,
    format: str | None = None,
    kind: Kind | None = None,
) -> list[Path]:
    """Write masks and objects for another program, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write; one that is there is replaced.  An OME-Zarr that is there gets
        labels, and is not touched otherwise.
    content : Exchanged
        Class mask, objects or both.  What a format needs and is not there is made:
        objects are the connected pixels of a class, and the class of objects is 1.
    format : str, optional
        One of :data:`FORMATS`; by default what `path` ends in.
    kind : "classes" or "objects", optional
        Which of both goes into a format that holds one; by default the classes.

    Returns
    -------
    list of Path
        The files written: several for the planes of a stack in PNG.

    Raises
    ------
    InputError
        If the format cannot hold it.
    StorageError
        If it cannot be written.
    """
    target = Path(path)
    chosen = _known(format or format_of(target))
    try:
        return chosen.write(target, content, kind)
    except NapariSegError:
        raise
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}): choose "
            "another place."
        ) from error


def read(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    classes: tuple[str, ...] = (),
    kind: Kind | None = None,
    format: str | None = None,
) -> Exchanged:
    """Read masks and objects of another program.

    Parameters
    ----------
    path : path-like
        The file.  A PNG that is not there is a stack if files of its planes are.
    shape : tuple of int, optional
        Shape of the image, (..., Y, X); needed where the file does not tell.
    classes : tuple of str, optional
        Names of the classes, the background first; by default as the file says.
    kind : "classes" or "objects", optional
        What numbers mean; by default, up to 8 bits are classes, more are objects.
    format : str, optional
        One of :data:`FORMATS`; by default what `path` ends in.

    Returns
    -------
    Exchanged
        Objects and their class mask where the file holds objects with classes, the
        one of both that it holds otherwise.  Where objects overlap, the one that
        comes later in the file is on top.

    Raises
    ------
    InputError
        If the file is damaged, of another kind, or does not fit the image.
    """
    source = Path(path)
    chosen = _known(format or format_of(source))
    try:
        return chosen.read(source, Hints(shape, tuple(classes), kind))
    except InputError as error:
        raise type(error)(_told(source, error)) from error
    except FileNotFoundError as error:
        raise InputError(f"There is no file {source}.") from error
    except MemoryError as error:
        raise InputError(
            f"{source} is too large for the memory of this computer; cut it into parts."
        ) from error
    except Exception as error:
        # Damaged files make decoders raise whatever they come across.
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{source} cannot be read as {chosen.title} ({why}); it is damaged or of "
            "another kind: save it anew."
        ) from error


def _told(source: Path, error: InputError) -> str:
    message = str(error)
    return message if str(source) in message else f"{source}: {message}"


def _known(key: str) -> Format:
    if key not in FORMATS:
        raise InputError(
            f"There is no format {key!r}; these are known: {', '.join(FORMATS)}."
        )
    return FORMATS[key]
