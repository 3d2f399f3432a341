"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["make_folder", "sync_folder", "write_atomically", "write_json"]


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write `path` so that a reader finds the old or the new content, never a part.

    Raises
    ------
    OSError
        If the disk is full or not writable; the old content is kept then.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        # The error to report is the first one.
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, so that a power cut does not take it away."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make new names and removals in `folder` durable, where the system can."""
    # Windows cannot open folders; there, the file system keeps names by itself.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
