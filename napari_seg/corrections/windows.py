"""Vouched regions as training windows: plain TIFF pairs of image and labels.

The plane is divided into square cells, always from its upper left corner, so that a
window keeps its name and place from one run to the next and what is held out stays
held out.  A window shows its cell with context around it, but has labels in its own
cell only: no vouched pixel is in two windows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_seg.corrections.identity import safe_name
from napari_seg.errors import LabelsError, StorageError
from napari_seg.scoring.regions import Box, box_shape, relative
from napari_seg.scoring.tally import UNKNOWN

__all__ = [
    "AS_IT_IS",
    "PixelSize",
    "Window",
    "cut_windows",
    "read_origin",
    "read_pixel_size",
    "read_ranges",
    "read_size",
    "save_windows",
    "window_name",
]

Reader = Callable[[Box], NDArray[Any]]


@dataclass(frozen=True)
class PixelSize:
    """How large the pixels of an image are, for a network and in the world.

    Attributes
    ----------
    zoom : float
        By how much a network sees the image enlarged.
    micrometres : float or None
        Side of a pixel of the image itself, where it is known.
    """

    zoom: float = 1.0
    micrometres: float | None = None


#: Nobody said anything else.
AS_IT_IS = PixelSize()


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image with the labels that the user vouches for.

    Attributes
    ----------
    name : str
        Stable from run to run; also the name of its files.
    box : tuple of slice, (Y, X) or (Z, Y, X)
        Where it lies in the plane or volume.
    image : ndarray, (Y, X) or (Y, X, C), of a volume (Z, Y, X) or (Z, C, Y, X)
        Raw pixels.
    labels : ndarray of uint8, (Y, X) or (Z, Y, X)
        255 where not vouched for, and outside of the window's own cell.
    vouched : int
        Number of labelled pixels.
    ranges : ndarray of float64, (C, 2), or None
        Intensities that become 0 and 1: those of the whole image, which a window
        cannot know.
    size : PixelSize
        In which size to learn from it.
    objects : ndarray of uint32, (Y, X), or None
        Ids of the objects that it shows, 0 for none, where they are known.
    """

    name: str
    box: Box
    image: NDArray[Any]
    labels: NDArray[np.uint8]
    vouched: int
    ranges: NDArray[np.float64] | None = None
    size: PixelSize = AS_IT_IS
    objects: NDArray[np.uint32] | None = None


def cut_windows(
    truth: NDArray[np.uint8],
    reader: Reader,
    name: str,
    index: Sequence[int] = (),
    size: int = 128,
    context: int = 32,
    minimum: int = 64,
    ranges: NDArray[np.float64] | None = None,
    pixel_size: PixelSize | None = None,
    objects: NDArray[np.uint32] | None = None,
) -> list[Window]:
    """Cut the vouched parts of one plane into windows.

    Parameters
    ----------
    truth : ndarray of uint8, (Y, X)
        Labels, 255 where not vouched for, as ``Ledger.truth`` returns them.
    reader : callable
        Takes a box (two slices) of the plane and returns its raw pixels, (Y, X) or
        (Y, X, C).
    name : str
        Name of the image; use the id of its project entry.
    index : sequence of int
        Place of the plane along the leading axes.
    size : int
        Side of a cell in pixels.
    context : int
        Pixels around the cell that the window shows.  At the border of the image
        windows are shifted inwards, so that all have the same shape; only an image
        smaller than a window gives smaller ones.
    minimum : int
        Windows with fewer vouched pixels are left out.
    ranges : ndarray of float64, (C, 2), optional
        Intensities of the whole image that become 0 and 1; saved with each window.
    pixel_size : PixelSize, optional
        In which size to learn from it; saved likewise.
    objects : ndarray of uint32, (Y, X), optional
        Ids of the objects of the plane, 0 for none; saved likewise.

    Returns
    -------
    list of Window
        Row by row.

    Raises
    ------
    LabelsError
        If `truth` is not two-dimensional and uint8.
    """
    if truth.ndim != 2 or truth.dtype != np.uint8:
        raise LabelsError(
            f"The labels of a plane must be (Y, X) and uint8; these are "
            f"{truth.dtype} of shape {truth.shape}."
        )
    windows = []
    for cell in _cells(truth.shape, size):
        vouched = int(np.count_nonzero(truth[cell] != UNKNOWN))
        if vouched < max(1, minimum):
            continue
        box = tuple(
            _surround(own, size + 2 * context, n)
            for own, n in zip(cell, truth.shape, strict=True)
        )
        labels = np.full(box_shape(box), UNKNOWN, np.uint8)
        labels[relative(cell, box)] = truth[cell]
        place = window_name(name, index, cell)
        image = np.asarray(reader(box))
        window = Window(place, box, image, labels, vouched, ranges)
        ids = None if objects is None else objects[box].copy()
        windows.append(replace(window, size=pixel_size or AS_IT_IS, objects=ids))
    return windows


def _cells(shape: tuple[int, ...], size: int) -> Iterator[Box]:
    for y in range(0, shape[0], size):
        for x in range(0, shape[1], size):
            yield slice(y, min(y + size, shape[0])), slice(x, min(x + size, shape[1]))


def _surround(own: slice, length: int, n: int) -> slice:
    """Return a slice of `length` with `own` in its middle, moved inside 0 to n."""
    start = own.start - (length - (own.stop - own.start)) // 2
    start = max(0, min(start, n - length))
    return slice(start, min(n, start + length))


def window_name(name: str, index: Sequence[int], cell: Box) -> str:
    """Return the name of a window.

    Parameters
    ----------
    name : str
        Of the image.
    index : sequence of int
        Place of its plane or volume along the leading axes.
    cell : tuple of slice, (Y, X) or (Z, Y, X)
        Its part of the plane or volume.
    """
    # A safe name holds no double underscore: what stands before it is the image.
    place = "".join(f"i{i:04d}_" for i in index)
    letters = "zyx"[-len(cell) :]
    corner = (f"{a}{b.start:05d}" for a, b in zip(letters, cell, strict=True))
    return f"{safe_name(name)}__{place}{'_'.join(corner)}"


def save_windows(folder: Path, name: str, windows: Iterable[Window]) -> list[Path]:
    """Save windows as ``images/<name>.tif`` and ``labels/<name>.tif``.

    What is known of their objects goes to ``objects/<name>.tif``.  They replace all
    earlier windows of the same image, which are removed only when the new ones are
    written.

    Parameters
    ----------
    folder : Path
        Folder of the training set, made if missing.
    name : str
        Name of the image, as given to :func:`cut_windows`.
    windows : iterable of Window
        All windows of all planes, or volumes, of the image.  Those of an iterator are
        written one by one, and need not fit into memory together.

    Returns
    -------
    list of Path
        The image files.

    Raises
    ------
    StorageError
        If a file cannot be written; the earlier windows are kept then.
    """
    images, labels, objects = (folder / n for n in ("images", "labels", "objects"))
    with _saving_in(folder):
        for place in (images, labels):
            place.mkdir(parents=True, exist_ok=True)
    kept, numbered = [], set()
    # An image that cannot be read is no fault of this disk.
    for window in windows:
        file = f"{window.name}.tif"
        # The channels of a volume are pages, no samples of a pixel.
        samples = window.image.ndim > window.labels.ndim == 2
        with _saving_in(folder):
            _write_tiff(labels / file, window.labels, {})
            _write_tiff(images / file, window.image, _metadata(window), samples)
            if window.objects is not None:
                objects.mkdir(exist_ok=True)
                _write_tiff(objects / file, window.objects, {})
                numbered.add(file)
        kept.append(images / file)
    names = {path.name for path in kept}
    with _saving_in(folder):
        for place, files in ((images, names), (labels, names), (objects, numbered)):
            for path in _windows_of(safe_name(name), place):
                if path.name not in files:
                    path.unlink()
    return kept


@contextmanager
def _saving_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The training windows could not be saved in {folder} ({error}); free "
            "some space and try again."
        ) from error


def _windows_of(name: str, folder: Path) -> list[Path]:
    pattern = re.compile(re.escape(name) + r"__(i\d+_)*(z\d+_)?y\d+_x\d+\.tif")
    return [path for path in folder.glob("*.tif") if pattern.fullmatch(path.name)]


def _metadata(window: Window) -> dict[str, Any]:
    """Return what the pixels of a window do not tell."""
    said: dict[str, Any] = {
        "origin": [part.start for part in window.box],
        "vouched": window.vouched,
    }
    if len(window.box) > 2:
        said["axes"] = "ZYX" if window.image.ndim == 3 else "ZCYX"
    if window.ranges is not None:
        said["ranges"] = window.ranges.tolist()
    if window.size != AS_IT_IS:
        said["pixel_size"] = asdict(window.size)
    return said


def _write_tiff(
    path: Path, pixels: NDArray[Any], metadata: dict[str, Any], samples: bool = False
) -> None:
    partial = path.with_suffix(".partial")
    if samples and pixels.shape[-1] == 1:
        pixels, samples = pixels[..., 0], False
    rgb = samples and pixels.shape[-1] == 3
    try:
        tifffile.imwrite(
            partial,
            np.ascontiguousarray(pixels),
            compression="zlib",
            photometric="rgb" if rgb else "minisblack",
            planarconfig="contig" if samples else None,
            metadata=metadata,
        )
        partial.replace(path)
    except OSError:
        # The error to report is the first one.
        with suppress(OSError):
            partial.unlink()
        raise


def read_ranges(image: Path) -> NDArray[np.float64] | None:
    """Return the intensities that become 0 and 1 in the image of a window.

    Returns
    -------
    ndarray of float64, (C, 2), or None
        None if the file does not say so.
    """
    said = _read_metadata(image).get("ranges")
    return None if said is None else np.array(said, np.float64)


def read_origin(image: Path) -> tuple[str, int, int] | None:
    """Return where the image of a window lies.

    Returns
    -------
    tuple of (str, int, int), or None
        Name of the plane or volume, row and column of the image's corner; None if the
        file does not say so.
    """
    corner = _read_metadata(image).get("origin")
    if corner is None:
        return None
    *_, row, column = (int(each) for each in corner)
    return re.sub(r"(z\d+_)?y\d+_x\d+$", "", image.stem), row, column


def read_size(image: Path) -> tuple[int, int] | None:
    """Return the labelled voxels of a window of a volume, and all of every channel.

    None where the file is no such window.  No pixel is read.
    """
    with tifffile.TiffFile(image) as file:
        said = dict((file.shaped_metadata or ({},))[0])
        if len(said.get("origin", ())) != 3 or "vouched" not in said:
            return None
        return int(said["vouched"]), int(file.series[0].size)


def read_pixel_size(image: Path) -> PixelSize:
    """Return in which size to learn from a window; as it is where nobody said so."""
    return PixelSize(**_read_metadata(image).get("pixel_size", {}))


def _read_metadata(image: Path) -> dict[str, Any]:
    with tifffile.TiffFile(image) as file:
        return dict((file.shaped_metadata or ({},))[0])
