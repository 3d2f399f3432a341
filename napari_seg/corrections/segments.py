"""The files of a journal: numbered segments, each written by one run of the program.

``00000007.bin`` holds changes that the arrays lack; taken over into them, it becomes
``00000007.done`` and is history.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from napari_seg.corrections.durable import sync_folder

__all__ = [
    "SegmentWriter",
    "all_segments",
    "finish",
    "finished",
    "number",
    "segments",
    "write_all",
]


class SegmentWriter:
    """Appends to the newest segment.  A failed write leaves no half record behind.

    Parameters
    ----------
    folder : Path
        Folder of the journal.

    Attributes
    ----------
    size : int
        Bytes in the segment being written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        taken = [number(p) for p in (*segments(folder), *finished(folder))]
        self._number = 1 + max(taken, default=0)
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append `data` and make it durable.

        After a failure the next attempt goes to a new file: what a system still has
        of a file whose flush failed is not certain.
        """
        with self._lock:
            start = self.size
            try:
                descriptor = self._open()
                write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                self._abandon(start)
                raise
            self.size = start + len(data)

    def rotate(self) -> list[Path]:
        """Start a new segment; return the closed ones, oldest first."""
        with self._lock:
            self._close()
            done = [p for p in segments(self._folder) if number(p) < self._number]
        return done

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, flags, 0o644)
            except FileExistsError:
                # Somebody else's, where a network file system knows no locks.
                self._number += 1
            else:
                sync_folder(self._folder)
        return self._descriptor

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._number:08d}.bin"

    def _abandon(self, start: int) -> None:
        if self._descriptor is None:
            return
        # On a disk in trouble these can fail, too; the reader copes with the rest.
        with suppress(OSError):
            os.ftruncate(self._descriptor, start)
        path = self._path
        self._close()
        if start == 0:
            with suppress(OSError):
                path.unlink()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._number += 1
            self.size = 0


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; the system may take it in parts."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def segments(folder: Path) -> list[Path]:
    """Return the segment files of a journal, oldest first."""
    return sorted(folder.glob("[0-9]*.bin"), key=number)


def finished(folder: Path) -> list[Path]:
    """Return the segments that were taken over into the store, oldest first."""
    return sorted(folder.glob("[0-9]*.done"), key=number)


def all_segments(folder: Path) -> list[Path]:
    """Return both, oldest first: everything that the journal still knows."""
    # A segment that is set aside meanwhile is listed once, or under its old name.
    found = {number(path): path for path in (*finished(folder), *segments(folder))}
    return [found[key] for key in sorted(found)]


def finish(paths: list[Path], keep_bytes: int) -> None:
    """Set segments aside as history, and drop the oldest history above a size.

    Call it when what the segments hold is durable elsewhere.
    """
    for path in paths:
        path.replace(path.with_suffix(".done"))
    kept = 0
    for folder in {path.parent for path in paths}:
        sync_folder(folder)
        for path in reversed(finished(folder)):
            kept += path.stat().st_size
            if kept > keep_bytes:
                path.unlink()


def number(path: Path) -> int:
    """Return the number of a segment; it stays when the segment becomes history."""
    return int(path.stem)
