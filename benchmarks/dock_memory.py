"""How much memory **Predict all** takes in the dock, whose mask lies in memory.

Measured as in :mod:`benchmarks.memory`, in a fresh process, without the viewer's own.

    python -m benchmarks --only dock_memory
"""

from __future__ import annotations

from benchmarks._report import Row
from benchmarks.memory import dock_row

__all__ = ["run"]


def run() -> list[Row]:
    """Return one row."""
    return [dock_row()]
