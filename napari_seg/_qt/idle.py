"""Boxes that wait until Qt has nothing more urgent to do."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer

from napari_seg.scoring.regions import Box, pixels, split

__all__ = ["IdleBoxes"]

_PER_TURN = 1 << 20
"""Pixels per turn of the event loop: one or two milliseconds of comparing."""


class IdleBoxes:
    """Hand out boxes in small pieces, a few in every turn of the event loop.

    Parameters
    ----------
    look : callable
        Called with each piece.
    done : callable
        Called when no piece is left.
    """

    def __init__(self, look: Callable[[Box], None], done: Callable[[], None]) -> None:
        self._look = look
        self._done = done
        # A piece that already waits is not added again.
        self._pieces: dict[tuple[tuple[int, int], ...], Box] = {}
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, box: Box) -> None:
        """Let `box` wait for its turn."""
        for piece in split(box, _PER_TURN):
            self._pieces[tuple((s.start, s.stop) for s in piece)] = piece
        if self._pieces:
            self._timer.start(0)

    def flush(self) -> None:
        """Hand out everything now."""
        while self._pieces:
            self._turn()

    def clear(self) -> None:
        """Forget everything; `done` is not called."""
        self._pieces.clear()
        self._timer.stop()

    def _turn(self) -> None:
        budget = _PER_TURN
        while self._pieces and budget > 0:
            # Out of the list first: a piece that fails must not come up for ever.
            piece = self._pieces.pop(next(iter(self._pieces)))
            budget -= pixels(piece)
            self._timer.start(0)
            self._look(piece)
        if not self._pieces:
            self._timer.stop()
            self._done()
