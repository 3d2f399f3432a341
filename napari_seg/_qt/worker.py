"""Jobs in a Qt thread.

A plain generator is driven by a ``WorkerBase``: it is closed on
the thread where it ran, and whatever it raises arrives as an error.  (The generator
workers of superqt and napari swallow a RuntimeError, which is what torch raises when
memory runs out, and close the generator late and elsewhere.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import QThreadPool, Signal
from qtpy.QtWidgets import QApplication

from napari_seg.workspace.tasks import Job, Task

__all__ = ["QtRunner"]

#: Jobs at a time: predictions, a training, what is read and closed meanwhile.
_MOST = 8


class _Signals(WorkerBaseSignals):
    item = Signal(object)


@cache
def _pool() -> QThreadPool:
    """Return the threads of all docks.

    Qt's global pool is none for jobs in Python: Qt converts images there, too, and the
    main thread waits for that with Python's lock in hand, which jobs that have taken
    all threads would need to end (seen with PyQt5 on two cores).
    """
    pool = QThreadPool(QApplication.instance())
    pool.setMaxThreadCount(_MOST)
    return pool


class _JobWorker(WorkerBase[None]):
    """Drives one job on a thread of the docks' pool."""

    def __init__(self, job: Job) -> None:
        super().__init__(SignalsClass=_Signals)
        self._job = job
        self.reporting = True
        self.ended = threading.Event()

    def start(self) -> None:
        """Start as soon as there is a thread."""
        _pool().start(self)

    def work(self) -> None:
        """Send each item to the main thread until the job ends or is cancelled."""
        try:
            # It may have been cancelled while it waited for a thread.
            if self.abort_requested:
                return
            for item in self._job:
                if self.abort_requested:
                    return
                self.signals.item.emit(item)
        finally:
            self._job.close()
            self.ended.set()

    def cancel(self) -> None:
        """Stop after the next item; nothing is reported any more."""
        self.reporting = False
        self.quit()


class QtRunner:
    """Runs jobs in threads and reports on the main thread."""

    def __init__(self) -> None:
        self._running: set[_JobWorker] = set()

    def __call__(
        self,
        job: Job,
        *,
        on_item: Callable[[Any], None],
        on_done: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> Task:
        """Start `job` on another thread."""
        worker = _JobWorker(job)
        failure: list[Exception] = []

        def item(value: Any) -> None:
            if worker.reporting:
                on_item(value)

        def finished() -> None:
            self._running.discard(worker)
            # Python cannot see through Qt's connections, and would keep all of this.
            worker.signals.item.disconnect(item)
            worker.errored.disconnect(failure.append)
            worker.finished.disconnect(finished)
            if not worker.reporting:
                return
            if failure:
                on_error(failure[0])
            else:
                on_done()

        worker.signals.item.connect(item)
        worker.errored.connect(failure.append)
        worker.finished.connect(finished)
        self._running.add(worker)
        worker.start()
        return worker

    @property
    def running(self) -> int:
        """Number of jobs whose thread has not ended."""
        return len(self._running)

    def shut_down(self, seconds: float = 5.0) -> bool:
        """Cancel all jobs and wait for their ends; return whether all ended.

        Only these are waited for: other docks have jobs in the pool, too.
        """
        end = time.monotonic() + seconds
        for worker in self._running:
            worker.cancel()
        started = [worker for worker in self._running if worker.is_running]
        return all(
            worker.ended.wait(max(end - time.monotonic(), 0)) for worker in started
        )
