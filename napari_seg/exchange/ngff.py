"""What OME-Zarr says of images and masks, in its versions 0.4 and 0.5.

Version 0.4 lies in zarr version 2, 0.5 in zarr version 3
(https://ngff.openmicroscopy.org/specifications/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike

from napari_seg.errors import InputError
from napari_seg.writer import Calibration

__all__ = [
    "axes_of",
    "calibration_of",
    "create_level",
    "describe",
    "described",
    "first_multiscale",
    "multiscale",
    "open_group",
]

_TYPES = {"T": "time", "Y": "space", "X": "space", "Z": "space"}


def open_group(folder: Path) -> Any:
    """Open a group of an OME-Zarr to read it."""
    # The summary of a group's metadata may be older than the labels in it.
    return zarr.open_group(str(folder), mode="r", use_consolidated=False)


def first_multiscale(group: Any, folder: Path) -> dict[str, Any]:
    """Return the description of a group's levels.

    Raises
    ------
    InputError
        If it has none.
    """
    scales = described(group).get("multiscales")
    if not isinstance(scales, list) or not scales or not isinstance(scales[0], dict):
        raise InputError(
            f"{folder} holds no image (no multiscales); give an OME-Zarr image, its "
            "labels, or a folder inside of a plate."
        )
    return dict(scales[0])


def described(node: Any) -> dict[str, Any]:
    """Return what OME-Zarr says of a group."""
    attributes: dict[str, Any] = node.attrs.asdict()
    # Version 0.5 put everything under one key.
    told: dict[str, Any] = attributes.get("ome", attributes)
    return told


def describe(group: Any, told: Mapping[str, Any]) -> None:
    """Write what OME-Zarr says of a group, as its version of zarr has it."""
    if group.metadata.zarr_format == 3:
        group.attrs.update({"ome": {"version": "0.5", **told}})
        return
    older = dict(told)
    if "multiscales" in told:
        older["multiscales"] = [
            {"version": "0.4", **one} for one in told["multiscales"]
        ]
    if "image-label" in told:
        older["image-label"] = {"version": "0.4", **told["image-label"]}
    group.attrs.update(older)


def axes_of(scale: Mapping[str, Any], ndim: int) -> tuple[str, dict[str, str]]:
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


def calibration_of(
    level: Mapping[str, Any], axes: str, units: Mapping[str, str]
) -> Calibration:
    """Return the steps of a level along all axes but that of channels."""
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


def multiscale(
    ndim: int,
    given: Calibration,
    levels: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Return the description of the levels of an array.

    Parameters
    ----------
    ndim : int
        Axes of the array.
    given : Calibration
        Their meaning.
    levels : mapping of str to sequence of float, optional
        Path of each level, and how many pixels of the first one are one of its pixels
        along each axis; by default one level "0".
    """
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
    return {
        "axes": axes,
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": [
                            step * factor
                            for step, factor in zip(scale, factors, strict=True)
                        ],
                    }
                ],
            }
            for path, factors in (levels or {"0": [1.0] * ndim}).items()
        ],
    }


def create_level(
    group: Any,
    path: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    axes: Sequence[Mapping[str, Any]],
    chunk: tuple[int, int],
) -> Any:
    """Make an array of zeros in a group, with chunks of one plane.

    Parameters
    ----------
    group : zarr.Group
        Where.
    path : str
        Name of the array.
    shape, dtype
        Of the array.
    axes : sequence of mapping
        As :func:`multiscale` describes them.
    chunk : tuple of int
        Height and width of a chunk.
    """
    leading = (1,) * (len(shape) - 2)
    if group.metadata.zarr_format == 2:
        # Version 2 separates the chunks' numbers by dots unless it is told.
        more: dict[str, Any] = {
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    else:
        # Version 0.5 wants the names of the axes in the array, too.
        more = {"dimension_names": [axis["name"] for axis in axes]}
    return group.create_array(
        path,
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=tuple(np.minimum(shape, (*leading, *chunk)).tolist()),
        **more,
    )
