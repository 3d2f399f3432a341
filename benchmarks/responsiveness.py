"""Whether the viewer stays quick to answer while it predicts and fine-tunes.

A timer on the main thread is due every millisecond; the time between two of its ticks
is how long the event loop was kept from everything else, a brush stroke among it.  The
buttons of the dock are clicked as a user would.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._child import has_screen, on_screen
from benchmarks._report import Row, row

__all__ = ["run"]

SIDE = 2048
_MINUTES = 0.2
_PATIENCE = 600.0


def run() -> list[Row]:
    """Measure every claim; return a row for each."""
    target = "p99 < 50 ms"
    if not has_screen():
        claim = "stalls of the main thread"
        return [row(claim, None, target, None, "no display, and Xvfb is not installed")]
    answer = on_screen("benchmarks.responsiveness")
    return [
        _row(f"stalls of the main thread, {what}", stalls, target)
        for what, stalls in answer.items()
    ]


def _row(claim: str, stalls: dict[str, float], target: str) -> Row:
    return row(
        claim,
        f"p99 {stalls['p99']:.1f} ms",
        target,
        stalls["p99"] < 50,
        f"{stalls['seconds']:.0f} s, gaps between {stalls['ticks']:.0f} ticks: p50 "
        f"{stalls['p50']:.1f} ms; {stalls['long']:.0f} over 50 ms, the longest "
        f"{stalls['max']:.0f} ms after {stalls['when']:.1f} s; an event that comes at "
        f"any moment waits: p99 {stalls['wait_p99']:.0f} ms; virtual screen",
    )


def summary(ticks: NDArray[np.float64]) -> dict[str, float]:
    """Return percentiles of the gaps between ticks (seconds), in ms.

    Long gaps are few, and yet an event is likelier to fall into one: ``wait_p99`` is
    the 99th percentile of how long it waits if it comes at a random moment.
    """
    gaps = np.diff(ticks) * 1e3
    p50, p99 = np.percentile(gaps, [50, 99])
    return {
        "p50": float(p50),
        "p99": float(p99),
        "long": float((gaps > 50).sum()),
        "max": float(gaps.max()),
        "when": float(ticks[gaps.argmax()] - ticks[0]),
        "wait_p99": _wait(gaps, 0.99),
        "ticks": float(len(ticks)),
        "seconds": float(gaps.sum() / 1e3),
    }


def _wait(gaps: NDArray[np.float64], share: float) -> float:
    """Solve P(wait <= t) = share, where a gap g adds min(t, g) of its time."""
    low, high = 0.0, float(gaps.max())
    for _ in range(50):
        middle = (low + high) / 2
        reached = np.minimum(gaps, middle).sum() / gaps.sum()
        low, high = (middle, high) if reached < share else (low, middle)
    return high


class _Heartbeat:
    """Notes when the main thread was free."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._ticks: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(lambda: self._ticks.append(time.perf_counter()))

    def during(self, action: Callable[[], None]) -> dict[str, float]:
        """Return the summary of the ticks while `action` runs the event loop."""
        self._ticks.clear()
        self._timer.start(1)
        action()
        self._timer.stop()
        return summary(np.array(self._ticks))


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    """Run the event loop itself: polling it would be a stall of our own making."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, start = QEventLoop(), time.monotonic()

    def look() -> None:
        if condition() or time.monotonic() - start > _PATIENCE:
            loop.quit()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(50)
    loop.exec_() if hasattr(loop, "exec_") else loop.exec()
    timer.stop()
    if not condition():
        raise TimeoutError(f"{what} did not happen within {_PATIENCE:g} s")


def _measure() -> dict[str, Any]:
    import napari
    from qtpy.QtWidgets import QDoubleSpinBox, QPushButton

    from napari_seg.synthetic import synthetic_nuclei

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    field = synthetic_nuclei((SIDE, SIDE), 1200, seed=0)
    viewer.add_image(field.image, name="nuclei")
    viewer.window.add_plugin_dock_widget("napari-seg", "Segmentation")
    window = viewer.window._qt_window

    def find(name: str) -> Any:
        return window.findChild(QPushButton, name)

    predict, cancel = find("predict_all_button"), find("cancel_button")
    accept, finetune = find("accept_view_button"), find("finetune_button")
    discard = find("discard_button")
    _wait_until(predict.isEnabled, "a model")
    # Torch is being loaded, and the viewer drawn for the first time.
    _wait_until(_after(3.0), "a pause")
    heart = _Heartbeat()
    stalls = {"idle": heart.during(lambda: _wait_until(_after(3.0), "a pause"))}

    def predicting() -> None:
        predict.click()
        _wait_until(cancel.isEnabled, "a prediction")
        _wait_until(lambda: not cancel.isEnabled(), "the end of the prediction")

    stalls[f"predicting {SIDE}² px"] = heart.during(predicting)
    accept.click()
    _wait_until(finetune.isEnabled, "something to learn from")
    window.findChild(QDoubleSpinBox, "finetune_minutes").setValue(_MINUTES)

    def teaching() -> None:
        finetune.click()
        _wait_until(discard.isVisible, "the end of fine-tuning")

    stalls["fine-tuning in the child process"] = heart.during(teaching)
    discard.click()
    viewer.close()
    return stalls


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


if __name__ == "__main__":
    print(json.dumps(_measure()))
