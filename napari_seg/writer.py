"""Mask → TIFF: small, readable by ImageJ where possible, never half written.

The command line and the dock write masks with :func:`write_mask`; napari calls
:func:`write_masks` for "Save Selected Layers".
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from napari_seg.errors import LabelsError, StorageError

__all__ = ["Calibration", "replacing", "write_mask", "write_masks"]

# ImageJ's hyperstacks have 8- or 16-bit samples, and its reader signed 32-bit offsets.
_IMAGEJ_DTYPES = ("uint8", "uint16")
_IMAGEJ_BYTES = 2**31
_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX"}
_METRES = {"nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3, "meter": 1.0}


@dataclass(frozen=True)
class Calibration:
    """The physical meaning of a mask's axes.

    Attributes
    ----------
    axes : str
        One letter for each axis of the mask, such as "TZYX"; an empty string means
        YX, ZYX or TZYX by the number of axes.
    scale : tuple of float
        Step along each axis, in the unit of that axis; empty where unknown.
    units : tuple of str
        Name of each axis' unit, such as "micrometer"; empty where unknown.
    """

    axes: str = ""
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    def micrometres(self, axis: str) -> float | None:
        """Return the step along an axis of space in micrometres, where it is known."""
        index = self.axes.find(axis)
        if not 0 <= index < min(len(self.scale), len(self.units)):
            return None
        metres = _METRES.get(self.units[index])
        return None if metres is None else self.scale[index] * metres / 1e-6

    @classmethod
    def of_layer(cls, meta: Mapping[str, Any]) -> Calibration:
        """Read axes, scale and units off the attributes of a napari layer."""
        names = [str(name).upper() for name in meta.get("axis_labels") or ()]
        letters = "".join(names) if all(name in "TZYX" for name in names) else ""
        scale = meta.get("scale")
        steps = () if scale is None else tuple(float(step) for step in scale)
        units = tuple(str(unit) for unit in meta.get("units") or ())
        return cls(letters, steps, units)


def write_masks(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write one Labels layer; napari calls it as a writer of single layers.

    Parameters
    ----------
    path : str
        File to write; a suffix other than .tif and .tiff gets .tif appended.
    data : (..., Y, X) array of integers
        The layer's data.
    meta : mapping
        The layer's attributes; of these, scale, units and axis labels are kept.

    Returns
    -------
    list of str
        The file written.

    Raises
    ------
    LabelsError
        If `data` is no mask.
    StorageError
        If the file cannot be written.
    """
    return [str(write_mask(path, data, Calibration.of_layer(meta)))]


def write_mask(
    path: str | os.PathLike[str],
    labels: npt.ArrayLike,
    calibration: Calibration | None = None,
    ome: Mapping[str, Any] | None = None,
) -> Path:
    """Write a mask as zlib-compressed TIFF.

    8- and 16-bit masks of up to four axes become ImageJ hyperstacks, wider ones
    OME-TIFF.  A mask of more axes is written as a plain TIFF with its shape.  A file
    that is already there is replaced only when the new one is complete.

    Parameters
    ----------
    path : path-like
        File to write; a suffix other than .tif and .tiff gets .tif appended.
    labels : (..., Y, X) array of integers or bool
        Ids of classes or objects, at least 0.  Signed integers are written in the
        smallest unsigned type that holds them.
    calibration : Calibration, optional
        Axes, scale and units to write beside the mask.
    ome : mapping, optional
        Write OME-TIFF also where ImageJ could read a hyperstack, and this into its
        metadata, as tifffile takes it.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    LabelsError
        If `labels` is no mask, or one of more axes than OME-TIFF can name.
    StorageError
        If the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".tif", ".tiff"):
        target = target.with_name(target.name + ".tif")
    mask = _unsigned(np.asarray(labels))
    options = _tiff_options(mask, calibration or Calibration(), ome)
    with replacing(target) as part, part.open("wb") as file:
        _write(file, mask, options)
    return target


def _unsigned(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mask in an unsigned type of at most 32 bits."""
    if labels.ndim < 2 or labels.size == 0:
        raise LabelsError(
            f"An array of shape {labels.shape} is no mask; a mask has at least the "
            "axes Y and X and is not empty."
        )
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise LabelsError(
            f"Values of type {labels.dtype} are no class ids; convert the mask to "
            "integers first."
        )
    if labels.dtype.name in (*_IMAGEJ_DTYPES, "uint32"):
        return labels
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= 2**32:
        raise LabelsError(
            f"The mask's ids run from {low} to {high}; a TIFF mask can hold "
            f"0 to {2**32 - 1}."
        )
    return labels.astype(np.min_scalar_type(high))


def _tiff_options(
    mask: npt.NDArray[Any], given: Calibration, ome: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what tifffile needs to know to write `mask`."""
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack"}
    axes = given.axes if _fits(given.axes, mask.ndim) else _DEFAULT_AXES.get(mask.ndim)
    scale = given.scale if len(given.scale) == mask.ndim else ()
    units = given.units if len(given.units) == mask.ndim else ()
    if axes is None and ome is not None:
        raise LabelsError(
            f"A mask of {mask.ndim} axes is none for OME-TIFF, which takes up to four, "
            "T, Z, Y and X; write a plain TIFF."
        )
    if axes is None:
        return options | {"metadata": _plain_metadata(scale, units)}
    steps = {
        axis: (step, unit)
        for axis, step, unit in zip(
            axes, scale, units or ("pixel",) * mask.ndim, strict=False
        )
        if step > 0 and math.isfinite(step)
    }
    fits_imagej = mask.dtype.name in _IMAGEJ_DTYPES and mask.nbytes < _IMAGEJ_BYTES
    if fits_imagej and ome is None:
        options |= _imagej_options(axes, steps)
        options["metadata"] |= _plain_metadata(scale, units)
        return options
    metadata = {"axes": axes, **_ome_steps(steps), **(ome or {})}
    return options | {"ome": True, "metadata": metadata}


def _fits(axes: str, ndim: int) -> bool:
    """Tell whether `axes` names `ndim` different axes in the order that TIFF keeps."""
    return len(axes) == ndim and axes in ("YX", "ZYX", "TYX", "TZYX")


def _plain_metadata(scale: Sequence[float], units: Sequence[str]) -> dict[str, str]:
    """Return scale and units of all axes in words: no format has room for each."""
    metadata = {}
    if scale:
        metadata["scale"] = " ".join(f"{step:.17g}" for step in scale)
    if units:
        metadata["units"] = " ".join(units)
    return metadata


def _imagej_options(axes: str, steps: Mapping[str, tuple[float, str]]) -> Any:
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if "X" in steps and "Y" in steps:
        options["resolution"] = (1 / steps["X"][0], 1 / steps["Y"][0])
        # ImageJ has one unit for all axes of space, and its own name for this one.
        unit = steps["X"][1]
        metadata["unit"] = "um" if unit == "micrometer" else unit
    if "Z" in steps:
        metadata["spacing"] = steps["Z"][0]
    if "T" in steps:
        metadata["finterval"] = steps["T"][0]
    return options


def _ome_steps(steps: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """Return the physical pixel sizes of OME, in micrometres where known."""
    metadata: dict[str, Any] = {}
    for axis, (step, unit) in steps.items():
        if axis == "T":
            metadata["TimeIncrement"] = step
        elif unit in _METRES:
            metadata[f"PhysicalSize{axis}"] = step * _METRES[unit] / 1e-6
            metadata[f"PhysicalSize{axis}Unit"] = "µm"
        else:
            metadata[f"PhysicalSize{axis}"] = step
            metadata[f"PhysicalSize{axis}Unit"] = "pixel"
    return metadata


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a file beside `target` to write; at the end it takes its place in one step.

    Parameters
    ----------
    target : Path
        File to make; one that is there already is kept until the new one is complete.

    Yields
    ------
    Path
        Name of the file to write, or to leave out to change nothing.

    Raises
    ------
    StorageError
        If it cannot be written; the message says why and what to do.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        if part.exists():
            os.replace(part, target)
    except StorageError:
        # Of a file within whose time this one was written, too.
        raise
    except OSError as error:
        raise StorageError(_reason(error, target)) from error
    finally:
        # The error to report is the first one.
        with suppress(OSError):
            part.unlink()


def _write(file: BinaryIO, mask: npt.NDArray[Any], options: dict[str, Any]) -> None:
    tifffile.imwrite(file, mask, **options)
    file.flush()
    os.fsync(file.fileno())


def _reason(error: OSError, target: Path) -> str:
    folder = target.parent.resolve()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space left in {folder}: free some, or save {target.name} elsewhere."
    if error.errno == errno.ENOENT:
        return f"There is no folder {folder}: make it, or save {target.name} elsewhere."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{folder} may not be written to: save {target.name} elsewhere."
    why = error.strerror or str(error)
    return f"{target} could not be written ({why}): try again, or save it elsewhere."
