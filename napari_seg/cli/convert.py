"""``napari-seg convert``: masks and objects from any format into any other."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_seg.cli.arguments import add_json, class_names, pixel_sizes
from napari_seg.cli.report import Report
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.cli.files import Picture
    from napari_seg.exchange import Exchanged
    from napari_seg.writer import Calibration

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    from napari_seg.exchange import FORMATS

    parser.add_argument(
        "input", type=Path, metavar="IN", help="mask or objects, of any known format"
    )
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="file to write; its ending tells the format. An OME-Zarr image that is "
        "there gets labels",
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="IMAGE",
        help="the image, for its shape and pixel size; ImageJ ROIs need it, and "
        "GeoJSON of other programs",
    )
    parser.add_argument(
        "--classes",
        type=class_names,
        default=(),
        metavar="A,B",
        help="names of the classes, the background first (default: as IN says)",
    )
    parser.add_argument(
        "--pixel-size",
        type=pixel_sizes,
        metavar="UM",
        help="micrometres, such as 0.65, or 2,0.65,0.65 for Z,Y,X (default: as IN or "
        "IMAGE says)",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        metavar="NAME",
        help=f"format of OUT: {', '.join(FORMATS)} (default: by its ending)",
    )
    parser.add_argument(
        "--kind",
        choices=("classes", "objects"),
        help="what the numbers of an array mean, in IN and in OUT (default: up to 8 "
        "bits are classes, more are objects)",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """Read one file, and write another one."""
    from napari_seg.exchange import FORMATS, read, write
    from napari_seg.exchange.formats import format_of

    if given.input.resolve() == given.output.resolve():
        raise InputError("IN and OUT are the same file; choose another name for OUT.")
    format_name = given.format or format_of(given.output)
    picture = None if given.image is None else _picture(given.image)
    shape = None if picture is None else _mask_shape(picture)
    content = read(given.input, shape=shape, classes=given.classes, kind=given.kind)
    if picture is not None and not content.calibration.scale:
        content = _calibrated(content, picture.calibration)
    if given.pixel_size is not None:
        content = _calibrated(content, _calibration(content, given.pixel_size))
    if FORMATS[format_name].holds == ("objects",):
        content = replace(content, ids=content.objects())
    written = write(given.output, content, format=format_name, kind=given.kind)
    values = _values(content, format_name, written)
    return Report(_text(values), {"input": given.input, **values})


def _picture(path: Path) -> Picture:
    from napari_seg.cli.files import read_picture

    return read_picture(path)


def _mask_shape(picture: Picture) -> tuple[int, ...]:
    """Return the shape of a mask of an image: without channels."""
    shape = tuple(picture.data.shape)
    if picture.axes is not None:
        letters = picture.axes
        return tuple(
            n for n, axis in zip(shape, letters, strict=True) if axis not in "CS"
        )
    return shape[:-1] if picture.rgb else shape


def _calibrated(content: Exchanged, told: Calibration) -> Exchanged:
    fits = len(told.axes) == len(content.shape)
    return replace(content, calibration=told) if fits else content


def _calibration(content: Exchanged, sizes: tuple[float, ...]) -> Calibration:
    """Return the calibration for pixel sizes that were given in micrometres."""
    from napari_seg.writer import Calibration

    axes, ndim = content.axes, len(content.shape)
    if len(sizes) == 1:
        sizes = sizes * 2
    if len(sizes) > ndim:
        raise InputError(
            f"--pixel-size has {len(sizes)} numbers, the mask the axes {axes}; give "
            "one for each axis, or a single one for Y and X."
        )
    old = content.calibration
    before = ndim - len(sizes)
    kept = len(old.scale) == len(old.units) == ndim
    scale = old.scale[:before] if kept else (1.0,) * before
    units = old.units[:before] if kept else ("pixel",) * before
    return Calibration(axes, (*scale, *sizes), (*units, *("micrometer",) * len(sizes)))


def _values(
    content: Exchanged, format_name: str, written: list[Path]
) -> dict[str, Any]:
    import numpy as np

    objects = None
    if content.ids is not None:
        objects = len(np.unique(content.ids[content.ids > 0]))
    return {
        "outputs": written,
        "format": format_name,
        "shape": content.shape,
        "classes": content.names(),
        "objects": objects,
        "pixel_size": content.pixel_size,
    }


def _text(values: dict[str, Any]) -> str:
    from napari_seg.exchange import FORMATS

    written = values["outputs"]
    where = f"{written[0]}" + (f" and {len(written) - 1} more" if written[1:] else "")
    shape = " × ".join(map(str, values["shape"]))
    count = "" if values["objects"] is None else f", {values['objects']} objects"
    names = ", ".join(values["classes"])
    return f"{where}: {FORMATS[values['format']].title}, {shape}, {names}{count}"
