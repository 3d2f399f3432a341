"""OME-Zarr: plates, level 0 of an image, and masks that are written tile by tile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike

from napari_seg.cli.files import Picture
from napari_seg.errors import ImageError, StorageError
from napari_seg.folders import zarr_root
from napari_seg.writer import Calibration

__all__ = [
    "MaskFolder",
    "create_mask",
    "images_within",
    "open_zarr",
]

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
    scales = _described(node).get("multiscales")
    if not scales:
        raise ImageError(
            f"{path} holds no image (no multiscales); give an OME-Zarr image or plate, "
            "or a folder inside of one."
        )
    level = scales[0]["datasets"][0]
    array = node[level["path"]]
    axes, units = _axes(scales[0], array.ndim)
    return Picture(array, axes, calibration=_calibration(level, axes, units))


def images_within(path: Path) -> list[Path]:
    """Return the images of an OME-Zarr: itself, or those of a plate, well or series.

    Parameters
    ----------
    path : Path
        An image, a plate of wells of fields (HCS), a well, or what bioformats2raw
        makes of a file with several images.

    Returns
    -------
    list of Path
        `path` alone where nothing else is known of it; opening it tells what is wrong.
    """
    try:
        node: Any = zarr.open(str(path), mode="r")
    except Exception:  # noqa: BLE001 - whoever opens the image says what is wrong
        return [path]
    if isinstance(node, zarr.Array):
        return [path]
    told = _described(node)
    if "multiscales" in told:
        return [path]
    if "plate" in told:
        inner = [well["path"] for well in told["plate"].get("wells", ())]
    elif "well" in told:
        inner = [field["path"] for field in told["well"].get("images", ())]
    elif "bioformats2raw.layout" in told:
        inner = sorted((key for key in node if key.isdecimal()), key=int)
    else:
        inner = []
    found = [image for each in inner for image in images_within(path / each)]
    return found or [path]


def _described(node: Any) -> dict[str, Any]:
    """Return what OME-Zarr says of a group."""
    attributes: dict[str, Any] = node.attrs.asdict()
    # Version 0.5 put everything under one key.
    told: dict[str, Any] = attributes.get("ome", attributes)
    return told


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


@dataclass(frozen=True)
class MaskFolder:
    """An OME-Zarr of one level that grows beside its place, and is then put there.

    Attributes
    ----------
    target : Path
        Where it will be; what is there already is replaced.
    part : Path
        Where it is until then.
    """

    target: Path
    part: Path

    @property
    def level(self) -> Path:
        """The folder of the array while it grows."""
        return self.part / "0"

    def create(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        calibration: Calibration,
        version: Literal[2, 3],
        chunk: tuple[int, int],
    ) -> Any:
        """Return an array of zeros to write.

        Parameters
        ----------
        shape, dtype
            Of the mask.
        calibration : Calibration
            Meaning of its axes.
        version : int
            Version of zarr's format.
        chunk : tuple of int
            Height and width of a chunk.
        """
        leading = (1,) * (len(shape) - 2)
        group: Any = zarr.open_group(str(self.part), mode="w", zarr_format=version)
        _describe(group, {"multiscales": [_multiscale(len(shape), calibration)]})
        # Version 2 separates the chunks' numbers by dots unless it is told.
        slash = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        return group.create_array(
            "0",
            shape=tuple(shape),
            dtype=np.dtype(dtype),
            chunks=tuple(np.minimum(shape, (*leading, *chunk)).tolist()),
            **(slash if version == 2 else {}),
        )

    def put_in_place(self, image: Path) -> None:
        """Move the finished mask to its place.

        Parameters
        ----------
        image : Path
            The image. Where it lies in a plate, so does its mask, and what is said of
            plate and well is copied.
        """
        if self.target.exists():
            shutil.rmtree(self.target)
        os.replace(self.part, self.target)
        root = zarr_root(image)
        for source, above in zip(image.parents, self.target.parents, strict=False):
            if root not in (source, *source.parents):
                break
            _copy_description(source, above)


def _copy_description(source: Path, target: Path) -> None:
    """Make `target` a group of which the same is said, unless it is one."""
    if _is_group(target) or not _is_group(source):
        return
    node: Any = zarr.open_group(str(source), mode="r")
    group: Any = zarr.open_group(
        str(target), mode="a", zarr_format=node.metadata.zarr_format
    )
    group.attrs.update(node.attrs.asdict())


def _is_group(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup"))


@contextmanager
def create_mask(
    target: Path,
    image: Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    calibration: Calibration,
    version: Literal[2, 3],
    chunk: tuple[int, int],
) -> Iterator[Any]:
    """Give a zarr array to write; the folder appears when it is complete.

    Parameters
    ----------
    target : Path
        Folder to make; one that is there already is replaced.
    image : Path
        The image.
    shape, dtype, calibration, version, chunk
        As for :meth:`MaskFolder.create`.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    folder = MaskFolder(target, part)
    with storage_errors(target):
        try:
            yield folder.create(shape, dtype, calibration, version, chunk)
            folder.put_in_place(image)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Say what could not be written.

    Raises
    ------
    StorageError
        Instead of an OSError.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}): free some "
            "space, or choose another folder."
        ) from error


def _describe(group: Any, told: dict[str, Any]) -> None:
    """Write what OME-Zarr says of a group, as its version of zarr has it."""
    if group.metadata.zarr_format == 3:
        group.attrs.update({"ome": {"version": "0.5", **told}})
        return
    scales = [{"version": "0.4", **scale} for scale in told["multiscales"]]
    group.attrs.update({"multiscales": scales})


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
