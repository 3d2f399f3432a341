"""Looks mask and sums over while the user rests."""

from __future__ import annotations

from qtpy.QtCore import QTimer

from napari_seg._qt.mask_view import MaskView
from napari_seg.workspace import Workspace

__all__ = ["Auditor"]

#: Milliseconds between two pieces of 1 to 2 ms each: about 1 % of the main thread.
_PIECE = 100
#: Milliseconds from the end of one round to the next, and while something else runs.
_REST = 30_000


class Auditor:
    """Compares the whole mask with what was counted, again and again.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    mask : MaskView
        Tells whether edits still wait to be counted.
    """

    def __init__(self, workspace: Workspace, mask: MaskView) -> None:
        self._workspace, self._mask = workspace, mask
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)
        self._timer.start(_REST)

    def stop(self) -> None:
        """Look at nothing any more."""
        self._timer.stop()

    def _turn(self) -> None:
        workspace = self._workspace
        busy = workspace.predictor.busy or workspace.past.busy or self._mask.counting
        done = busy or workspace.look_over()
        self._timer.start(_REST if done else _PIECE)
