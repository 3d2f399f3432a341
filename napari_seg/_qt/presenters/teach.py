"""Presents fine-tuning, its verdict, versions and export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from napari_seg._qt.panels.common import quantity
from napari_seg._qt.panels.library import LibraryPanel
from napari_seg._qt.panels.teach import TeachPanel
from napari_seg.corrections.versions import ModelVersion
from napari_seg.workspace import Workspace, obstacles
from napari_seg.workspace.exports import EXPORTS, export
from napari_seg.workspace.teaching import verdict_text

if TYPE_CHECKING:
    from napari_seg.training.loop import Step

__all__ = ["LibraryPresenter", "TeachPresenter"]


class TeachPresenter:
    """Connects :class:`TeachPanel` with the workspace."""

    def __init__(self, panel: TeachPanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        panel.finetuneWanted.connect(workspace.finetune)
        panel.stopWanted.connect(workspace.stop_training)
        panel.keepWanted.connect(workspace.keep)
        panel.discardWanted.connect(workspace.discard)
        workspace.changed.connect(self.show)
        workspace.scores_changed.connect(self.show)
        workspace.training.connect(self._show_step)
        workspace.verdict_changed.connect(self._show_verdict)

    def show(self) -> None:
        """Show what there is to learn from, and what can be done."""
        workspace = self._workspace
        self._panel.show_gates(
            obstacles.to_finetune(workspace), obstacles.to_stop(workspace)
        )
        if workspace.teacher.busy:
            return
        session = workspace.session
        if session is None or session.ledger is None:
            self._panel.show_facts("")
            return
        vouched = session.ledger.vouched_pixels
        self._panel.show_facts(
            f"{quantity(vouched)} px to learn from"
            if vouched
            else "Correct or accept something to learn from."
        )

    def _show_step(self, step: Step | None) -> None:
        if step is None:
            self.show()
            return
        curves = self._workspace.teacher.curves
        self._panel.show_curves(
            (curves.seconds, curves.loss), (curves.holdout_seconds, curves.holdout)
        )
        minutes, seconds = divmod(round(step.seconds_left), 60)
        self._panel.show_facts(f"step {step.step}   {minutes}:{seconds:02d} left")

    def _show_verdict(self) -> None:
        verdict = self._workspace.verdict
        if verdict is None:
            self._panel.hide_verdict()
        else:
            self._panel.show_verdict(
                verdict_text(verdict), better=bool(verdict["improved"])
            )


class LibraryPresenter:
    """Connects :class:`LibraryPanel` with the workspace."""

    def __init__(self, panel: LibraryPanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        panel.restoreWanted.connect(workspace.restore)
        panel.exportWanted.connect(self._export)
        workspace.changed.connect(self.show)
        workspace.verdict_changed.connect(self.show)

    def show(self) -> None:
        """List the versions, and say what can be exported."""
        session = self._workspace.session
        versions = session.versions() if session is not None else ()
        rows = [(version.name, _row(version)) for version in reversed(versions)]
        self._panel.show_versions(rows, self._workspace.version)
        self._panel.show_gates(obstacles.to_export(self._workspace))

    def _export(self, kind: str) -> None:
        what = EXPORTS[kind]
        if what.folder:
            path = QFileDialog.getExistingDirectory(self._panel, what.title)
        else:
            session = self._workspace.session
            name = session.source.name if session is not None else "mask"
            path, _ = QFileDialog.getSaveFileName(
                self._panel, what.title, f"{name}{what.suffix}", what.pattern
            )
        if path:
            export(self._workspace, kind, Path(path))


def _row(version: ModelVersion) -> str:
    """Return a version in one line: ``v002   12 Mar 14:02   Dice 0.81 → 0.88``."""
    when = datetime.fromisoformat(version.card.created).astimezone()
    before, after = (
        card.get("mean_dice") for card in (version.card.before, version.card.after)
    )
    text = f"{version.name}   {when:%d %b %H:%M}"
    if before is not None and after is not None:
        text += f"   Dice {before:.3f} → {after:.3f}"
    return text
