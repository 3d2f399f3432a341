"""Images and masks in files: TIFF, PNG, JPEG and OME-Zarr."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from napari_seg.errors import ImageError, InputError
from napari_seg.exchange.tiff import calibration_of
from napari_seg.folders import FORMATS, images_in, is_zarr
from napari_seg.writer import Calibration

__all__ = ["Picture", "find_images", "read_picture"]

#: Larger TIFF files are mapped, not read into memory.
_MAPPED_BYTES = 2**30


@dataclass(frozen=True)
class Picture:
    """An image as its file describes it.

    Attributes
    ----------
    data : array
        NumPy, or zarr for OME-Zarr.
    axes : str or None
        One letter for each axis; None where the file does not tell.
    rgb : bool
        Whether the last axis is known to hold colours.
    calibration : Calibration
        Steps and units of those axes that a mask has, too.
    """

    data: Any
    axes: str | None = None
    rgb: bool = False
    calibration: Calibration = field(default_factory=Calibration)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return all images that are meant by files, folders, OME-Zarrs and plates."""
    found: list[Path] = []
    for path in paths:
        inside = path.is_dir() and not is_zarr(path)
        for each in images_in(path) if inside else [path]:
            found += (
                _images_of_zarr(each) if each.exists() and is_zarr(each) else [each]
            )
    return found


def _images_of_zarr(path: Path) -> list[Path]:
    from napari_seg.cli.omezarr import images_within

    return images_within(path)


def read_picture(path: Path, colours: bool = True) -> Picture:
    """Read an image; an OME-Zarr is opened, and read where it is sliced.

    Parameters
    ----------
    path : Path
        The file, or the folder of an OME-Zarr.
    colours : bool
        Whether a PNG with a colour table gives colours, or the table's indices.

    Raises
    ------
    ImageError
        If there is no such file, or none that can be read.
    """
    if not path.exists():
        raise ImageError(f"There is no file {path}.")
    try:
        if is_zarr(path):
            from napari_seg.cli.omezarr import open_zarr

            return open_zarr(path)
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path)
        with Image.open(path) as image:
            return _from_pillow(image, colours)
    except InputError:
        raise
    except Exception as error:
        # Damaged files make decoders raise whatever they come across.
        raise ImageError(
            f"{path} cannot be read ({str(error) or type(error).__name__}); {FORMATS}."
        ) from error


def _from_pillow(image: Image.Image, colours: bool) -> Picture:
    # Colour tables, CMYK and the like become what a screen would show.
    plain = {"P": "RGB", "PA": "RGBA", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB"}
    if image.mode in plain and (colours or image.mode != "P"):
        image = image.convert(plain[image.mode])
    data = np.asarray(image)
    rgb = data.ndim == 3
    return Picture(data, "YXC" if rgb else "YX", rgb)


def _read_tiff(path: Path) -> Picture:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        large = series.nbytes > _MAPPED_BYTES
        data = series.asarray(out="memmap" if large else None)
        # "Q" and "I" are tifffile's names for axes that the file says nothing about.
        told = set("YX") <= set(series.axes) <= set("TZCYXS")
        axes = series.axes if told else None
        rgb = series.axes.endswith("S")
        return Picture(data, axes, rgb, calibration_of(file, axes))
