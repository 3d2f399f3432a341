"""How much memory this computer has."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["physical_memory"]


def physical_memory() -> int | None:
    """Return the bytes of physical memory, or None where the system does not tell."""
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong(0)
        told = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(
            ctypes.byref(kilobytes)
        )
        return kilobytes.value * 1024 if told else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
