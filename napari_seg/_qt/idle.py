"""Boxes that wait until Qt has nothing more urgent to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter

from qtpy.QtCore import QTimer

from napari_seg.scoring.regions import Box, pixels, union

__all__ = ["IdleBoxes"]

_PER_TURN = 0.008
"""Seconds per turn of the event loop: half a frame of the screen."""

_PER_PIECE = 0.002
"""Seconds that one piece shall take."""

_SMALLEST, _LARGEST = 1 << 14, 1 << 18
"""Pixels per piece.  One that changed as a whole takes many times as long as one that
did not; which it is shows only in how long the piece before it took."""

_AT_ONCE = 1 << 20
"""Pixels per piece where nobody waits for the next turn."""


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
        self._boxes: deque[Box] = deque()
        self._size = _SMALLEST
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)

    def __bool__(self) -> bool:
        return bool(self._boxes)

    def add(self, box: Box) -> None:
        """Let `box` wait for its turn, once if it waits already."""
        if not pixels(box) or any(union(box, other) == other for other in self._boxes):
            return
        others = (other for other in self._boxes if union(box, other) != box)
        self._boxes = deque([*others, box])
        self._timer.start(0)

    def flush(self) -> None:
        """Hand out everything now."""
        while self._boxes:
            self._hand_out(_AT_ONCE)

    def clear(self) -> None:
        """Forget everything; `done` is not called."""
        self._boxes.clear()
        self._timer.stop()

    def _turn(self) -> None:
        if not self._boxes:
            # The last piece has failed.
            self._done()
        started = now = perf_counter()
        while self._boxes and now - started < _PER_TURN - _PER_PIECE:
            self._hand_out(self._size)
            took, now = perf_counter() - now, perf_counter()
            # No more than doubled: the next piece may be another kind of work.
            growth = min(2.0, _PER_PIECE / max(took, 1e-6))
            self._size = int(min(max(self._size * growth, _SMALLEST), _LARGEST))

    def _hand_out(self, limit: int) -> None:
        # Out of the list first: a piece that fails must not come up for ever.
        piece, rest = _cut(self._boxes.popleft(), limit)
        self._boxes.extendleft(reversed(rest))
        self._timer.start(0)
        self._look(piece)
        if not self._boxes:
            self._timer.stop()
            self._done()


def _cut(box: Box, limit: int) -> tuple[Box, list[Box]]:
    """Return the first pixels of `box`, about `limit`, and boxes with the others."""
    size = pixels(box)
    if size <= limit:
        return box, []
    axis = next(i for i, s in enumerate(box) if s.stop - s.start > 1)
    start, stop = box[axis].start, box[axis].stop
    at = start + max(1, limit * (stop - start) // size)
    head = (*box[:axis], slice(start, at), *box[axis + 1 :])
    tail = (*box[:axis], slice(at, stop), *box[axis + 1 :])
    piece, rest = _cut(head, limit)
    return piece, [*rest, tail]
