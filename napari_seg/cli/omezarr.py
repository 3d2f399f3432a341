"""OME-Zarr: level 0 of an image, and masks that are written tile by tile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike

from napari_seg.cli.files import Picture
from napari_seg.errors import ImageError, StorageError
from napari_seg.writer import Calibration

__all__ = ["create_mask", "open_zarr"]

_CHUNK = 512
_TYPES = {"T": "time", "Y": "space", "X": "space", "Z": "space"}


def open_zarr(path: Path) -> Picture:
    """Open level 0 of an OME-Zarr, or a bare zarr array; nothing is read yet.

    Raises
    ------
    ImageError
        If there is no image in the folder.
    """
    node: Any = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return Picture(node)
    attributes: dict[str, Any] = node.attrs.asdict()
    # Version 0.5 put everything under one key.
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        raise ImageError(
            f"{path} holds no image at its top (no multiscales); give the .zarr folder "
            "that holds one, such as a well's field of a plate."
        )
    level = scales[0]["datasets"][0]
    array = node[level["path"]]
    axes, units = _axes(scales[0], array.ndim)
    return Picture(array, axes, calibration=_calibration(level, axes, units))


def _axes(scale: Mapping[str, Any], ndim: int) -> tuple[str, dict[str, str]]:
    """Return the axes as letters, and the units of those that have one."""
    # Versions before 0.3 had these five axes and no word on them; 0.3 had names alone.
    found = scale.get("axes") or list("tczyx")[-ndim:]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in found]
    letters = [str(axis["name"]).upper() for axis in axes]
    units = {
        letter: str(axis["unit"])
        for letter, axis in zip(letters, axes, strict=True)
        if axis.get("unit")
    }
    return "".join(letters), units


def _calibration(
    level: Mapping[str, Any], axes: str, units: Mapping[str, str]
) -> Calibration:
    kept = [i for i, letter in enumerate(axes) if letter != "C"]
    steps = next(
        (
            [float(step) for step in change["scale"]]
            for change in level.get("coordinateTransformations", ())
            if change.get("type") == "scale"
        ),
        [1.0] * len(axes),
    )
    return Calibration(
        "".join(axes[i] for i in kept),
        tuple(steps[i] for i in kept),
        tuple(units.get(axes[i], "") for i in kept),
    )


@contextmanager
def create_mask(
    target: Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    calibration: Calibration,
    image: Any,
) -> Iterator[Any]:
    """Give a zarr array to write; the folder appears when it is complete.

    Parameters
    ----------
    target : Path
        Folder to make; one that is there already is replaced.
    shape : sequence of int
        Shape of the mask.
    dtype : dtype
        Its dtype.
    calibration : Calibration
        Meaning of its axes.
    image : zarr array
        The image: the mask has its version of zarr.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        version = image.metadata.zarr_format
        yield _create(part, tuple(shape), np.dtype(dtype), calibration, version)
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}): free some "
            "space, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _create(
    folder: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    calibration: Calibration,
    version: Literal[2, 3],
) -> Any:
    group: Any = zarr.open_group(str(folder), mode="w", zarr_format=version)
    scale = _multiscale(len(shape), calibration)
    group.attrs.update(
        {"multiscales": [{"version": "0.4", **scale}]}
        if version == 2
        else {"ome": {"version": "0.5", "multiscales": [scale]}}
    )
    # Version 2 separates the chunks' numbers by dots unless it is told.
    slash = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=tuple(np.minimum(shape, (*(1,) * (len(shape) - 2), _CHUNK, _CHUNK))),
        **(slash if version == 2 else {}),
    )


def _multiscale(ndim: int, given: Calibration) -> dict[str, Any]:
    known = len(given.axes) == ndim
    letters = given.axes if known else "IQTZYX"[-ndim:]
    units = given.units if known and given.units else ("",) * ndim
    scale = list(given.scale) if known and given.scale else [1.0] * ndim
    axes = [
        {"name": letter.lower()}
        | ({"type": _TYPES[letter]} if letter in _TYPES else {})
        | ({"unit": unit} if unit else {})
        for letter, unit in zip(letters, units, strict=True)
    ]
    change = [{"type": "scale", "scale": scale}]
    return {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": change}],
    }
