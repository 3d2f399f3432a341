"""``napari-seg measure``: a table of objects, with sizes, places and intensities."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_seg.cli.arguments import add_json, class_names, pixel_sizes
from napari_seg.cli.report import Report, note
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.cli.files import Picture

__all__ = ["add_arguments", "run"]

_COLOURS = ("red", "green", "blue", "alpha")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "ids",
        type=Path,
        help="mask of objects, such as INPUT_instances.tif that predict writes: each "
        "object has a number, 0 is none",
    )
    parser.add_argument("--image", type=Path, help="image to measure intensities in")
    parser.add_argument("--labels", type=Path, help="mask of classes; 255 is unknown")
    parser.add_argument(
        "--classes",
        type=class_names,
        default=(),
        metavar="A,B",
        help="names of the classes, the background first (default: their ids)",
    )
    parser.add_argument(
        "--pixel-size",
        type=pixel_sizes,
        metavar="UM",
        help="in micrometres, such as 0.65, or 2,0.65,0.65 for Z,Y,X (default: as the "
        "files say)",
    )
    parser.add_argument(
        "--axes",
        help="meaning of the axes of IDS, such as TYX (default: as the files say, or "
        "ZYX and TZYX)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="TABLE",
        help="table to write, .csv or .parquet",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """Measure, and write the table."""
    from napari_seg.cli.files import read_picture
    from napari_seg.objects.measure import measure_objects
    from napari_seg.objects.tables import check_table_path, write_table

    check_table_path(given.output)
    if not given.output.resolve().parent.is_dir():
        raise InputError(f"There is no folder {given.output.resolve().parent}.")
    if given.classes and given.labels is None:
        raise InputError("--classes names the classes of --labels; give both.")
    ids = read_picture(given.ids, colours=False)
    labels = None if given.labels is None else read_picture(given.labels, colours=False)
    image = None if given.image is None else read_picture(given.image)
    axes = given.axes or _axes_of(ids, image)
    image_axes = None if image is None else _image_axes(image, ids, axes)
    try:
        table = measure_objects(
            ids.data,
            None if labels is None else labels.data,
            None if image is None else image.data,
            axes=axes,
            image_axes=image_axes,
            channel_names=_channel_names(image, image_axes),
            classes=given.classes,
            pixel_size=given.pixel_size or _pixel_size(ids, image, axes),
        )
    except InputError as error:
        raise type(error)(f"{given.ids}: {error}") from error
    write_table(table, given.output)
    if table.empty:
        note("there is no object in this mask, where 0 means none.")
    columns = list(table.columns)
    text = f"{given.output}: {len(table)} objects, {len(columns)} columns"
    values = {"table": given.output, "objects": len(table), "columns": columns}
    return Report(text, values)


def _axes_of(ids: Picture, image: Picture | None) -> str | None:
    """Return the axes of the ids, which the image may know better; None if neither."""
    if ids.axes is not None or image is None or image.axes is None:
        return ids.axes
    letters = "".join(letter for letter in image.axes if letter not in "CS")
    return letters if len(letters) == len(ids.data.shape) else None


def _image_axes(image: Picture, ids: Picture, axes: str | None) -> str | None:
    """Return the axes of the image; None is those of the ids, or C before them."""
    if image.axes is not None:
        return image.axes.replace("S", "C")
    from napari_seg.inference.axes import guess_axes

    *leading, last = image.data.shape
    if tuple(leading) == tuple(ids.data.shape) and (image.rgb or last <= len(_COLOURS)):
        return (axes or guess_axes(len(leading))) + "C"
    return None


def _channel_names(image: Picture | None, axes: str | None) -> tuple[str, ...] | None:
    """Return the names of colours; None for channels of which nothing is known."""
    if image is None or axes is None or not image.rgb or "C" not in axes:
        return None
    return _COLOURS[: image.data.shape[axes.index("C")]]


def _pixel_size(
    ids: Picture, image: Picture | None, axes: str | None
) -> tuple[float, ...] | None:
    """Return micrometres along Z, Y and X, if one of the files tells them."""
    from napari_seg.inference.axes import guess_axes

    told = axes or guess_axes(len(ids.data.shape))
    space = [letter for letter in "ZYX" if letter in told]
    for picture in (ids, image):
        if picture is not None:
            found = [picture.calibration.micrometres(axis) for axis in space]
            known = tuple(step for step in found if step is not None and step > 0)
            if len(known) == len(space):
                return known
    return None
