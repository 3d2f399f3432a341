"""The numbers of an image's objects on disk: ``objects.zarr`` beside its mask.

A zarr v3 array of uint32, compressed with zstd.  It is written chunk by chunk after the
fact and may lag behind the mask, which is the truth: whoever opens it compares both
(:func:`napari_seg.objects.follow.reconcile`).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from napari_seg.corrections.arrays import DurableStore
from napari_seg.errors import ProjectError, StorageError

__all__ = ["CHUNK", "FOLDER", "Chunk", "ObjectsFile", "StoredObjects", "chunks_of"]

FOLDER = "objects.zarr"
#: Height and width of a chunk in pixels.
CHUNK = 512
_KEY = "napari-seg"

Chunk: TypeAlias = tuple[int, ...]
"""Place of a chunk: plane, then row and column in chunks."""


@dataclass(frozen=True, eq=False)
class StoredObjects:
    """What is on disk.

    Attributes
    ----------
    ids : (..., Y, X) ndarray of uint32
        Numbers of objects, 0 for none.
    last : int
        The highest number that was ever given.
    """

    ids: NDArray[np.uint32]
    last: int


class ObjectsFile:
    """Reads and writes the objects of one image; any thread may do so.

    Parameters
    ----------
    folder : Path
        Folder of the image in its project.
    shape : tuple of int
        Shape of the mask, (..., Y, X).
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._path = folder / FOLDER
        self._shape = tuple(shape)
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether objects were saved."""
        return (self._path / "zarr.json").exists()

    def load(self) -> StoredObjects | None:
        """Read everything; None if there is nothing, or it was not written to its end.

        Raises
        ------
        ProjectError
            If it cannot be read, or is of another image.
        """
        if not self.exists:
            return None
        try:
            array = self._open("r")
            told = dict(array.attrs[_KEY])
            same = array.shape == self._shape and array.dtype == np.uint32
            if same and told["complete"]:
                return StoredObjects(np.asarray(array[...]), int(told["last"]))
        except Exception as error:  # whatever a garbled file makes its readers raise
            raise ProjectError(
                f"{self._path} cannot be read ({error}). Press Find objects to number "
                "them anew, or restore it from a copy; the mask and its corrections "
                "are not affected."
            ) from error
        if not same:
            raise ProjectError(
                f"{self._path} holds objects of shape {array.shape} ({array.dtype}), "
                f"the mask has {self._shape}. Press Find objects to number them anew; "
                "the mask and its corrections are not affected."
            )
        return None

    def write(
        self, ids: NDArray[np.uint32], last: int, chunks: Collection[Chunk] | None
    ) -> None:
        """Write the objects.

        Parameters
        ----------
        ids : (..., Y, X) ndarray of uint32
            Numbers of objects.
        last : int
            The highest number that was ever given.
        chunks : collection of Chunk or None
            Where numbers differ from what is on disk; None is everywhere, and what is
            there is replaced.

        Raises
        ------
        StorageError
            If that fails.
        """
        with self._lock:
            try:
                if chunks is None:
                    self._write_all(ids, last)
                else:
                    self._write_some(ids, last, chunks)
            except OSError as error:
                raise StorageError(
                    f"The objects cannot be saved in {self._path} ({error}); free some "
                    "space or check the disk. They are tried again with the next edit."
                ) from error

    def remove(self) -> None:
        """Have nothing on disk any more.

        Raises
        ------
        StorageError
            If that fails.
        """
        with self._lock:
            try:
                if self._path.exists():
                    shutil.rmtree(self._path)
            except OSError as error:
                raise StorageError(
                    f"{self._path} cannot be removed ({error}); close what uses it, or "
                    "its objects come back when the image is opened again."
                ) from error

    def _write_all(self, ids: NDArray[np.uint32], last: int) -> None:
        sides = tuple(min(CHUNK, n) for n in self._shape[-2:])
        array = zarr.create_array(
            DurableStore(self._path),
            shape=self._shape,
            chunks=(1,) * (len(self._shape) - 2) + sides,
            dtype="uint32",
            fill_value=0,
            compressors=ZstdCodec(level=1, checksum=True),
            attributes=_told(last, complete=False),
            overwrite=True,
        )
        _put(array, ids, _all_chunks(self._shape))
        # Of old and new numbers mixed nobody could make sense.
        array.update_attributes(_told(last, complete=True))

    def _write_some(
        self, ids: NDArray[np.uint32], last: int, chunks: Collection[Chunk]
    ) -> None:
        array = self._open("r+")
        told = dict(array.attrs[_KEY])
        # First, so that no number of a chunk is above it.
        if told["last"] != last:
            array.update_attributes(_told(last, told["complete"]))
        _put(array, ids, chunks)

    def _open(self, mode: Any) -> Any:
        return zarr.open_array(
            DurableStore(self._path, read_only=mode == "r"), mode=mode
        )


def _told(last: int, complete: bool) -> dict[str, Any]:
    return {_KEY: {"format": 1, "last": last, "complete": complete}}


def _all_chunks(shape: tuple[int, ...]) -> list[Chunk]:
    counts = (*shape[:-2], *(-(-n // CHUNK) for n in shape[-2:]))
    return list(product(*map(range, counts)))


def _put(array: Any, ids: NDArray[np.uint32], chunks: Collection[Chunk]) -> None:
    for *plane, row, column in chunks:
        box = (
            *(slice(i, i + 1) for i in plane),
            slice(row * CHUNK, (row + 1) * CHUNK),
            slice(column * CHUNK, (column + 1) * CHUNK),
        )
        array[box] = ids[box]


def chunks_of(where: NDArray[np.int64], shape: tuple[int, ...]) -> set[Chunk]:
    """Return the chunks in which pixels lie.

    Parameters
    ----------
    where : (N,) ndarray of int64
        Places in the flattened array.
    shape : tuple of int
        Of the array.
    """
    *plane, rows, columns = np.unravel_index(where, shape)
    places = np.stack([*plane, rows // CHUNK, columns // CHUNK], axis=1)
    return {tuple(each) for each in np.unique(places, axis=0).tolist()}
