"""Presents versions, history and export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_seg._qt.panels.library import LibraryPanel
from napari_seg._qt.signature import ask_for_signature
from napari_seg.corrections.activity import Summary
from napari_seg.corrections.versions import ModelVersion
from napari_seg.errors import NapariSegError
from napari_seg.models.published import Fetched
from napari_seg.workspace import Progress, Workspace, obstacles
from napari_seg.workspace.exports import EXPORTS, export
from napari_seg.workspace.models_out import Signature, model_file
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.corrections.history import Moment

__all__ = ["LibraryPresenter"]

#: Milliseconds after a change until the open history is listed anew.
_LISTING = 500
_MOST_MOMENTS = 500
_HAPPENED = {
    "predict": "prediction",
    "accept": "accepted",
    "unaccept": "taken back",
    "adopt": "taken as truth",
    "revert": "reverted",
}


class LibraryPresenter:
    """Connects :class:`LibraryPanel` with the workspace."""

    def __init__(self, panel: LibraryPanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        #: As it was given last.
        self._signature = Signature()
        panel.restoreWanted.connect(workspace.restore)
        panel.exportWanted.connect(self._export)
        panel.historyWanted.connect(workspace.past.list_moments)
        panel.revertWanted.connect(workspace.past.revert)
        self._list_soon = QTimer(panel)
        self._list_soon.setSingleShot(True)
        self._list_soon.setInterval(_LISTING)
        self._list_soon.timeout.connect(self._list)
        workspace.moments_listed.connect(self._show_moments)
        workspace.scores_changed.connect(self._scores_changed)
        workspace.changed.connect(self.show)
        workspace.verdict_changed.connect(self.show)
        workspace.predicting.connect(self._predicting)

    def show(self) -> None:
        """List the versions, and say what can be exported."""
        session = self._workspace.session
        versions = session.versions() if session is not None else ()
        rows = [(version.name, _row(version)) for version in reversed(versions)]
        self._panel.show_versions(rows, self._workspace.version)
        self._show_gates()

    def _show_gates(self) -> None:
        workspace = self._workspace
        self._panel.show_gates(
            obstacles.to_export(workspace), obstacles.to_revert(workspace)
        )

    def _predicting(self, progress: Progress | Fetched | None) -> None:
        # At its begin and end: meanwhile nothing can be reverted.
        if progress is None or progress.done == 0:
            self._show_gates()

    def _scores_changed(self) -> None:
        if not self._list_soon.isActive():
            self._list_soon.start()

    def _list(self) -> None:
        self._show_gates()
        if self._panel.shows_history:
            self._workspace.past.list_moments()

    def _show_moments(self, moments: Sequence[Moment]) -> None:
        newest = list(reversed(moments))[:_MOST_MOMENTS]
        rows: list[tuple[Any, str]] = [(each, _moment_row(each)) for each in newest]
        if rows and len(newest) == len(moments):
            rows.append((None, "before everything above"))
        self._panel.show_moments(rows)
        session = self._workspace.session
        diary = None if session is None else session.diary
        self._panel.show_work("" if diary is None else _work_row(diary.summary))

    def _export(self, kind: str) -> None:
        what = EXPORTS[kind]
        given: tuple[Signature, ...] = ()
        try:
            # Before questions that would be answered in vain.
            what.check()
            if what.signed:
                model_file(self._workspace)
        except NapariSegError as error:
            self._workspace.failed.emit(error)
            return
        if what.signed:
            signature = ask_for_signature(self._panel, self._signature)
            if signature is None:
                return
            self._signature = signature
            given = (signature,)
        if what.folder:
            path = QFileDialog.getExistingDirectory(self._panel, what.title)
        else:
            session = self._workspace.session
            name = session.source.name if session is not None else "mask"
            path, _ = QFileDialog.getSaveFileName(
                self._panel, what.title, f"{name}{what.suffix}", what.pattern
            )
        if path:
            export(self._workspace, kind, Path(path), *given)


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


def _moment_row(moment: Moment) -> str:
    """Return a moment in one line: ``14:02:31   2 strokes, 1 234 px``."""
    when = datetime.fromtimestamp(moment.when).astimezone()
    day = "" if when.date() == date.today() else f"{when:%d %b} "
    what = _HAPPENED.get(moment.kind, "")
    if moment.kind == "edit":
        what = f"{moment.strokes} stroke{'s' * (moment.strokes != 1)}"
    return f"{day}{when:%H:%M:%S}   {what}, {quantity(moment.pixels)} px"


def _work_row(work: Summary) -> str:
    """Return all work in one line: ``12 min of work, 48 strokes``."""
    minutes = round(work.seconds / 60)
    spent = f"{minutes} min" if minutes else f"{round(work.seconds)} s"
    return f"{spent} of work, {work.strokes} stroke{'s' * (work.strokes != 1)}"
