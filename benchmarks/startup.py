"""How soon one can begin: the bare import, the command line, the dock.

Each figure is the median over fresh processes, with the files in the disk's cache.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from benchmarks._child import has_screen, on_screen
from benchmarks._report import Row, row

__all__ = ["run"]

_REPEATS = 7
_DOCKS = 3
_HEAVY = ("torch", "qtpy", "PyQt5", "PyQt6", "napari")
_IMPORT = f"""
import sys, time
start = time.perf_counter()
import napari_seg
print(time.perf_counter() - start, *set({_HEAVY!r}) & set(sys.modules))
"""


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    return [_bare_import(), _help(), _dock()]


def _bare_import() -> Row:
    answers = [_output(sys.executable, "-c", _IMPORT).split() for _ in range(_REPEATS)]
    seconds = [float(answer[0]) for answer in answers]
    loaded = answers[0][1:]
    median = statistics.median(seconds)
    return row(
        "`import napari_seg`, torch and Qt not loaded",
        f"{median * 1e3:.0f} ms",
        "< 200 ms, neither",
        median < 0.2 and not loaded,
        f"{_span(seconds)}; loaded: {', '.join(loaded) or 'neither'}",
    )


def _help() -> Row:
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        _output(sys.executable, "-m", "napari_seg", "--help")
        seconds.append(time.perf_counter() - start)
    return row(
        "`napari-seg --help`, the whole process",
        f"{statistics.median(seconds) * 1e3:.0f} ms",
        "told, not aimed at",
        None,
        _span(seconds),
    )


def _dock() -> Row:
    claim, target = "dock added to a running viewer, torch loaded", "< 1 s"
    if not has_screen():
        return row(claim, None, target, None, "no display, and Xvfb is not installed")
    answers = [on_screen("benchmarks.startup") for _ in range(_DOCKS)]
    seconds = [answer["seconds"] for answer in answers]
    median = statistics.median(seconds)
    detail = f"{_span(seconds)}; until it is drawn, virtual screen"
    return row(claim, f"{median:.2f} s", target, median < 1, detail)


def _span(seconds: list[float]) -> str:
    low, high = min(seconds) * 1e3, max(seconds) * 1e3
    return f"{len(seconds)} processes, {low:.0f} to {high:.0f} ms"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _add_dock() -> float:
    """Return the seconds from the call until the dock is on the screen."""
    import napari
    import numpy as np
    import torch  # noqa: F401
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.add_image(np.zeros((512, 512), np.uint8))
    _settle(1.0)
    start = time.perf_counter()
    viewer.window.add_plugin_dock_widget("napari-seg", "Segmentation")
    QApplication.processEvents()
    seconds = time.perf_counter() - start
    _settle(1.0)
    viewer.close()
    return seconds


def _settle(seconds: float) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    print(json.dumps({"seconds": _add_dock()}))
