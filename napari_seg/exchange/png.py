"""Masks in PNG: classes with their colours, objects as 16-bit grey.

PNG has no stacks: a plane each goes into a file of its own, ``a_z0003.png`` or
``a_t0001_z0003.png`` of ``a.png``.
"""

from __future__ import annotations

import json
import re
import warnings
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from napari_seg.errors import InputError, LabelsError
from napari_seg.exchange.exchanged import (
    OURS,
    Exchanged,
    Hints,
    Kind,
    as_exchanged,
    check_shape,
    told_calibration,
    told_classes,
)
from napari_seg.scoring.tally import UNKNOWN
from napari_seg.writer import Calibration, replacing

__all__ = ["read", "write"]

_LARGEST_ID = 2**16 - 1
_UNKNOWN_COLOR = (128, 128, 128)
_NO_CLASS_COLOR = (255, 255, 255)


def write(path: Path, content: Exchanged, kind: Kind | None = None) -> list[Path]:
    """Write a mask; all files appear when all are complete.

    Parameters
    ----------
    path : Path
        File to write, or what the files of the planes are named after.
    content : Exchanged
        What to write.
    kind : str, optional
        Which of both; by default the classes.

    Raises
    ------
    InputError
        If there are more than 65535 objects, or files of other planes would be taken
        for some of this stack.
    """
    kind, values = content.array(kind)
    if kind == "objects":
        values = _narrow(values)
    files = {
        plane: _plane_path(path, content.axes, plane)
        for plane in np.ndindex(values.shape[:-2])
    }
    foreign = set(_planes_of(path)) - set(files.values())
    if len(files) > 1 and foreign:
        raise InputError(
            f"{min(foreign)} is there already and would be taken for a plane of this "
            "stack; move it away, or choose another name."
        )
    words = PngImagePlugin.PngInfo()
    words.add_itxt(OURS, json.dumps(content.said()))
    with ExitStack() as stack:
        for plane, target in files.items():
            part = stack.enter_context(replacing(target))
            image = _image(values[plane], content.colors())
            image.save(part, format="PNG", pnginfo=words, optimize=False)
    return list(files.values())


def _narrow(ids: NDArray[np.uint32]) -> NDArray[np.uint16]:
    largest = int(ids.max())
    if largest > _LARGEST_ID:
        raise InputError(
            f"The objects have numbers up to {largest}; PNG has room for "
            f"{_LARGEST_ID}: write TIFF or OME-Zarr."
        )
    return ids.astype(np.uint16)


def _image(plane: NDArray[Any], colors: tuple[str, ...]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(plane))
    if plane.dtype == np.uint8:
        known = [tuple(bytes.fromhex(color[1:])) for color in colors]
        table = [*known, *[_NO_CLASS_COLOR] * (UNKNOWN - len(known)), _UNKNOWN_COLOR]
        image.putpalette([value for color in table for value in color])
    return image


def _plane_path(path: Path, axes: str, plane: tuple[int, ...]) -> Path:
    where = "".join(
        f"_{letter.lower()}{index:04d}"
        for letter, index in zip(axes, plane, strict=False)
    )
    return path.with_name(f"{path.stem}{where}{path.suffix}")


def _planes_of(path: Path) -> dict[Path, tuple[int, ...]]:
    """Return the files of the planes that are named after a path, with their index."""
    name = re.compile(
        re.escape(path.stem) + r"((?:_[a-z]\d{4,9}){1,2})" + re.escape(path.suffix)
    )
    folder = path.parent
    found = {
        each: name.fullmatch(each.name)
        for each in (folder.iterdir() if folder.is_dir() else ())
    }
    return {
        each: tuple(int(part[1:]) for part in match[1].split("_")[1:])
        for each, match in sorted(found.items())
        if match
    }


def read(path: Path, hints: Hints) -> Exchanged:
    """Read a mask; of a colour table the indices are the class ids.

    Parameters
    ----------
    path : Path
        The file; where there is none, what the files of planes are named after.
    hints : Hints
        What is known beside it.

    Raises
    ------
    InputError
        If it is no mask, or planes of the stack are missing.
    """
    planes = {} if path.exists() else _planes_of(path)
    if not planes:
        values, said = _read_plane(path)
        return as_exchanged(values, hints, told_classes(said), told_calibration(said))
    shape = _leading(planes)
    first, said = _read_plane(min(planes))
    check_shape((*shape, *first.shape))
    stack = np.zeros((*shape, *first.shape), first.dtype)
    for each, index in planes.items():
        plane, _ = _read_plane(each)
        if plane.shape != first.shape or plane.dtype != first.dtype:
            raise LabelsError(
                f"{each} has other sides or another type than {min(planes)}; the "
                "planes of a stack are alike."
            )
        stack[index] = plane
    letters = re.findall(r"_([a-z])\d{4,9}", min(planes).stem)[-len(shape) :]
    named = Calibration("".join(letters).upper() + "YX")
    told = told_calibration(said)
    calibration = told if told.axes == named.axes else named
    return as_exchanged(stack, hints, told_classes(said), calibration)


def _leading(planes: dict[Path, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of the axes before Y and X."""
    if len({len(index) for index in planes.values()}) == 1:
        shape = tuple(max(each) + 1 for each in zip(*planes.values(), strict=True))
        if prod(shape) == len(planes):
            return shape
    raise LabelsError(
        f"Of the planes that {min(planes)} is one of, some are missing; planes are "
        "numbered from 0 without a gap."
    )


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=("PNG",))
    except Image.DecompressionBombError as error:
        raise LabelsError(
            f"{path} is larger than a PNG can safely be read ({error}); save it as "
            "TIFF or OME-Zarr."
        ) from error


def _read_plane(path: Path) -> tuple[NDArray[Any], Any]:
    """Return the values of a file, and what it says under our name."""
    with warnings.catch_warnings():
        # Its size is checked here, and no mask unpacks to much more than that.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with _opened(path) as image:
            check_shape(image.size[::-1])
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise LabelsError(
                    f"{path} holds colours ({image.mode}), no numbers; save it with a "
                    "colour table (indexed), or as 8- or 16-bit grey."
                )
            values = np.asarray(image)
            said = image.info.get(OURS)
    try:
        return values, json.loads(said) if said else None
    except ValueError as error:
        raise InputError(f"The words in {path} are damaged; save it anew.") from error
