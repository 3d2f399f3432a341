"""OME-Zarr: plates, level 0 of an image, and masks that are written tile by tile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zarr
from numpy.typing import DTypeLike

from napari_seg.cli.files import Picture
from napari_seg.errors import ImageError, StorageError
from napari_seg.exchange.ngff import (
    axes_of,
    calibration_of,
    create_level,
    describe,
    described,
    multiscale,
)
from napari_seg.folders import zarr_root
from napari_seg.writer import Calibration

__all__ = [
    "MaskFolder",
    "create_mask",
    "images_within",
    "open_zarr",
]


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
    scales = described(node).get("multiscales")
    if not scales:
        raise ImageError(
            f"{path} holds no image (no multiscales); give an OME-Zarr image or plate, "
            "or a folder inside of one."
        )
    level = scales[0]["datasets"][0]
    array = node[level["path"]]
    axes, units = axes_of(scales[0], array.ndim)
    return Picture(array, axes, calibration=calibration_of(level, axes, units))


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
    told = described(node)
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
        group: Any = zarr.open_group(str(self.part), mode="w", zarr_format=version)
        scale = multiscale(len(shape), calibration)
        describe(group, {"multiscales": [scale]})
        return create_level(group, "0", shape, dtype, scale["axes"], chunk)

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
