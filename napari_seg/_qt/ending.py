"""The end of a dock, whoever brings it about."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any, Protocol

from qtpy.QtWidgets import QApplication

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.notify import show_failure
from napari_seg._qt.review_outline import ReviewOutline
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg._qt.worker import QtRunner
from napari_seg.workspace import Workspace

__all__ = ["Ending", "Follower"]


class Follower(Protocol):
    """Has something that goes on by itself, and stops it without any widget."""

    def stop(self) -> None:
        """Stop it."""


class Ending:
    """Saves, and ends every thread and process of a dock.

    It is no method of the dock, and touches no widget: so it also works while Qt
    destroys the dock.
    """

    def __init__(
        self,
        mask: MaskView,
        workspace: Workspace,
        runner: QtRunner,
        outline: ReviewOutline,
        link: ViewerLink,
        followers: Sequence[Follower],
    ) -> None:
        self._mask, self._workspace, self._runner = mask, workspace, runner
        self._outline, self._link = outline, link
        self._followers = followers
        self._done = False
        QApplication.instance().aboutToQuit.connect(self.run)
        # A script that ends without an event loop quits nothing, and later there is
        # no Qt any more to do it with.
        atexit.register(self.run)

    def run(self, *_: Any) -> None:
        """Do it, once."""
        if self._done:
            return
        self._done = True
        atexit.unregister(self.run)
        QApplication.instance().aboutToQuit.disconnect(self.run)
        self._mask.forget()
        self._part_from_panels()
        self._workspace.close()
        self._runner.shut_down()
        self._outline.disconnect()
        self._link.disconnect_all()

    def _part_from_panels(self) -> None:
        """Disconnect the widgets, which may be half destroyed; errors stay visible."""
        workspace = self._workspace
        for follower in self._followers:
            follower.stop()
        for signal in workspace.signals():
            signal.disconnect()
        workspace.failed.connect(show_failure)
