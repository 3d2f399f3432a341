"""Masks in TIFF: what :mod:`napari_seg.writer` writes, and what others do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_seg.errors import LabelsError
from napari_seg.exchange.exchanged import (
    Exchanged,
    Hints,
    Kind,
    as_exchanged,
    check_shape,
)
from napari_seg.writer import Calibration, write_mask

__all__ = ["CLASSES", "calibration_of", "read", "write"]

#: Namespace of the map of class ids to names in the metadata of OME.
CLASSES = "napari-seg/classes"

_LENGTHS = {
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "micron": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "m": "meter",
}


def write(path: Path, content: Exchanged, kind: Kind | None = None) -> list[Path]:
    """Write a mask as :func:`napari_seg.writer.write_mask` does.

    Parameters
    ----------
    path : Path
        File to write.
    content : Exchanged
        What to write.
    kind : str, optional
        Which of both; by default the classes.
    """
    return [write_mask(path, content.array(kind)[1], content.calibration)]


def read(path: Path, hints: Hints) -> Exchanged:
    """Read the first series of a TIFF or OME-TIFF.

    Parameters
    ----------
    path : Path
        The file.
    hints : Hints
        What is known beside it.

    Raises
    ------
    LabelsError
        If it holds no mask.
    """
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        kept = _mask_axes(series.axes, series.shape)
        shape = tuple(series.shape[axis] for axis in kept)
        check_shape(shape)
        _check_size(file, path.stat().st_size)
        values: NDArray[Any] = np.asarray(series.asarray()).reshape(shape)
        letters = "".join(series.axes[axis] for axis in kept)
        told = letters if set(letters) <= set("TZYX") else None
        classes = _classes(file)
        calibration = calibration_of(file, told)
    return as_exchanged(values, hints, classes, calibration)


def _mask_axes(letters: str, shape: tuple[int, ...]) -> list[int]:
    """Return the axes of a series that a mask has: not those of one channel."""
    kept = [
        axis
        for axis, (letter, length) in enumerate(zip(letters, shape, strict=True))
        if letter not in "CS" or length > 1
    ]
    if any(letters[axis] in "CS" for axis in kept):
        raise LabelsError(
            f"The file holds an image of several channels (axes {letters}, shape "
            f"{shape}), no mask; give one with a number for each pixel, or save slices "
            "with Z or T as their axis."
        )
    return kept


def _check_size(file: tifffile.TiffFile, size: int) -> None:
    """Refuse a series of which the file has too few bytes to be whole."""
    pages = [page for page in file.series[0].pages if page is not None]
    needed = max(
        (
            offset + count
            for page in pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ),
        default=0,
    )
    if needed > size:
        raise LabelsError(
            f"The file ends after {size:,} of {needed:,} bytes; it is a part of a "
            "file: copy it anew."
        )


def _classes(file: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of the classes in the metadata of OME, where we wrote them."""
    if file.ome_metadata is None:
        return ()
    names: dict[int, str] = {}
    for each in ElementTree.fromstring(file.ome_metadata).iter():
        if each.tag.endswith("}MapAnnotation") and each.get("Namespace") == CLASSES:
            entries = (entry for entry in each.iter() if entry.tag.endswith("}M"))
            names = {int(entry.get("K", "")): entry.text or "" for entry in entries}
    return tuple(names[number] for number in range(len(names)))


def calibration_of(file: tifffile.TiffFile, axes: str | None) -> Calibration:
    """Return the size of a pixel as ImageJ or OME has it.

    Parameters
    ----------
    file : TiffFile
        An open file.
    axes : str or None
        The axes of its first series; None where the file does not tell.
    """
    kept = "".join(letter for letter in axes or "" if letter in "TZYX")
    steps = _ome_steps(file) if file.is_ome else _imagej_steps(file)
    if not kept.endswith("YX") or not {"Y", "X"} <= set(steps):
        return Calibration(kept)
    unknown = (1.0, "pixel")
    scale, units = zip(*(steps.get(axis, unknown) for axis in kept), strict=True)
    return Calibration(kept, scale, units)


def _imagej_steps(file: tifffile.TiffFile) -> Mapping[str, tuple[float, str]]:
    found = file.imagej_metadata or {}
    density = file.pages[0].resolution
    if "unit" not in found or not all(density):
        return {}
    length = _LENGTHS.get(found["unit"], found["unit"])
    return {
        "T": (found.get("finterval", 1.0), "second"),
        "Z": (found.get("spacing", 1.0), length),
        "Y": (1 / density[1], length),
        "X": (1 / density[0], length),
    }


def _ome_steps(file: tifffile.TiffFile) -> Mapping[str, tuple[float, str]]:
    root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    pixels = next((each for each in root.iter() if each.tag.endswith("}Pixels")), None)
    if pixels is None:
        return {}
    steps: dict[str, tuple[float, str]] = {}
    for axis in "XYZ":
        size = pixels.get(f"PhysicalSize{axis}")
        # Micrometres unless the file says otherwise.
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if size is not None:
            steps[axis] = (float(size), _LENGTHS.get(unit, unit))
    if pixels.get("TimeIncrement") is not None:
        unit = pixels.get("TimeIncrementUnit", "s")
        name = "second" if unit == "s" else unit
        steps["T"] = (float(pixels.get("TimeIncrement", "1")), name)
    return steps
