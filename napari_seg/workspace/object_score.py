"""The live score of objects: counted on demand, then kept up to date edit by edit."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_seg.corrections.change import Change
from napari_seg.corrections.ledger import ACCEPTED, Ledger, Scope
from napari_seg.scoring.regions import Box, intersection, pixels
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.objects.panoptic import PanopticScore
    from napari_seg.scoring.object_scores import ObjectScores
    from napari_seg.workspace.workspace import Workspace

__all__ = ["MOST_PIXELS", "ObjectScore"]

#: What is counted takes 11 bytes per pixel: 740 MB.
MOST_PIXELS = 8192 * 8192
#: With more changed pixels, or pixels to compare, all is counted anew beside the main
#: thread.
_AT_ONCE, _COMPARED = 1 << 16, 1 << 22


@dataclass(frozen=True)
class _Target:
    """What is counted: a plane or the whole, how, and in which session."""

    session: Session
    scope: Scope
    plane: tuple[int, ...] | None
    n_classes: int
    countable: bytes

    def part(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the part of an array that is counted."""
        return array if self.plane is None else np.asarray(array[self.plane])

    def place(self, box: Box) -> Box | None:
        """Return where a box of the mask lies in the part, None if it does not."""
        if self.plane is None:
            return box
        plane = tuple(slice(at, at + 1) for at in self.plane)
        inside = intersection(box, (*plane, *box[len(plane) :]))
        return None if inside is None else inside[len(plane) :]

    @property
    def leading(self) -> str:
        """Letters of the axes before Y and X of the part."""
        return self.session.reading.leading if self.plane is None else ""

    def known(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a box were reviewed."""
        accepted: NDArray[np.bool_] = self.session.mask.state(box) & ACCEPTED > 0
        return accepted


class ObjectScore:
    """PQ and AP of the prediction against the mask, in the scope of the pixel score.

    It costs memory and a first count, so it is made when somebody wants it, beside the
    main thread; edits that come meanwhile are counted when it is there.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    runner : Runner
        Drives the counting.

    Attributes
    ----------
    wanted : bool
        Whether somebody asked for it.
    """

    #: Others scores, or the reason why there are none.
    changed = Signal()

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self.wanted = False
        self._target: _Target | None = None
        self._score: PanopticScore | None = None
        self._task: Task | None = None
        self._stopped = threading.Event()
        self._waiting: list[Box] = []
        self._resting = False
        workspace.changed.connect(self._follow)
        workspace.scores_changed.connect(self._follow)
        workspace.stroke_ended.connect(self._rested)

    def want(self, wanted: bool) -> None:
        """Count objects from now on, or no more."""
        self.wanted = wanted
        self._follow()
        self.changed.emit()

    @property
    def scores(self) -> ObjectScores | None:
        """The scores of this moment, None if there are none now: see `reason`."""
        return None if self._score is None else self._score.scores

    @property
    def busy(self) -> bool:
        """Whether objects are being counted for the first time."""
        return self._task is not None

    @property
    def obstacle(self) -> str:
        """Why there can be no scores of objects; empty if there can."""
        session = self._workspace.session
        if session is None or session.ledger is None:
            return "There is no mask yet: press Predict view or Predict all first."
        if not any(session.countable[: len(session.classes)]):
            return (
                "No class is countable: right-click on a class in the list to change "
                "that."
            )
        return self._too_large(session)

    def _too_large(self, session: Session) -> str:
        plane = self._workspace.scope == "slice"
        shape = session.mask.shape[-2:] if plane else session.mask.shape
        stack = len(session.mask.shape) > 2
        instead = " Score the current slice instead." if stack and not plane else ""
        if prod(shape) > MOST_PIXELS:
            return (
                f"Objects are counted in up to {quantity(MOST_PIXELS)} px, and these "
                f"are {quantity(prod(shape))}.{instead}"
            )
        return ""

    @property
    def reason(self) -> str:
        """Why there are no scores now; empty if there are."""
        if self._score is not None:
            return ""
        if self.obstacle:
            return self.obstacle
        if self._predicting:
            return "Objects are counted when the prediction has ended."
        return "The objects are being counted." if self.wanted else ""

    def follow(self, change: Change) -> None:
        """Take in a change of the mask, the reference or what is reviewed."""
        target = self._target
        box = None if target is None else target.place(change.region)
        if target is None or box is None:
            return
        if self._is_large(target, change, box):
            # To count it piece by piece would keep the main thread.
            self._resting = True
            self.forget()
            self.changed.emit()
        elif self._score is None:
            self._waiting.append(box)
        else:
            self._update(target, self._score, box)

    def _is_large(self, target: _Target, change: Change, box: Box) -> bool:
        waiting = sum(pixels(each) for each in self._waiting)
        if change.kind in ("predict", "revert") or pixels(box) + waiting > _COMPARED:
            return True
        if self._score is None:
            return False
        ledger = target.session.mask
        masks = target.part(ledger.reference), target.part(ledger.labels)
        return self._score.differing(*masks, box) > _AT_ONCE

    def _rested(self) -> None:
        """Count what was too much while it went on."""
        self._resting = False
        self._follow()

    def forget(self) -> None:
        """Stop what is under way, and have no scores."""
        self._stopped.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._target = self._score = None
        self._waiting.clear()

    def _update(self, target: _Target, score: PanopticScore, box: Box) -> None:
        ledger = target.session.mask
        score.update(
            target.part(ledger.reference),
            target.part(ledger.labels),
            box,
            target.known if target.scope == "reviewed" else None,
        )

    def _wanted_target(self) -> _Target | None:
        session, scope = self._workspace.session, self._workspace.scope
        if not self.wanted or session is None or self.obstacle:
            return None
        plane = session.slice_index if scope == "slice" else None
        if scope == "slice" and plane is None:
            return None
        kinds = session.countable.tobytes()
        return _Target(session, scope, plane, len(session.classes), kinds)

    def _follow(self) -> None:
        """Count what is wanted now, unless that is done already."""
        target = self._wanted_target()
        if target == self._target:
            return
        before = self._target
        self.forget()
        if target is not None and not self._resting and not self._predicting:
            self._begin(target)
        if before is not None or self._target is not None:
            self.changed.emit()

    @property
    def _predicting(self) -> bool:
        return self._workspace.predictor.busy

    def _begin(self, target: _Target) -> None:
        self._target = target
        stopped = self._stopped = threading.Event()
        # What ends at once, in a script, must not look as if it were under way.
        ended: list[bool] = []

        def counted(score: PanopticScore) -> None:
            self._score = score
            for box in self._waiting:
                self._update(target, score, box)
            self._waiting.clear()

        def end(error: Exception | None = None) -> None:
            ended.append(True)
            self._task = None
            if error is not None:
                # It would fail again.
                self.wanted = False
                self.forget()
                self._workspace.failed.emit(error)
            self.changed.emit()

        task = self._runner(
            _count(target, target.session.mask, stopped),
            on_item=counted,
            on_done=end,
            on_error=end,
        )
        if not ended:
            self._task = task


class _Stopped(Exception):
    """Raised inside work that is no longer wanted."""


def _count(target: _Target, ledger: Ledger, stopped: threading.Event) -> Job:
    # Late, since scikit-image takes its time to load.
    from napari_seg.objects.panoptic import PanopticScore

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    known = ledger.state() & ACCEPTED > 0 if target.scope == "reviewed" else None
    with suppress(_Stopped):
        # They are copied, here, where nobody waits; what the user paints meanwhile is
        # compared when this is done.
        yield PanopticScore(
            target.part(ledger.reference),
            target.part(ledger.labels),
            target.n_classes,
            np.frombuffer(target.countable, bool),
            target.leading,
            known,
            check,
        )
