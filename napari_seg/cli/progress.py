"""How far a command has come, on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from tqdm import tqdm

from napari_seg.cli.report import complain
from napari_seg.models.published import Fetched

__all__ = ["Progress", "show_fetching"]

_BAR = "{desc} {percentage:3.0f} %|{bar}| {elapsed}<{remaining} {postfix}"


class Progress:
    """A bar for people, JSON lines for programs, or nothing.

    Parameters
    ----------
    mode : str
        ``bar``, ``json``, ``none``, or ``auto``: a bar if a person is looking.
    title : str
        Stands before the bar.
    """

    def __init__(self, mode: str, title: str) -> None:
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "none"
        self._json = mode == "json"
        self._bar: Any = None
        if mode == "bar":
            self._bar = tqdm(
                total=1.0, desc=title, bar_format=_BAR, file=sys.stderr, leave=False
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, share: float, line: str, words: str = "") -> None:
        """Report a step.

        Parameters
        ----------
        share : float
            What is done, 0 to 1.
        line : str
            The step as JSON.
        words : str
            Stands behind the bar.
        """
        if self._json:
            complain(line)
        elif self._bar is not None:
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update(share - self._bar.n)


@contextmanager
def show_fetching(mode: str) -> Iterator[Callable[[Fetched], None]]:
    """Give a function that shows how far a download is.

    Parameters
    ----------
    mode : str
        As of :class:`Progress`, which appears once something is fetched.
    """
    with ExitStack() as shown:
        bars: list[Progress] = []

        def on_progress(state: Fetched) -> None:
            if not bars:
                bars.append(shown.enter_context(Progress(mode, "Fetching")))
            event = {"event": "fetch", "file": state.name}
            counts = {"done": state.done, "total": state.total}
            bars[0].update(state.share, json.dumps(event | counts), state.name)

        yield on_progress
