"""Presents classes and review."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QInputDialog
from superqt.utils import qthrottled

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.palette import class_colors
from napari_seg._qt.panels.correct import ClassRow, CorrectPanel
from napari_seg._qt.review_tools import ReviewTools
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.workspace import View, Workspace, obstacles
from napari_seg.workspace.foreign import ForeignLabel, ForeignLabels

__all__ = ["CorrectPresenter"]

#: Milliseconds between two updates of numbers: one frame.
_FRAME = 16
#: Milliseconds between two looks at changes that are not on disk yet.
_SAVING = 300
#: Milliseconds without an edit, after which labels without a class are asked about.
_REST = 250


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
        panel.classShown.connect(mask.show_class)
        panel.classAddWanted.connect(self._ask_for_class)
        panel.renameWanted.connect(self._ask_for_name)
        panel.countableWanted.connect(workspace.set_countable)
        self._tools = ReviewTools(workspace, link, mask)
        panel.review.wanted.connect(self._review)
        panel.review.opening.connect(self._gate_ways)
        panel.toolCancelled.connect(self._tools.cancel)
        self._tools.hintChanged.connect(panel.tool.ask)
        # A large part is accepted while the user goes on.
        self._turns = QTimer()
        self._turns.timeout.connect(self._go_on)
        workspace.review.at_once = False
        workspace.review.waiting.connect(self._start_turns)
        self._foreign = ForeignLabels(workspace)
        self._asked: ForeignLabel | None = None
        panel.foreignAdded.connect(self._add_foreign)
        panel.foreignMistaken.connect(self._take_foreign_back)
        panel.nextWanted.connect(self._next)
        mask.classChosen.connect(lambda _: self.show())
        workspace.changed.connect(self.show)
        self._show_soon = qthrottled(self.show, timeout=10 * _FRAME)
        # The disk is met on another thread, which tells nobody when it is done.
        self._until_saved = QTimer(panel)
        self._until_saved.setSingleShot(True)
        self._until_saved.setInterval(_SAVING)
        self._until_saved.timeout.connect(self.show)
        # Not during a stroke: the dock stands still meanwhile.
        self._until_rest = QTimer()
        self._until_rest.setSingleShot(True)
        self._until_rest.setInterval(_REST)
        self._until_rest.timeout.connect(self._ask_about_foreign)
        workspace.scores_changed.connect(self._scores_changed)
        workspace.predicting.connect(self._predicting)
        workspace.changed.connect(self._ask_about_foreign)

    def _scores_changed(self) -> None:
        self._show_soon()
        self._until_rest.start()

    def _predicting(self, progress: object) -> None:
        # What a prediction makes possible is offered as soon as it has ended.
        if progress is None:
            self.show()

    def stop(self) -> None:
        """Show nothing any more."""
        self._show_soon.cancel()
        self._until_rest.stop()
        self._turns.stop()
        self._workspace.review.at_once = True
        self._workspace.review.finish()
        self._tools.cancel()

    def _view(self) -> View | None:
        session, layer = self._workspace.session, self._mask.layer
        if session is None or layer is None:
            return None
        return self._link.view(layer, session.reading)

    def _review(self, way: str, back: bool) -> None:
        """Accept what is on the screen, or what the user chose from a menu."""
        view, review = self._view(), self._workspace.review
        if view is None:
            return
        if way == "object":
            self._tools.pick_object(back=back)
        elif way == "polygon":
            self._tools.draw_polygon(back=back)
        elif way == "plane":
            review.plane(view.index, back=back)
        elif way == "everything":
            review.everything(back=back)
        else:
            review.view(view, back=back)

    def _start_turns(self) -> None:
        self._turns.start(0)

    def _go_on(self) -> None:
        if not self._workspace.review.step():
            self._turns.stop()

    def _gate_ways(self) -> None:
        pointing = self._tools.obstacle()
        plane = self._workspace.review.plane_obstacle()
        self._panel.review.show_ways(
            {"object": pointing, "polygon": pointing, "plane": plane}
        )

    def _ask_about_foreign(self) -> None:
        found = self._foreign.first()
        self._asked = found
        self._panel.show_foreign(*((found.label, found.pixels) if found else (0, 0)))

    def _add_foreign(self) -> None:
        asked = self._asked
        if asked is None:
            return
        before = asked.before
        names = f" ({', '.join(before)} too)" if before else ""
        name, given = QInputDialog.getText(
            self._panel,
            "Add a class",
            f"Name of the class {asked.label}{names}:",
            text=f"class {asked.label}",
        )
        if given and self._foreign.adopt(asked.label, name):
            self._ask_about_foreign()

    def _take_foreign_back(self) -> None:
        if self._asked is not None:
            self._foreign.take_back(self._asked.label)
            session = self._workspace.session
            if session is not None and self._mask.selected_class == self._asked.label:
                self._mask.choose_class(len(session.classes) - 1)
            self._ask_about_foreign()

    def _next(self) -> None:
        box = self._workspace.next_uncertain()
        if box is not None and self._mask.layer is not None:
            self._link.show(self._mask.layer, box)

    def _ask_for_name(self, class_id: int) -> None:
        session = self._workspace.session
        if session is None or not 0 <= class_id < len(session.classes):
            return
        old = session.classes[class_id]
        name, given = QInputDialog.getText(
            self._panel, "Rename a class", f"New name of {old!r}:", text=old
        )
        if given:
            self._workspace.rename_class(class_id, name)

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
        total = max(sum(count or 0 for count in counts), 1)
        hidden = self._mask.hidden_classes
        countable = [] if session is None else session.countable.tolist()
        rows = [
            ClassRow(
                name,
                color,
                count,
                (count or 0) / total,
                number not in hidden,
                countable[number],
            )
            for number, (name, color, count) in enumerate(
                zip(names, colors, counts, strict=True)
            )
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
        begun = session is not None and ledger is not None and not session.read_only
        self._panel.show_project(session.project.folder if session and begun else None)
        self._panel.show_gates(
            obstacles.to_review(self._workspace), obstacles.to_next(self._workspace)
        )


def _saved(saved_at: float | None, pending: int) -> str:
    if pending:
        return "saving…"
    if saved_at is None:
        return ""
    return time.strftime("saved %H:%M", time.localtime(saved_at))
