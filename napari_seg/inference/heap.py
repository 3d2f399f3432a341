"""Memory of large tensors, kept from one tile to the next, and that of many threads.

glibc hands blocks above 32 MiB back to the system when they are freed. For the feature
maps of a tile that means fresh pages, cleared one by one, for every layer: a seventh of
the time of a U-Net's tile of 0.6 megapixels (two cores, torch 2.13).

Not where napari is: some graphics drivers read memory that it has freed, which goes
unnoticed until that memory is handed back, and then crash (its issues 6472 and 8471).

It also gives each thread a heap of its own, and each keeps up to 64 MiB of what was
freed: together 160 MB where pixels are read, predicted and saved on several threads.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["kept_blocks", "share_heaps"]

# Parameters of mallopt, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE = 1 << 30
#: Where glibc itself ends up in a program that frees large blocks.
_USUAL = 32 << 20

_lock = threading.Lock()
_users = 0


@contextmanager
def kept_blocks() -> Iterator[None]:
    """Keep freed memory of any size until the end, when it is handed back.

    May be nested, and entered on several threads. Without glibc, or with napari in the
    same process, nothing happens.
    """
    if "napari" in sys.modules:
        yield
        return
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def share_heaps() -> None:
    """Let threads that start from now on share the heaps that there are."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_ARENA_MAX, 1)


def _count(change: int) -> None:
    """Take in that so many more are computing; the first and the last one matter."""
    global _users
    libc = _glibc()
    with _lock:
        before, _users = _users, _users + change
        if libc is None or (before and _users):
            return
        threshold = _LARGE if _users else _USUAL
        libc.mallopt(_MMAP_THRESHOLD, threshold)
        libc.mallopt(_TRIM_THRESHOLD, threshold)
        if not _users:
            libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return glibc, None where something else allocates memory."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    has_both = hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")
    return libc if has_both else None
