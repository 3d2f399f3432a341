"""Every finished stroke is on disk before the next one starts.

The journal is a folder of append-only segment files.  A thread of its own compresses,
writes and flushes (fsync), so that handing over a change costs microseconds.  What
cannot be written stays in memory and is tried again; nothing is dropped.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from napari_seg.corrections.change import Change, Kind
from napari_seg.corrections.durable import make_folder
from napari_seg.corrections.records import Record, encode, parts
from napari_seg.corrections.segments import SegmentWriter
from napari_seg.errors import StorageError

__all__ = ["ErrorListener", "Journal"]

_LOG = logging.getLogger(__name__)
_BATCH = 64
"""Records that one flush to disk makes durable, at most."""
_GATHER_SECONDS = 0.005
"""Pause before writing: the thread that handed over a change goes on undisturbed,
and the dabs of one stroke become one flush."""

ErrorListener = Callable[[StorageError], None]


class Journal:
    """Append-only record of changes, written by its own thread.

    Each run of the program writes to new segments; segments of earlier runs, which
    may end in a torn record, are never written to again.

    Parameters
    ----------
    folder : Path
        Folder of the segments; it is made if missing.
    on_error : callable, optional
        Called with a StorageError, *on the writer's thread*, when writing starts to
        fail; called again only after writing worked in between.
    retry_seconds : float
        How often failed writing is tried again.  A new change tries at once.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        on_error: ErrorListener | None = None,
        retry_seconds: float = 2.0,
    ) -> None:
        make_folder(folder)
        self._folder = folder
        self._on_error = on_error
        self._retry_seconds = retry_seconds
        self._waiting: deque[Record] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._seq = self._stroke = 0
        self._stroke_kind: Kind | None = None
        self._file = SegmentWriter(folder)
        self.error: StorageError | None = None
        """Why the last attempt to write failed; None when it worked."""
        self.saved_at: float | None = None
        """When something was last made durable, in seconds since 1970."""
        self._thread = threading.Thread(
            target=self._run, name="napari-seg journal", daemon=True
        )
        self._thread.start()
        # A daemon thread would be cut off at the end of the program.
        atexit.register(self.flush, 10.0)

    @property
    def pending(self) -> int:
        """Number of records that are not on disk yet."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes in the segment that is being written."""
        return self._file.size

    def append(self, change: Change) -> None:
        """Hand over a change; returns at once.

        Raises
        ------
        StorageError
            If the journal was closed.
        """
        now = time.time()
        with self._news:
            if self._closing:
                raise StorageError("The journal is closed; open the project again.")
            if change.kind != self._stroke_kind:
                self._stroke, self._stroke_kind = self._stroke + 1, change.kind
            for part in parts(change):
                self._waiting.append(Record(part, now, self._seq, self._stroke))
                self._seq += 1
            self._news.notify_all()

    def stroke_finished(self) -> None:
        """End a stroke, or all tiles of a prediction; returns at once.

        What is appended from now on gets another number.  A change of another kind
        does so by itself.
        """
        with self._news:
            self._stroke_kind = None

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is on disk; return whether it is.

        Parameters
        ----------
        timeout : float, optional
            Seconds.  By default it waits as long as it takes, but not longer than
            writing fails.
        """
        with self._news:
            self._news.wait_for(
                lambda: not self._waiting or (timeout is None and self.error), timeout
            )
            return not self._waiting

    def rotate(self) -> list[Path]:
        """Start a new segment; return the closed ones, oldest first."""
        return self._file.rotate()

    def close(self, timeout: float | None = 10.0) -> None:
        """Write what is left, with a last attempt if writing fails, and stop.

        Raises
        ------
        StorageError
            If something could not be written.
        """
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join(timeout)
        atexit.unregister(self.flush)
        self._file.rotate()
        if self._waiting:
            raise StorageError(
                f"{len(self._waiting)} changes could not be saved in {self._folder}"
                f"{f' ({self.error})' if self.error else ''}."
            )

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._file.write(b"".join(encode(record) for record in batch))
            except Exception as error:  # noqa: BLE001 - else nobody would hear of it
                # Whatever the system lacks now it may have later, be it memory.
                self._failed(error)
                if self._give_up():
                    return
            else:
                self._saved(len(batch))

    def _next_batch(self) -> list[Record]:
        """Wait for work; an empty list means the end."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closing)
        time.sleep(_GATHER_SECONDS)
        with self._news:
            return list(islice(self._waiting, _BATCH))

    def _saved(self, count: int) -> None:
        with self._news:
            for _ in range(count):
                self._waiting.popleft()
            self.saved_at, self.error = time.time(), None
            self._news.notify_all()

    def _failed(self, cause: Exception) -> None:
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        error = StorageError(
            f"The last corrections cannot be saved in {self._folder} ({reason}). "
            "They are kept in memory and saved as soon as this works; free some space "
            "or check the disk."
        )
        error.__cause__ = cause
        with self._news:
            first, self.error = self.error is None, error
            self._news.notify_all()
        if first and self._on_error is not None:
            try:
                self._on_error(error)
            except Exception:  # noqa: BLE001 - a listener must not stop the writer
                _LOG.exception("The listener to storage errors failed.")

    def _give_up(self) -> bool:
        """Wait for the time or a reason to try again; True if it is over."""
        with self._news:
            if self._closing:
                return True
            self._news.wait(self._retry_seconds)
            return False
