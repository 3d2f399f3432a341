"""Work that goes on beside the main thread, without saying how.

The workspace hands out generators; a :class:`Runner` drives them.  The dock's runner
uses a Qt thread (``_qt/worker.py``), scripts and tests may use :func:`run_inline`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

__all__ = ["Job", "Runner", "Task", "run_inline"]

#: A generator that yields whatever is to be shown while it works.
Job = Generator[Any, None, None]


class Task(Protocol):
    """A running job."""

    def cancel(self) -> None:
        """Close the job after its next item; nothing of it is reported any more."""


class Runner(Protocol):
    """Drives jobs and reports on the thread that started them."""

    def __call__(
        self,
        job: Job,
        *,
        on_item: Callable[[Any], None],
        on_done: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> Task:
        """Start `job`; exactly one of `on_done` and `on_error` ends it."""


class _Ended:
    def cancel(self) -> None:
        """Do nothing: the job has ended."""


def run_inline(
    job: Job,
    *,
    on_item: Callable[[Any], None],
    on_done: Callable[[], None],
    on_error: Callable[[Exception], None],
) -> Task:
    """Drive `job` to its end right here."""
    try:
        for item in job:
            on_item(item)
    except Exception as error:  # noqa: BLE001 - handed on, not swallowed
        on_error(error)
    else:
        on_done()
    return _Ended()
