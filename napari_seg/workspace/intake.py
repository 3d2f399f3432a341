"""Masks from elsewhere, taken in as the prediction or as the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_seg.corrections.change import Change, Pixels
from napari_seg.corrections.ledger import UNTOUCHED, Ledger
from napari_seg.corrections.settled import untouched_label
from napari_seg.errors import InputError, NapariSegError
from napari_seg.scoring.regions import Box
from napari_seg.scoring.tally import UNKNOWN
from napari_seg.workspace.meaning import (
    Meaning,
    Survey,
    looks_like_mask,
    meanings,
    misfit,
    read_pieces,
    survey,
)
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task
from napari_seg.workspace.uncertainty import UncertaintyMap
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.workspace.workspace import Workspace

__all__ = ["ForeignMask", "Intake", "Taken", "Treatment"]

Treatment: TypeAlias = Literal["prediction", "truth"]


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


@dataclass(eq=False)
class Taken:
    """A truth that was taken in, as one step that can be undone.

    Attributes
    ----------
    moved : callable
        To be called when the step was undone (True) or done again (False).
    """

    moved: Callable[[bool], None] = lambda undone: None
    changes: list[Change] = field(default_factory=list)
    #: The objects before and after, each with how many they are.
    objects: tuple[_Objects, _Objects] | None = None


_Objects: TypeAlias = tuple[NDArray[np.uint32] | None, int | None]


class Intake:
    """Takes masks in, beside the main thread as far as that goes.

    Parameters
    ----------
    workspace : Workspace
        Whose mask they become, or are compared with.
    runner : Runner
        Drives the reading.

    Attributes
    ----------
    busy : bool
        Whether a mask is being taken in.
    """

    #: It has begun or ended.
    changed = Signal()
    #: A truth was taken in, as a :class:`Taken`: let the user undo it.
    taken = Signal(object)

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self._task: Task | None = None
        self.busy = False
        workspace.mask_left.connect(self._abandon)

    def obstacle(self, mask: ForeignMask) -> str:
        """Return why a mask cannot be taken in, or nothing; it is not read."""
        session = self._workspace.session
        if session is None:
            return self._workspace.misfit or "Open the image of the mask first."
        if session.read_only:
            return "Another viewer is working on this image; here it is read-only."
        if self.busy:
            return "A mask is being taken in."
        return self.misfit(mask)

    def misfit(self, mask: ForeignMask) -> str:
        """Return why a mask is none of this image, or nothing; it is not read."""
        session = self._workspace.session
        if session is None:
            return ""
        shape = session.reading.spatial_shape
        return misfit(mask.name, mask.data, mask.rgb, shape)

    def meanings(self, found: Survey) -> list[Meaning]:
        """Return how the numbers of a mask can be read here, the likeliest first."""
        session = self._workspace.session
        return [] if session is None else meanings(found, session.classes)

    def look(
        self,
        mask: ForeignMask,
        found: Callable[[Survey], None],
        doubtful: bool = False,
    ) -> None:
        """Read a mask and tell what is in it.

        Parameters
        ----------
        mask : ForeignMask
            Which one.
        found : callable
            Called with what is in it.
        doubtful : bool
            Whether it may as well be an image: nothing is told of what looks like one.
        """

        def job() -> Job:
            if not doubtful:
                yield survey(mask.data)
            elif looks_like_mask(mask.data):
                seen = survey(mask.data)
                if seen.mask_like:
                    yield seen

        self._runner(
            job(),
            on_item=found,
            on_done=lambda: None,
            on_error=lambda error: self._workspace.failed.emit(_named(mask, error)),
        )

    def take(self, mask: ForeignMask, meaning: Meaning, treatment: Treatment) -> bool:
        """Take a mask in; return whether that has begun.

        As the *prediction* it is what the scores compare the user's mask with, and it
        is written wherever the user vouches for nothing.  As the *truth* it is what
        the user vouches for, wherever it is known; that is one step to undo.

        Parameters
        ----------
        mask : ForeignMask
            Which one.
        meaning : Meaning
            What its numbers mean.
        treatment : str
            What it is taken for.
        """
        workspace = self._workspace
        obstacle = self.obstacle(mask)
        if obstacle:
            workspace.failed.emit(InputError(obstacle))
            return False
        if not workspace.begin() or workspace.session is None:
            return False
        # Only now is it known whether somebody else works on the image.
        if workspace.session.read_only or not self._add_classes(meaning):
            return False
        workspace.cancel()
        workspace.comparison.end()
        workspace.settling.emit()
        self.busy = True
        self.changed.emit()
        workspace.changed.emit()
        intaken = _Intaken(self, workspace, workspace.session, mask, meaning, treatment)
        task = self._runner(
            intaken.job(),
            on_item=lambda piece: intaken.write(*piece),
            on_done=intaken.end,
            on_error=lambda error: intaken.end(_named(mask, error)),
        )
        self._task = task if self.busy else None
        return True

    def ended(self) -> None:
        """Be ready for the next one."""
        self.busy, self._task = False, None
        self.changed.emit()
        self._workspace.changed.emit()

    def _add_classes(self, meaning: Meaning) -> bool:
        session = self._workspace.session
        assert session is not None
        try:
            for name in meaning.added:
                session.add_class(name)
        except NapariSegError as error:
            self._workspace.failed.emit(error)
            return False
        return True

    def _abandon(self) -> None:
        """Give up what belongs to an image that is no longer there."""
        task, self._task = self._task, None
        self.busy = False
        if task is not None:
            task.cancel()
            self.changed.emit()


class _Intaken:
    """One mask on its way in."""

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
        self._taken = Taken(self._moved)
        self._known = 0
        shape = session.mask.shape
        self._ids = np.zeros(shape, np.uint32) if meaning.objects else None

    def job(self) -> Job:
        """Yield the classes in pieces; runs beside the main thread."""
        for box, values in read_pieces(self._mask.data, self._session.mask.shape):
            if self._ids is not None:
                self._ids[box] = self._meaning.ids(values)
            yield box, self._meaning.classes(values)

    def write(self, box: Box, classes: NDArray[np.uint8]) -> None:
        """Write a piece into the mask."""
        if self._workspace.session is not self._session:
            return
        ledger = self._session.mask
        self._known += int(np.count_nonzero(classes != UNKNOWN))
        if self._treatment == "truth":
            change = ledger.adopt(box, classes)
            self._taken.changes.append(change)
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
        else:
            self._take_objects()
        if self._treatment == "prediction":
            # How sure another program was, nobody knows.
            self._session.uncertainty = UncertaintyMap(self._session.mask.shape)
        self._show()
        if self._taken.changes:
            self._intake.taken.emit(self._taken)
        self._intake.ended()
        if error is None:
            workspace.told.emit(self._words())

    def _show(self) -> None:
        self._workspace.pixels_changed.emit(None)
        self._workspace.reviewed.emit()
        self._workspace.stroke_finished()

    def _take_objects(self) -> None:
        objects = self._workspace.objects
        if self._ids is not None:
            before = objects.ids, objects.count
            after = self._ids, self._meaning.objects
            self._taken.objects = before, after
            objects.adopt(*after)

    def _words(self) -> str:
        name, pixels = self._mask.name, f"{quantity(self._known)} px"
        if self._treatment == "truth":
            return (
                f"{name} is the truth now: {pixels} of it are known, and vouched for. "
                "Undo in the mask layer (Ctrl+Z) takes that back."
            )
        return (
            f"{name} is the prediction now ({pixels}): the scores compare it with the "
            "mask as you correct it."
        )

    # Undone, and done again ---------------------------------------------------

    def _moved(self, undone: bool) -> None:
        workspace = self._workspace
        if workspace.session is not self._session:
            return
        for change in self._taken.changes:
            # What a script did meanwhile is an edit of its own.
            workspace.edited(change.region)
            ledger = self._session.mask
            earlier = _moved(ledger, change, undone)
            workspace.record(ledger.restore(change.region, earlier))
            workspace.pixels_changed.emit(change.region)
        if self._taken.objects is not None:
            here, there = self._taken.objects
            here, there = (there, here) if undone else (here, there)
            if workspace.objects.ids is here[0]:
                workspace.objects.adopt(*there)
        workspace.reviewed.emit()
        workspace.stroke_finished()


def _moved(ledger: Ledger, change: Change, undone: bool) -> Pixels:
    """Return a box with a change undone, or done again, and all else as it is."""
    old, new = change.before, change.after
    touched = (old.labels != new.labels) | (old.state != new.state)
    wanted = old if undone else new
    box = change.region
    labels = np.where(touched, wanted.labels, ledger.labels[box])
    state = np.where(touched, wanted.state, ledger.state(box))
    # Meanwhile the model may have said something else.
    free = touched & (state == UNTOUCHED)
    np.copyto(labels, untouched_label(ledger.reference[box]), where=free)
    return Pixels(labels, state)


def _named(mask: ForeignMask, error: Exception) -> Exception:
    """Return an error that says which mask it is about."""
    ours = isinstance(error, NapariSegError)
    return type(error)(f"{mask.name}: {error}") if ours else error
