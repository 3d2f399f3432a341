"""One writer per project.

The lock is the operating system's, so it ends with the program that holds it, however
that ends; a stale lock cannot exist.  The file's content only says who holds it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

__all__ = ["WriterLock"]

_LOG = logging.getLogger(__name__)


class WriterLock:
    """The right to write to a project folder.

    Parameters
    ----------
    path : Path
        The lock file; it is made if missing.

    Raises
    ------
    OSError
        If the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; return False if another program or viewer holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        except OSError as error:
            # Some network file systems know no locks; work must be possible there.
            _LOG.warning("%s cannot be locked (%s).", self._path, error)
        self._descriptor = descriptor
        holder = {"pid": os.getpid(), "host": _host()}
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())
        return True

    def holder(self) -> str:
        """Return who wrote to the lock file last, for messages."""
        try:
            holder = json.loads(self._path.read_text())
            return f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another program"

    def release(self) -> None:
        """Give the lock back; without it this does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else "this computer"


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # A byte far behind the content, which stays readable for others.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
