"""Presents classes, review and the live score."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QInputDialog
from superqt.utils import qthrottled

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.palette import class_colors
from napari_seg._qt.panels.correct import ClassRow, CorrectPanel
from napari_seg._qt.panels.score import ScorePanel
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import View, Workspace, obstacles

__all__ = ["CorrectPresenter", "ScorePresenter"]

#: Milliseconds between two updates of numbers: one frame.
_FRAME = 16
#: Milliseconds between two looks at changes that are not on disk yet.
_SAVING = 300


class CorrectPresenter:
    """Connects :class:`CorrectPanel` with workspace and mask layer."""

    def __init__(
        self,
        panel: CorrectPanel,
        workspace: Workspace,
        link: ViewerLink,
        mask: MaskView,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._mask = link, mask
        panel.classChosen.connect(mask.choose_class)
        panel.classAddWanted.connect(self._ask_for_class)
        panel.acceptWanted.connect(self._accept)
        panel.unacceptWanted.connect(self._unaccept)
        panel.nextWanted.connect(self._next)
        mask.classChosen.connect(lambda _: self.show())
        workspace.changed.connect(self.show)
        self._show_soon = qthrottled(self.show, timeout=10 * _FRAME)
        # The disk is met on another thread, which tells nobody when it is done.
        self._until_saved = QTimer(panel)
        self._until_saved.setSingleShot(True)
        self._until_saved.setInterval(_SAVING)
        self._until_saved.timeout.connect(self.show)
        workspace.scores_changed.connect(self._scores_changed)

    def _scores_changed(self) -> None:
        self._show_soon()

    def stop(self) -> None:
        """Show nothing any more."""
        self._show_soon.cancel()

    def _view(self) -> View | None:
        session, layer = self._workspace.session, self._mask.layer
        if session is None or layer is None:
            return None
        return self._link.view(layer, session.reading)

    def _accept(self) -> None:
        view = self._view()
        if view is not None:
            self._workspace.accept(view)

    def _unaccept(self) -> None:
        view = self._view()
        if view is not None:
            self._workspace.unaccept(view)

    def _next(self) -> None:
        box = self._workspace.next_uncertain()
        if box is not None and self._mask.layer is not None:
            self._link.show(self._mask.layer, box)

    def _ask_for_class(self) -> None:
        name, given = QInputDialog.getText(
            self._panel, "Add a class", "Name of the new class:"
        )
        if given:
            self._workspace.add_class(name)

    def show(self) -> None:
        """Show classes, counts and what can be done."""
        session = self._workspace.session
        names = list(session.classes) if session is not None else []
        ledger = session.ledger if session is not None else None
        counts = ledger.pixels_per_class.tolist() if ledger else [None] * len(names)
        colors = class_colors(len(names))
        rows = [
            ClassRow(name, color, pixels)
            for name, color, pixels in zip(names, colors, counts, strict=True)
        ]
        self._panel.show_classes(rows, self._mask.selected_class)
        if ledger is not None and session is not None:
            self._panel.show_facts(
                ledger.reviewed_fraction,
                ledger.corrected_pixels,
                _saved(session.saved_at, session.pending),
            )
            if session.pending:
                self._until_saved.start()
        self._panel.show_gates(
            obstacles.to_review(self._workspace), obstacles.to_next(self._workspace)
        )


class ScorePresenter:
    """Connects :class:`ScorePanel` with the workspace."""

    def __init__(self, panel: ScorePanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        panel.scopeChosen.connect(workspace.set_scope)
        self._show_soon = qthrottled(self.show, timeout=_FRAME)
        workspace.scores_changed.connect(self._scores_changed)
        workspace.changed.connect(self.show)

    def _scores_changed(self) -> None:
        self._show_soon()

    def stop(self) -> None:
        """Show nothing any more."""
        self._show_soon.cancel()

    def show(self) -> None:
        """Show the scores of this moment and their curve."""
        session = self._workspace.session
        self._panel.show_scope(self._workspace.scope)
        if session is None:
            self._panel.show_scores([], [], None)
            return
        names = session.classes
        self._panel.show_scores(names, class_colors(len(names)), self._workspace.scores)
        self._panel.show_history(
            [point.mean_iou for point in session.history],
            [point.mean_dice for point in session.history],
        )


def _saved(saved_at: float | None, pending: int) -> str:
    if pending:
        return "saving…"
    if saved_at is None:
        return ""
    return time.strftime("saved %H:%M", time.localtime(saved_at))
