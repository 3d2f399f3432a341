"""Presents the live score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QTimer
from superqt.utils import qthrottled

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.palette import class_colors
from napari_seg._qt.panels.object_cells import object_cells
from napari_seg._qt.panels.score import ScorePanel
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.corrections.ledger import Scope
from napari_seg.workspace import Workspace, obstacles

__all__ = ["ScorePresenter"]

#: Milliseconds between two updates of numbers: one frame.
_FRAME = 16
#: Milliseconds for which a slider must rest before its slice is counted.
_SLIDER_RESTS = 200


class ScorePresenter:
    """Connects :class:`ScorePanel` with workspace, mask and sliders."""

    def __init__(
        self,
        panel: ScorePanel,
        workspace: Workspace,
        link: ViewerLink,
        mask: MaskView,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._mask = link, mask
        panel.scopeChosen.connect(self._choose)
        panel.objectsWanted.connect(workspace.object_score.want)
        workspace.object_score.changed.connect(self._scores_changed)
        self._show_soon = qthrottled(self.show, timeout=_FRAME)
        self._rest = QTimer(panel)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_SLIDER_RESTS)
        self._rest.timeout.connect(self._follow_slider)
        link.viewer.dims.events.current_step.connect(self._slider_moved)
        workspace.scores_changed.connect(self._scores_changed)
        workspace.changed.connect(self.show)

    def _scores_changed(self) -> None:
        self._show_soon()

    def _slider_moved(self, _: Any = None) -> None:
        if self._workspace.scope == "slice":
            self._rest.start()

    def _choose(self, scope: Scope) -> None:
        self._workspace.set_scope(scope)
        self._follow_slider()

    def _follow_slider(self) -> None:
        session, layer = self._workspace.session, self._mask.layer
        if session is not None and layer is not None:
            view = self._link.view(layer, session.reading)
            self._workspace.look_at_slice(view.index)

    def stop(self) -> None:
        """Show nothing any more, and forget the viewer."""
        self._show_soon.cancel()
        self._link.viewer.dims.events.current_step.disconnect(self._slider_moved)

    def _show_objects(self, names: Sequence[str]) -> None:
        objects, session = self._workspace.object_score, self._workspace.session
        begun = session is not None and session.ledger is not None
        cells = (
            object_cells(
                names,
                session.countable.tolist(),
                objects.scores,
                objects.reason,
                counting=not objects.obstacle,
            )
            if session is not None and begun and objects.wanted
            else []
        )
        self._panel.show_objects(cells, on=objects.wanted, obstacle=objects.obstacle)

    def show(self) -> None:
        """Show the scores of this moment and their curve."""
        session, scope = self._workspace.session, self._workspace.scope
        self._panel.show_scope(
            scope, self._mask.counting, obstacles.to_score_slice(self._workspace)
        )
        if session is None:
            self._panel.show_scores([], [], None)
            self._show_objects([])
            return
        names = session.classes
        self._panel.show_scores(names, class_colors(len(names)), self._workspace.scores)
        self._show_objects(names)
        points = session.history.points(scope)
        self._panel.show_history(
            [point.mean_iou for point in points],
            [point.mean_dice for point in points],
        )
