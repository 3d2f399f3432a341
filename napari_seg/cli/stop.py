"""Requests to end training early, with what was learned so far."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from napari_seg.cli.report import note

__all__ = ["stop_requests"]


@contextmanager
def stop_requests(on_stdin: bool) -> Iterator[Callable[[], bool]]:
    """Listen for requests to stop; give a function that tells whether one came.

    The first Ctrl-C or SIGTERM is a request; a second Ctrl-C interrupts at once.

    Parameters
    ----------
    on_stdin : bool
        The line ``cancel`` on standard input, or its end, is a request, too.
    """
    requested = threading.Event()
    if on_stdin:
        threading.Thread(
            target=_watch_stdin, args=(requested,), name="cancel", daemon=True
        ).start()
    with ExitStack() as restored:
        # Only the main thread may say what a signal does.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                restored.callback(
                    signal.signal, number, signal.signal(number, _request(requested))
                )
        yield requested.is_set


def _request(requested: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not requested.is_set():
            note("stopping, with what was learned so far; Ctrl-C again gives it up.")
        requested.set()

    return handler


def _watch_stdin(requested: threading.Event) -> None:
    # Read past Python's buffer: a thread that waits inside it while the program ends
    # makes the interpreter abort.
    descriptor = sys.stdin.fileno()
    pending = b""
    while part := os.read(descriptor, 4096):
        *lines, pending = (pending + part).split(b"\n")
        if b"cancel" in (line.strip() for line in lines):
            break
    requested.set()
