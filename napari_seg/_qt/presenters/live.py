"""Predicts what comes into view, if the user wants that."""

from __future__ import annotations

from qtpy.QtCore import QTimer

from napari_seg._qt.panels.source import SourcePanel
from napari_seg._qt.presenters.source import SourcePresenter
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import View, Workspace, obstacles

__all__ = ["LivePresenter"]

#: Milliseconds between two looks at the view; it has to stand still from one to the
#: next.
_GLANCE = 250


class LivePresenter:
    """Connects the switch *Live* of :class:`SourcePanel` with the workspace."""

    def __init__(
        self,
        panel: SourcePanel,
        workspace: Workspace,
        link: ViewerLink,
        source: SourcePresenter,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._source = link, source
        self._last: View | None = None
        self._asked = False
        self._timer = QTimer()
        self._timer.setInterval(_GLANCE)
        self._timer.timeout.connect(self._look)
        panel.liveWanted.connect(self._switch)
        workspace.failed.connect(self._failed)
        workspace.predicting.connect(self._predicting)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()

    def _switch(self, on: bool) -> None:
        self._last = None
        if on:
            self._timer.start()
        else:
            self._timer.stop()

    def _predicting(self, progress: object) -> None:
        if progress is None:
            self._asked = False

    def _failed(self, _: Exception) -> None:
        # It would fail again with every look.
        if self._asked:
            self._panel.live.setChecked(False)

    def _look(self) -> None:
        workspace, layer = self._workspace, self._source.layer
        session, choice = workspace.session, workspace.choice
        if session is None or choice is None or layer is None or choice.untrained:
            return
        busy = workspace.predictor.busy or bool(workspace.comparison.wanted)
        if busy or obstacles.to_predict(workspace):
            return
        view = self._link.view(layer, session.reading)
        last, self._last = self._last, view
        if view != last:
            return
        missing = workspace.coverage.missing(view)
        if missing is not None:
            workspace.predict(missing, everything=False)
            self._asked = workspace.predictor.busy
