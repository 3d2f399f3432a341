"""One image's mask, reference and flags on disk.

The folder of an image holds ``mask.zarr``, a zarr v3 group with the arrays `labels`,
`reference` and `state`, and ``journal``, the changes that the arrays lack.  Opening
reads the arrays and replays the journal; compaction takes the journal over into the
arrays in the background, from the files alone, so it meets nobody's arrays in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.arrays import (
    ChunkWriter,
    MaskArrays,
    create_arrays,
    open_arrays,
)
from napari_seg.corrections.change import Change, Pixels
from napari_seg.corrections.journal import ErrorListener, Journal
from napari_seg.corrections.records import (
    Record,
    arrays_of,
    read_after,
    read_records,
)
from napari_seg.corrections.segments import finish, finished, segments
from napari_seg.errors import StorageError
from napari_seg.scoring.regions import Box

__all__ = ["ImageStore", "StoredMask"]

_LOG = logging.getLogger(__name__)
_LONG_JOURNAL = 4 << 20
"""Bytes of journal that start a compaction: they cost about 0.5 s at reopening."""
_MANY_RECORDS = 256
"""Records replayed at opening that start a compaction."""
_HISTORY_BYTES = 64 << 20


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
        """Read the arrays and replay the journal."""
        # The journal first: compaction by another program moves records from there
        # into the arrays, never back.
        paths = segments(self._journal_folder)
        records = [record for path in paths for record in _still_there(path)]
        mask = {name: np.asarray(array[...]) for name, array in self._arrays.items()}
        for region, after in records:
            for name, values in arrays_of(after):
                mask[name][region] = values
        if len(records) > _MANY_RECORDS:
            self._compact_soon()
        return StoredMask(**mask)

    def history(self) -> Iterator[Record]:
        """Yield every change still known, oldest first.

        The most recent ones are always there; older ones up to 64 MB.
        """
        for path in (*finished(self._journal_folder), *segments(self._journal_folder)):
            yield from read_records(path)

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

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every change is on disk; return whether it is."""
        return self._journal is None or self._journal.flush(timeout)

    def _compact_soon(self) -> None:
        if self._journal is None or self._compacting.locked():
            return
        threading.Thread(
            target=self._compact_in_background,
            name="napari-seg compaction",
            daemon=True,
        ).start()

    def _compact_in_background(self) -> None:
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


def _still_there(path: Path) -> list[tuple[Box, Pixels]]:
    """Return the records of a segment; none if another program just took it over."""
    try:
        return list(read_after(path))
    except FileNotFoundError:
        return []
