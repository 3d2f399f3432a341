"""Masks from elsewhere, taken in as the prediction or as the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_seg.errors import InputError, NapariSegError
from napari_seg.workspace.intaking import (
    ForeignMask,
    Intaking,
    Taken,
    Treatment,
    named,
)
from napari_seg.workspace.meaning import (
    Meaning,
    Survey,
    looks_like_mask,
    meanings,
    misfit,
    survey,
)
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    from napari_seg.workspace.workspace import Workspace

__all__ = ["ForeignMask", "Intake", "Taken", "Treatment"]


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
    #: The truth of this :class:`ForeignMask` was undone (True), or done again.
    moved = Signal(object, bool)

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
            on_error=lambda error: self._workspace.failed.emit(named(mask, error)),
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
        intaking = Intaking(
            self, workspace, workspace.session, mask, meaning, treatment
        )
        task = self._runner(
            intaking.job(),
            on_item=lambda piece: intaking.write(*piece),
            on_done=intaking.end,
            on_error=lambda error: intaking.end(named(mask, error)),
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
