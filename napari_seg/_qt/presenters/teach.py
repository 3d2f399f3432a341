"""Presents fine-tuning and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superqt.utils import qthrottled

from napari_seg._qt.panels.teach import TeachPanel
from napari_seg.models.published import Fetched
from napari_seg.workspace import Workspace, obstacles
from napari_seg.workspace.lesson import kept_and_new
from napari_seg.workspace.teaching import verdict_text
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.training.loop import Step

__all__ = ["TeachPresenter"]

#: Milliseconds between two updates while the user paints.
_PACE = 160


class TeachPresenter:
    """Connects :class:`TeachPanel` with the workspace."""

    def __init__(self, panel: TeachPanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        panel.finetuneWanted.connect(workspace.finetune)
        panel.stopWanted.connect(workspace.stop_training)
        panel.keepWanted.connect(workspace.keep)
        panel.discardWanted.connect(workspace.discard)
        workspace.changed.connect(self.show)
        # Not with every dab of the brush: the score goes first.
        self._show_soon = qthrottled(self.show, timeout=_PACE)
        workspace.scores_changed.connect(self._scores_changed)
        workspace.training.connect(self._show_step)
        workspace.verdict_changed.connect(self._show_verdict)

    def _scores_changed(self) -> None:
        self._show_soon()

    def stop(self) -> None:
        """Show nothing any more."""
        self._show_soon.cancel()

    def show(self) -> None:
        """Show what there is to learn from, and what can be done."""
        workspace = self._workspace
        self.show_gates()
        if workspace.teacher.busy:
            if workspace.teacher.phase:
                self._panel.show_facts(workspace.teacher.phase)
            return
        session = workspace.session
        if session is None or session.ledger is None:
            self._panel.show_facts("")
            return
        vouched, choice = session.ledger.vouched_pixels, workspace.choice
        if not vouched:
            self._panel.show_facts("Correct or accept something to learn from.")
            return
        changes = kept_and_new(session, choice) if choice else ""
        facts = f"{quantity(vouched)} px to learn from\n{changes}"
        self._panel.show_facts(facts.strip())

    def show_gates(self) -> None:
        """Show what can be done."""
        workspace = self._workspace
        self._panel.show_gates(
            obstacles.to_finetune(workspace), obstacles.to_stop(workspace)
        )

    def _show_step(self, step: Step | Fetched | None) -> None:
        if step is None:
            self.show()
            return
        if isinstance(step, Fetched):
            self._panel.show_facts(step.text)
            return
        curves = self._workspace.teacher.curves
        self._panel.show_curves(
            (curves.seconds, curves.loss), (curves.holdout_seconds, curves.holdout)
        )
        minutes, seconds = divmod(round(step.seconds_left), 60)
        left = f"{minutes}:{seconds:02d} left"
        self._panel.show_facts(
            f"step {step.step}   {self._workspace.teacher.phase or left}"
        )
        if self._workspace.teacher.over:
            self.show_gates()

    def _show_verdict(self) -> None:
        verdict = self._workspace.verdict
        if verdict is None:
            self._panel.hide_verdict()
        else:
            self._panel.show_verdict(
                verdict_text(verdict), better=bool(verdict["improved"])
            )
