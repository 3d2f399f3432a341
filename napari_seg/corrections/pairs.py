"""Training windows read back: TIFF pairs of image and labels, paired by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_seg.errors import InputError, LabelsError

__all__ = ["read_pairs", "read_ranges"]


def read_pairs(
    images: Path, labels: Path
) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Read all pairs of images and labels of the same file name.

    Parameters
    ----------
    images, labels : Path
        Folders of ``.tif`` files; other files are passed over.

    Returns
    -------
    list of (name, image, labels)
        In the order of the names; images (Y, X) or (Y, X, C), labels (Y, X) of an
        integer dtype.

    Raises
    ------
    InputError
        If a folder is missing or empty, a file has no partner, or cannot be read.
    LabelsError
        If labels are not integers, or of another shape than the image.
    """
    image_files, label_files = _files(images), _files(labels)
    lonely = sorted(image_files.keys() ^ label_files.keys())
    if lonely:
        missing, folder = (
            ("labels", labels) if lonely[0] in image_files else ("image", images)
        )
        raise InputError(
            f"{lonely[0]} has no {missing} in {folder} ({len(lonely)} without a "
            "partner in all); every image needs labels of the same name."
        )
    return [
        (name, *_pair(image_files[name], label_files[name])) for name in label_files
    ]


def read_ranges(image: Path) -> NDArray[np.float64] | None:
    """Return the intensities that become 0 and 1 in the image of a window.

    Returns
    -------
    ndarray of float64, (C, 2), or None
        None if the file does not say so.
    """
    with tifffile.TiffFile(image) as file:
        said = (file.shaped_metadata or ({},))[0].get("ranges")
    return None if said is None else np.array(said, np.float64)


def _files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for path in sorted(Path(folder).glob("*.tif*"))}
    if not files:
        raise InputError(
            f"{folder} holds no TIFF file, or is no folder; save training windows "
            "there first."
        )
    return files


def _pair(image: Path, labels: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    pixels, ids = _read(image), _read(labels)
    if ids.dtype.kind not in "biu":
        raise LabelsError(
            f"{labels} holds {ids.dtype}; labels must be integers, one id per class "
            "and 255 for unknown."
        )
    if ids.shape != pixels.shape[:2]:
        raise LabelsError(
            f"{labels} has shape {ids.shape}, its image {pixels.shape}; both must "
            "show the same pixels."
        )
    return pixels, ids


def _read(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(tifffile.imread(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TIFF ({error}).") from error
