"""The arrays of a mask on disk: a zarr v3 group, written chunk by chunk.

Any zarr reader opens them.  Each chunk is written whole or not at all, and is durable
when writing returns.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from napari_seg.corrections.change import Pixels
from napari_seg.corrections.durable import make_folder, sync_folder, write_atomically
from napari_seg.corrections.records import arrays_of
from napari_seg.errors import ProjectError
from napari_seg.scoring.regions import Box, box_shape, intersection, relative
from napari_seg.scoring.tally import UNKNOWN

__all__ = [
    "ChunkWriter",
    "DurableStore",
    "MaskArrays",
    "create_arrays",
    "open_arrays",
    "read_arrays",
    "remove_leftovers",
]

MaskArrays: TypeAlias = dict[str, Any]
"""The zarr arrays `labels`, `reference` and `state`, by name."""

_Key: TypeAlias = tuple[str, tuple[int, ...]]
_CHUNK = 512
_EMPTY = {"labels": 0, "reference": UNKNOWN, "state": 0}
_READERS = 4
"""Threads that decode chunks: they wait for the disk in turns."""


def open_arrays(path: Path, shape: tuple[int, ...], read_only: bool) -> MaskArrays:
    """Open the arrays at `path`.

    Raises
    ------
    ProjectError
        If they cannot be read as such, or have another shape.
    """
    try:
        store = DurableStore(path, read_only=read_only)
        group = zarr.open_group(store, mode="r" if read_only else "r+")
        arrays: MaskArrays = {name: group[name] for name in _EMPTY}
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise ProjectError(
            f"{path} is no readable mask store ({error}). Restore it from a copy, or "
            "move it away to start the corrections of this image anew."
        ) from error
    if any(array.shape != shape for array in arrays.values()):
        raise ProjectError(
            f"{path} holds a mask of shape {arrays['labels'].shape}, the image needs "
            f"{shape}; it belongs to another image. Open the image in a project of "
            "its own."
        )
    return arrays


def create_arrays(path: Path, shape: tuple[int, ...]) -> MaskArrays:
    """Make the arrays of a new mask: background everywhere, nothing predicted."""
    chunks = (1,) * (len(shape) - 2) + tuple(min(_CHUNK, n) for n in shape[-2:])
    arrays: MaskArrays = {}
    group = zarr.create_group(DurableStore(path), overwrite=True)
    group.attrs["napari-seg"] = {
        "labels": "class ids; 255 is unknown",
        "reference": "what the model predicted; 255 is nothing yet",
        "state": "0 untouched, 1 corrected, 2 accepted, 3 both",
    }
    for name, value in _EMPTY.items():
        arrays[name] = group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype="uint8",
            fill_value=value,
            # A chunk that the disk has garbled is not taken for a mask.
            compressors=ZstdCodec(level=1, checksum=True),
        )
    return arrays


def read_arrays(arrays: MaskArrays) -> dict[str, NDArray[np.uint8]]:
    """Read all pixels of all arrays, by name.

    Raises
    ------
    ProjectError
        If a chunk is damaged.
    """
    # zarr takes 0.5 ms for each chunk, most of it to hand it from thread to thread.
    with ThreadPoolExecutor(_READERS) as pool:
        return {
            name: _read_chunks(array, pool)
            if _is_plain(array)
            else np.asarray(array[...])
            for name, array in arrays.items()
        }


def _is_plain(array: Any) -> bool:
    """Whether each chunk is one file of one zstd stream, as we write them."""
    codecs = [codec.to_dict()["name"] for codec in array.metadata.codecs]
    local = isinstance(array.store, LocalStore)
    return local and codecs == ["bytes", "zstd"] and array.dtype == np.uint8


def _read_chunks(array: Any, pool: ThreadPoolExecutor) -> NDArray[np.uint8]:
    # Memory that nobody has written to is zero, and costs nothing until then.
    whole = np.zeros(array.shape, np.uint8)
    folder = Path(array.store.root) / array.path

    def read(chunk: tuple[int, ...]) -> None:
        starts = [i * n for i, n in zip(chunk, array.chunks, strict=True)]
        target = whole[
            tuple(slice(i, i + n) for i, n in zip(starts, array.chunks, strict=True))
        ]
        path = folder / array.metadata.encode_chunk_key(chunk)
        try:
            pixels = np.frombuffer(Zstd().decode(path.read_bytes()), np.uint8)
            pixels = pixels.reshape(array.chunks)
        except FileNotFoundError:
            if array.fill_value:
                target[...] = array.fill_value
        except (ValueError, RuntimeError) as error:
            raise ProjectError(
                f"{path} is damaged ({error}). Restore it from a copy, or move it "
                "away: its part of the mask is empty then, but for the corrections "
                "in the journal."
            ) from error
        else:
            # Chunks at the border are larger than what is left of the array.
            target[...] = pixels[tuple(slice(0, n) for n in target.shape)]

    for _ in pool.map(read, product(*map(range, array.cdata_shape))):
        pass
    return whole


def remove_leftovers(arrays: MaskArrays) -> None:
    """Remove chunks that a program which was killed had begun to write."""
    for array in arrays.values():
        for path in (Path(array.store.root) / array.path).rglob("*.partial"):
            if f".{os.getpid()}." not in path.name:
                with suppress(OSError):
                    path.unlink()


class ChunkWriter:
    """Chunks being changed: each is read and written once, not once per stroke.

    Parameters
    ----------
    arrays : dict of zarr arrays
        Where the chunks lie.
    limit : int
        Chunks kept in memory; beyond it the one unused for longest is written.
    """

    def __init__(self, arrays: MaskArrays, limit: int = 48) -> None:
        self._arrays = arrays
        self._limit = limit
        self._open: OrderedDict[_Key, NDArray[np.uint8]] = OrderedDict()

    def apply(self, region: Box, after: Pixels) -> None:
        """Set the pixels of a box."""
        for name, values in arrays_of(after):
            for key in self._meeting(name, region):
                chunk = self._box(key)
                both = intersection(chunk, region)
                if both is not None:
                    target = self._pixels(key, read=both != chunk)
                    target[relative(both, chunk)] = values[relative(both, region)]

    def _meeting(self, name: str, box: Box) -> Iterator[_Key]:
        starts = [
            range(s.start - s.start % size, s.stop, size)
            for s, size in zip(box, self._arrays[name].chunks, strict=True)
        ]
        return ((name, corner) for corner in product(*starts))

    def _box(self, key: _Key) -> Box:
        array = self._arrays[key[0]]
        ends = zip(key[1], array.chunks, array.shape, strict=True)
        return tuple(slice(i, min(i + size, n)) for i, size, n in ends)

    def _pixels(self, key: _Key, read: bool) -> NDArray[np.uint8]:
        if key not in self._open:
            if len(self._open) >= self._limit:
                self._write_one()
            array, box = self._arrays[key[0]], self._box(key)
            new = np.array(array[box]) if read else np.empty(box_shape(box), np.uint8)
            self._open[key] = new
        self._open.move_to_end(key)
        return self._open[key]

    def write(self) -> Iterator[None]:
        """Write what is left, one chunk a step."""
        while self._open:
            self._write_one()
            yield

    def _write_one(self) -> None:
        key = next(iter(self._open))
        self._arrays[key[0]][self._box(key)] = self._open[key]
        del self._open[key]


class DurableStore(LocalStore):
    """A local store whose writes are atomic and flushed to disk."""

    async def set(self, key: str, value: Any) -> None:
        """Write a file, whole or not at all."""
        path = self.root / key

        def write() -> None:
            make_folder(path.parent)
            write_atomically(path, value.to_bytes())

        await asyncio.to_thread(write)

    async def delete(self, key: str) -> None:
        """Remove a file for good."""
        # A chunk that became empty has no file; the old one must not come back.
        await super().delete(key)
        folder = (self.root / key).parent
        if folder.is_dir():
            await asyncio.to_thread(sync_folder, folder)
