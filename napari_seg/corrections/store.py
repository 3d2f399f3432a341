"""One image's mask, reference and flags on disk.

The folder of an image holds ``mask.zarr``, a zarr v3 group with the arrays `labels`,
`reference` and `state`, and ``journal``, the changes that the arrays lack.  Opening
reads the arrays and replays the journal; compaction takes the journal over into the
arrays in the background, from the files alone, so it meets nobody's arrays in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.arrays import (
    ChunkWriter,
    MaskArrays,
    create_arrays,
    open_arrays,
    read_arrays,
    remove_leftovers,
)
from napari_seg.corrections.change import Change
from napari_seg.corrections.journal import ErrorListener, Journal
from napari_seg.corrections.records import (
    Record,
    StoredRecord,
    arrays_of,
    read_after,
    stored_records,
)
from napari_seg.corrections.segments import all_segments, finish, number, segments
from napari_seg.errors import StorageError

__all__ = ["ImageStore", "StoredMask"]

_LOG = logging.getLogger(__name__)
_LONG_JOURNAL = 4 << 20
"""Bytes of journal that start a compaction: they cost about 0.5 s at reopening."""
_MANY_RECORDS = 256
"""Records replayed at opening that start a compaction."""
_HISTORY_BYTES = 64 << 20
_SETTLE_SECONDS = 5.0
"""After opening, compaction waits: the user wants the processor for other things."""


@dataclass(frozen=True, eq=False)
class StoredMask:
    """What a store holds, in memory.

    Attributes
    ----------
    labels, reference, state : ndarray of uint8, (..., Y, X)
        As :class:`napari_seg.corrections.ledger.Ledger` takes them.
    """

    labels: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    state: NDArray[np.uint8]


class ImageStore:
    """The mask of one image on disk, and the journal of its changes.

    Parameters
    ----------
    folder : Path
        Folder of the image; it is made if missing, unless read-only.
    shape : tuple of int
        Shape of the mask, (..., Y, X).
    read_only : bool
        Nothing is written, and :meth:`append` is refused.
    on_error : callable, optional
        Called with a StorageError, on another thread, when saving starts to fail.

    Raises
    ------
    ProjectError
        If the folder holds a mask of another shape, or none that can be read.
    StorageError
        If the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        read_only: bool = False,
        on_error: ErrorListener | None = None,
    ) -> None:
        self.folder = folder
        self.shape = tuple(shape)
        self._on_error = on_error
        self._compacting = threading.Lock()
        self._closing = threading.Event()
        self._journal: Journal | None = None
        try:
            self._arrays = self._open(read_only)
            if not read_only:
                self._journal = Journal(self._journal_folder, on_error)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be used to save corrections ({error}); choose a "
                "project folder that you may write to."
            ) from error

    @property
    def _journal_folder(self) -> Path:
        return self.folder / "journal"

    def _open(self, read_only: bool) -> MaskArrays:
        path = self.folder / "mask.zarr"
        # The journal's folder is made after the arrays: without it they may be half.
        if read_only or self._journal_folder.exists():
            return open_arrays(path, self.shape, read_only)
        return create_arrays(path, self.shape)

    @property
    def read_only(self) -> bool:
        """Whether nothing is written."""
        return self._journal is None

    @property
    def pending(self) -> int:
        """Number of changes that are not on disk yet."""
        return 0 if self._journal is None else self._journal.pending

    @property
    def saved_at(self) -> float | None:
        """When something was last saved in this run, in seconds since 1970."""
        return None if self._journal is None else self._journal.saved_at

    @property
    def error(self) -> StorageError | None:
        """Why saving fails at the moment, or None."""
        return None if self._journal is None else self._journal.error

    def load(self) -> StoredMask:
        """Read the arrays and replay the journal.

        Raises
        ------
        ProjectError
            If a part of the arrays is damaged.
        StorageError
            If the disk refuses to be read.
        """
        try:
            return self._load()
        except OSError as error:
            raise StorageError(
                f"The mask in {self.folder} cannot be read ({error}); check the disk, "
                "or restore the folder from a copy."
            ) from error

    def _load(self) -> StoredMask:
        # The journal first: compaction by another program moves records from there
        # into the arrays, never back.
        paths = segments(self._journal_folder)
        records = [stored for path in paths for stored in _still_there(path)]
        mask = read_arrays(self._arrays)
        for stored in records:
            for name, values in arrays_of(stored.after()):
                mask[name][stored.region] = values
        if len(records) > _MANY_RECORDS:
            self._compact_soon(_SETTLE_SECONDS)
        return StoredMask(**mask)

    def history(self) -> Iterator[Record]:
        """Yield every change still known, oldest first.

        The most recent ones are always there; older ones up to 64 MB.
        """
        return (stored.record() for _, stored in self.stored())

    def stored(
        self, newest_first: bool = False
    ) -> Iterator[tuple[tuple[int, int], StoredRecord]]:
        """Yield what :meth:`history` does, not decoded yet, each with its place.

        Parameters
        ----------
        newest_first : bool
            Go backwards.

        Yields
        ------
        place : (int, int)
            Number of the segment, and where in it the record ends; grows with time.
        record : StoredRecord
            As it lies in the file.
        """
        paths = all_segments(self._journal_folder)
        for path in reversed(paths) if newest_first else paths:
            found: Iterable[StoredRecord] = _wherever(path)
            if newest_first:
                found = reversed(list(found))
            yield from (((number(path), stored.end), stored) for stored in found)

    def append(self, change: Change) -> None:
        """Save a change; returns at once.

        Raises
        ------
        StorageError
            If the store is read-only or closed.
        """
        if self._journal is None:
            raise StorageError(
                f"{self.folder} is open read-only; another viewer is working on it."
            )
        self._journal.append(change)
        if self._journal.size > _LONG_JOURNAL:
            self._compact_soon()

    def stroke_finished(self) -> None:
        """End a stroke, or all tiles of a prediction; returns at once.

        What was appended since the last call, and is of one kind, belongs together.
        """
        if self._journal is not None:
            self._journal.stroke_finished()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every change is on disk; return whether it is."""
        return self._journal is None or self._journal.flush(timeout)

    def _compact_soon(self, pause: float = 0.0) -> None:
        if self._journal is None or self._compacting.locked():
            return
        threading.Thread(
            target=self._compact_in_background,
            args=(pause,),
            name="napari-seg compaction",
            daemon=True,
        ).start()

    def _compact_in_background(self, pause: float) -> None:
        if self._closing.wait(pause):
            return
        try:
            self.compact()
        except StorageError as error:
            _LOG.warning("%s", error)
            if self._on_error is not None:
                self._on_error(error)

    def compact(self) -> None:
        """Take the journal over into the arrays.

        A crash at any moment loses nothing: segments are set aside only when the
        arrays are durable, and are replayed again otherwise.  So :meth:`close` may
        interrupt it, too.

        Raises
        ------
        StorageError
            If the arrays cannot be written; the journal is kept then.
        """
        if self._journal is None:
            return
        with self._compacting:
            closed = self._journal.rotate()
            remove_leftovers(self._arrays)
            try:
                if self._take_over(closed):
                    finish(closed, _HISTORY_BYTES)
            except OSError as error:
                raise StorageError(
                    f"{self.folder} could not be brought up to date ({error}); the "
                    "corrections are safe in its journal."
                ) from error

    def _take_over(self, paths: list[Path]) -> bool:
        """Write what the segments hold; False if interrupted."""
        chunks = ChunkWriter(self._arrays)
        for region, after in (record for path in paths for record in read_after(path)):
            if self._closing.is_set():
                return False
            chunks.apply(region, after)
        return not any(self._closing.is_set() for _ in chunks.write())

    def close(self) -> None:
        """Save everything and stop.

        Raises
        ------
        StorageError
            If something could not be saved.
        """
        if self._journal is not None:
            self._closing.set()
            with self._compacting:
                self._journal.close()


def _still_there(path: Path) -> list[StoredRecord]:
    """Return the records of a segment; none if another program just took it over."""
    try:
        return list(stored_records(path))
    except FileNotFoundError:
        return []


def _wherever(path: Path) -> Iterator[StoredRecord]:
    """Yield the records of a segment, also if it becomes history meanwhile."""
    for each in (path, path.with_suffix(".done")):
        try:
            yield from stored_records(each)
        except FileNotFoundError:
            continue
        return
