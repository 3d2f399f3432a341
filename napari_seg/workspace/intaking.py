"""One mask from elsewhere on its way in, and back out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Change, Pixels
from napari_seg.corrections.ledger import UNTOUCHED, Ledger
from napari_seg.corrections.settled import untouched_label
from napari_seg.errors import NapariSegError
from napari_seg.scoring.regions import Box, pixels
from napari_seg.scoring.tally import UNKNOWN
from napari_seg.workspace.meaning import Meaning, read_pieces
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task, run_inline
from napari_seg.workspace.uncertainty import UncertaintyMap
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.workspace.intake import Intake
    from napari_seg.workspace.numbered import Numbered
    from napari_seg.workspace.workspace import Workspace

__all__ = ["ForeignMask", "Intaking", "Taken", "Treatment", "named"]

Treatment: TypeAlias = Literal["prediction", "truth"]

#: Pixels written into the mask at once, of the main thread's time.
_PIECE = 1 << 18
#: Pixels up to which nobody waits for undo.
_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class ForeignMask:
    """A mask that the viewer shows and that is not ours.

    Attributes
    ----------
    name : str
        What the user calls it.
    data : array
        Its pixels: NumPy, dask, zarr, or a list of levels.
    rgb : bool
        Whether they are colours.
    """

    name: str
    data: Any
    rgb: bool = False


@dataclass(frozen=True, eq=False)
class Taken:
    """A truth that was taken in, as one step that can be undone.

    Attributes
    ----------
    moved : callable
        To be called when the step was undone (True) or done again (False).
    """

    moved: Callable[[bool], None]


class Intaking:
    """One mask on its way in, and back out.

    Parameters
    ----------
    intake : Intake
        Told of the end, and of what can be undone.
    workspace, session : Workspace, Session
        Whose mask it is written into; once another session is there, nothing is.
    mask, meaning, treatment
        What is taken in, what its numbers mean, and what it is taken for.
    """

    def __init__(
        self,
        intake: Intake,
        workspace: Workspace,
        session: Session,
        mask: ForeignMask,
        meaning: Meaning,
        treatment: Treatment,
    ) -> None:
        self._intake, self._workspace = intake, workspace
        self._session, self._mask = session, mask
        self._meaning, self._treatment = meaning, treatment
        self._changes: list[Change] = []
        # The objects before and after, and whether they are taken off meanwhile:
        # numbers that come and go with the mask need not follow it piece by piece.
        self._before: Numbered | None = None
        self._after: Numbered | None = None
        self._off = False
        self._moving: Task | None = None
        self._known = 0
        shape = session.mask.shape
        self._ids = np.zeros(shape, np.uint32) if meaning.objects else None

    def job(self) -> Job:
        """Yield the classes in pieces; runs beside the main thread."""
        # Late, since scikit-image takes its time to load.
        from napari_seg.workspace.numbered import Numbered

        shape = self._session.mask.shape
        for box, values in read_pieces(self._mask.data, shape, _PIECE):
            if self._ids is not None:
                self._ids[box] = self._meaning.ids(values)
            yield box, self._meaning.classes(values)
        if self._ids is not None:
            leading, countable = self._session.reading.leading, self._session.countable
            self._after = Numbered(self._ids, leading, countable=countable)

    def write(self, box: Box, classes: NDArray[np.uint8]) -> None:
        """Write a piece into the mask."""
        if self._workspace.session is not self._session:
            return
        if self._ids is not None and not self._off:
            self._off, self._before = True, self._workspace.objects.take_off()
        ledger = self._session.mask
        self._known += int(np.count_nonzero(classes != UNKNOWN))
        if self._treatment == "truth":
            change = ledger.adopt(box, classes)
            self._changes.append(_compact(change))
        else:
            change = ledger.predicted(box, classes)
        self._workspace.record(change)
        self._workspace.pixels_changed.emit(box)

    def end(self, error: Exception | None = None) -> None:
        """Show what came in, and say so."""
        workspace = self._workspace
        if workspace.session is not self._session:
            return
        if error is not None:
            workspace.failed.emit(error)
        self._take_objects(self._after)
        if self._treatment == "prediction":
            # How sure another program was, nobody knows.
            self._session.uncertainty = UncertaintyMap(self._session.mask.shape)
        self._show()
        if self._changes:
            self._intake.taken.emit(Taken(self._moved))
        self._intake.ended()
        if error is None:
            workspace.told.emit(self._words())

    def _show(self) -> None:
        self._workspace.pixels_changed.emit(None)
        self._workspace.reviewed.emit()
        self._workspace.stroke_finished()

    def _take_objects(self, numbered: Numbered | None) -> None:
        if self._off:
            self._off = False
            self._workspace.objects.adopt(numbered)

    def _words(self) -> str:
        name, known = self._mask.name, f"{quantity(self._known)} px"
        if self._treatment == "truth":
            return (
                f"{name} is the truth now: {known} of it are known, and vouched for. "
                "Undo in the mask layer (Ctrl+Z) takes that back."
            )
        return (
            f"{name} is the prediction now ({known}): the scores compare it with the "
            "mask as you correct it."
        )

    # Undone, and done again ---------------------------------------------------

    def _moved(self, undone: bool) -> None:
        if self._workspace.session is not self._session:
            return
        if self._moving is not None:
            # Both ways are told in absolute values: what was done is done back.
            self._moving.cancel()
        here = self._after if undone else self._before
        if self._ids is not None and self._workspace.objects.numbered is here:
            self._workspace.objects.take_off()
            self._off = True
        changes = self._changes
        if sum(pixels(change.region) for change in changes) <= _AT_ONCE:
            run: Runner = run_inline
        else:
            run = self._workspace.runner
        self._moving = run(
            _steps(changes, undone),
            on_item=self._move,
            on_done=lambda: self._has_moved(undone),
            on_error=self._workspace.failed.emit,
        )

    def _move(self, step: _Step) -> None:
        workspace, box = self._workspace, step.box
        if workspace.session is not self._session:
            return
        # What a script did meanwhile is an edit of its own.
        workspace.edited(box)
        change = self._session.mask.restore(box, step.applied(self._session.mask))
        workspace.record(change)
        workspace.pixels_changed.emit(box)

    def _has_moved(self, undone: bool) -> None:
        workspace, self._moving = self._workspace, None
        if workspace.session is not self._session:
            return
        self._take_objects(self._before if undone else self._after)
        workspace.reviewed.emit()
        workspace.stroke_finished()
        self._intake.moved.emit(self._mask, undone)


@dataclass(frozen=True, eq=False)
class _Step:
    """A part of the way back: labels and flags where they change, all else as it is."""

    box: Box
    touched: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    state: NDArray[np.uint8]

    def applied(self, ledger: Ledger) -> Pixels:
        """Return what the box becomes."""
        box, touched = self.box, self.touched
        labels = np.where(touched, self.labels, ledger.labels[box])
        state = np.where(touched, self.state, ledger.state(box))
        # Meanwhile the model may have said something else.
        free = touched & (state == UNTOUCHED)
        np.copyto(labels, untouched_label(ledger.reference[box]), where=free)
        return Pixels(labels, state)


def _compact(change: Change) -> Change:
    """Return a change for keeping: the journal unpacks the one that it writes."""
    before, after = change.before.packed_again(), change.after.packed_again()
    return Change(change.kind, change.region, before, after)


def _steps(changes: list[Change], undone: bool) -> Job:
    for change in changes:
        old, new = change.before.packed_again(), change.after.packed_again()
        touched = (old.labels != new.labels) | (old.state != new.state)
        wanted = old if undone else new
        yield _Step(change.region, touched, wanted.labels, wanted.state)


def named(mask: ForeignMask, error: Exception) -> Exception:
    """Return an error that says which mask it is about."""
    ours = isinstance(error, NapariSegError)
    return type(error)(f"{mask.name}: {error}") if ours else error
