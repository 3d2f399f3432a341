"""The objects of the mask: numbered, measured, and taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_seg.corrections.change import Change
from napari_seg.errors import InputError, StorageError
from napari_seg.workspace.object_jobs import find_job, measure_job, read_job
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task

# What numbers objects is imported late, since scikit-image takes its time to load.
if TYPE_CHECKING:
    from napari_seg.corrections.objects import ObjectsFile
    from napari_seg.corrections.store import ImageStore
    from napari_seg.inference.object_maps import Seen
    from napari_seg.objects.numbering import Split
    from napari_seg.workspace.numbered import Numbered
    from napari_seg.workspace.object_edits import Edit, Place
    from napari_seg.workspace.objects_saver import ObjectsSaver
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Objects"]

WriteMask: TypeAlias = Callable[[tuple[NDArray[np.intp], ...], NDArray[np.uint8]], None]


class Objects:
    """Numbers the objects of the mask, and measures them, beside the main thread.

    Once found they follow the mask, and are saved with it.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    runner : Runner
        Drives the work.

    Attributes
    ----------
    write_mask : callable
        Called with indices along each axis and labels, to correct the mask; whoever
        shows it puts a way here that can be undone.
    """

    #: Objects were found or forgotten, or work has begun or ended.
    changed = Signal()
    #: A table, a row for each object.
    measured = Signal(object)
    #: Numbers have followed an edit of the mask within this box.
    renumbered = Signal(object)

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self._numbered: Numbered | None = None
        self._of: Session | None = None
        self._task: Task | None = None
        self._stopped = threading.Event()
        # What happens to the mask while its objects are found or read.
        self._meanwhile: list[Change] | None = None
        self._told_count: int | None = None
        self._saver: ObjectsSaver | None = None
        self._file: tuple[ImageStore, ObjectsFile] | None = None
        self.write_mask: WriteMask = self._write_directly
        self.changed.connect(self._note_count)
        workspace.changed.connect(self._follow)
        workspace.mask_started.connect(self._load)
        workspace.stroke_ended.connect(self._stroke_ended)
        workspace.mask_left.connect(self._left)
        workspace.went_back.connect(self._forget_undo)

    @property
    def numbered(self) -> Numbered | None:
        """The objects, and what they need to follow the mask."""
        return self._numbered

    @property
    def ids(self) -> NDArray[np.uint32] | None:
        """Number of the object that each pixel belongs to; None until they were found.

        Of the mask's shape. Whoever edits it in place says so to :meth:`edited`.
        """
        return None if self._numbered is None else self._numbered.ids

    @property
    def count(self) -> int | None:
        """How many objects there are; None until they were found."""
        return None if self._numbered is None else len(self._numbered.areas)

    @property
    def busy(self) -> bool:
        """Whether objects are being found or measured."""
        return self._task is not None

    @property
    def obstacle(self) -> str:
        """Why objects cannot be found now; empty if they can."""
        session = self._workspace.session
        if session is None or session.ledger is None:
            return "There is no mask yet: predict or paint one first."
        if self._workspace.predictor.busy:
            return "Wait until the prediction has ended, or cancel it."
        return "They are being found or measured." if self.busy else ""

    @property
    def measuring_obstacle(self) -> str:
        """Why they cannot be measured now; empty if they can."""
        return self.obstacle or ("" if self.ids is not None else "Find objects first.")

    @property
    def editing_obstacle(self) -> str:
        """Why they cannot be edited now; empty if they can."""
        return "" if self.ids is not None else self.measuring_obstacle

    @property
    def splits(self) -> tuple[Split, ...]:
        """Ways to tell objects apart that the model in use allows."""
        choice = self._workspace.choice
        if choice is None or choice.untrained or choice.spec.ndim != 2:
            return ("shape", "none")
        more: tuple[Split, ...] = ("model",) if choice.spec.object_head else ()
        return ("shape", "none", "probability", *more)

    def find(self, split: Split) -> None:
        """Find the objects of the mask as it is now."""
        session = self._workspace.session
        if self.obstacle or session is None:
            return
        self._workspace.settling.emit()
        stopped = self._stopped = threading.Event()
        self._meanwhile = []
        model_needed = split in ("probability", "model")
        seen = self._seen(session, stopped) if model_needed else None
        job = find_job(session, split, stopped, seen)
        self._start(job, partial(self._found, session))

    def _seen(
        self, session: Session, stopped: threading.Event
    ) -> Callable[[], Seen] | None:
        workspace, choice = self._workspace, self._workspace.choice
        if choice is None:
            return None
        return partial(
            workspace.predictor.seen,
            session,
            choice,
            workspace.predict_options,
            workspace.device,
            stopped.is_set,
        )

    def measure(self) -> None:
        """Measure the objects: :attr:`measured` tells the table."""
        session = self._workspace.session
        if self.measuring_obstacle or session is None or self.ids is None:
            return
        self._workspace.settling.emit()
        stopped = self._stopped = threading.Event()
        self._start(measure_job(session, self.ids, stopped), self.measured.emit)

    def cancel(self) -> None:
        """Stop what is under way."""
        self._stopped.set()
        task, self._task = self._task, None
        self._meanwhile = None
        if task is not None:
            task.cancel()
            self.changed.emit()

    def forget(self) -> None:
        """Have no objects any more; what is saved of them stays."""
        if self._numbered is not None:
            self._left()
            self._numbered = None
            self.changed.emit()

    def close(self) -> None:
        """Stop, and save."""
        self.cancel()
        self._left()

    def take_off(self) -> Numbered | None:
        """Have no objects any more, and return those there were, for :meth:`adopt`."""
        numbered = self._numbered
        self.cancel()
        self.forget()
        return numbered

    def adopt(self, numbered: Numbered | None) -> None:
        """Have objects that came from elsewhere, right for the mask.

        None is none, and none are there either when the image is opened again.
        """
        session = self._workspace.session
        self.cancel()
        self.forget()
        if session is None:
            return
        if numbered is not None:
            self._found(session, numbered)
            self.changed.emit()
        elif not session.read_only and (file := self._file_of(session)) is not None:
            try:
                file.remove()
            except StorageError as error:
                self._workspace.failed.emit(error)

    def needed(self) -> NDArray[np.uint32]:
        """Return the objects.

        Raises
        ------
        InputError
            If they were not found yet.
        """
        if self.ids is None:
            raise InputError("There are no objects yet: press Find objects first.")
        return self.ids

    # Edits --------------------------------------------------------------------

    def note(self, change: Change) -> None:
        """Take in a change of the mask: numbers follow it."""
        session = self._workspace.session
        if self._meanwhile is not None:
            self._meanwhile.append(change)
        if self._numbered is not None and session is not None:
            self._numbered.countable = session.countable
            self._numbered.note(change, session.mask.labels)
            self._tell()

    def edited(
        self,
        where: NDArray[np.int64],
        before: NDArray[np.uint32],
        brush: int = 1,
    ) -> None:
        """Take in that somebody has changed numbers; the mask follows.

        What got a number becomes a part of the mask, in the class of the object; what
        lost it becomes background. Both are corrections.

        Parameters
        ----------
        where : (N,) ndarray of int64
            Places in the flattened array; each once.
        before : (N,) ndarray of uint32
            The numbers that they had.
        brush : int
            The class of what is a new object.
        """
        from napari_seg.workspace.object_edits import classes_of_edit

        session, numbered = self._workspace.session, self._numbered
        if session is None or numbered is None:
            return
        self._workspace.settling.emit()
        labels = session.mask.labels
        marks = numbered.count(where, before)
        # It is the user's own doing: nothing has followed.
        self._save_moved()
        at, classes = classes_of_edit(numbered, labels, marks, brush)
        if len(at):
            numbered.begin_by_hand(marks)
            self.write_mask(np.unravel_index(at, labels.shape), classes)
        self.changed.emit()

    def merge(self, places: Sequence[Place]) -> Edit | None:
        """Return how to make one object of several; None, told why, if that cannot be.

        Like the others it changes nothing: whoever shows the numbers does so, and says
        so to :meth:`edited`.
        """
        from napari_seg.workspace.object_edits import merged

        return self._told(lambda numbered, mask: merged(numbered, mask, places))

    def split(self, path: NDArray[np.float64]) -> Edit | None:
        """Return how to cut an object, at its waist or along a line."""
        from napari_seg.workspace.object_edits import split

        return self._told(lambda numbered, _: split(numbered, path))

    def delete(self, place: Place) -> Edit | None:
        """Return how to take an object away."""
        from napari_seg.workspace.object_edits import deleted

        return self._told(lambda numbered, _: deleted(numbered, place))

    def _told(self, edit: Callable[[Numbered, NDArray[np.uint8]], Edit]) -> Edit | None:
        from napari_seg.workspace.object_edits import NotEdited

        session = self._workspace.session
        self._workspace.settling.emit()
        if self._numbered is None or session is None:
            return None
        try:
            return edit(self._numbered, session.mask.labels)
        except NotEdited as reason:
            self._workspace.told.emit(str(reason))
            return None

    def _write_directly(
        self, where: tuple[NDArray[np.intp], ...], classes: NDArray[np.uint8]
    ) -> None:
        session = self._workspace.session
        assert session is not None
        session.mask.labels[where] = classes
        self._workspace.edited(
            tuple(slice(int(at.min()), int(at.max()) + 1) for at in where)
        )
        self._workspace.stroke_finished()

    def _stroke_ended(self) -> None:
        session = self._workspace.session
        if self._numbered is not None and session is not None:
            self._numbered.finish(session.mask.labels)
            self._tell()
            if self.count != self._told_count:
                self.changed.emit()

    def _note_count(self) -> None:
        self._told_count = self.count

    def _forget_undo(self) -> None:
        if self._numbered is not None:
            self._numbered.forget()

    def _tell(self) -> None:
        """Show and save what has followed the mask."""
        from napari_seg.workspace.numbered import box_of

        if self._numbered is not None and self._numbered.moved:
            shape = self._numbered.ids.shape
            for where in self._numbered.moved:
                self.renumbered.emit(box_of(where, shape))
            self._save_moved()

    # Saving -------------------------------------------------------------------

    def _load(self) -> None:
        """Go on with the objects that were saved."""
        session = self._workspace.session
        file = None if session is None else self._file_of(session)
        if session is None or file is None or not file.exists:
            return
        self.cancel()
        self.forget()
        self._of = session
        self._meanwhile = []
        self._start(read_job(file, session), partial(self._found, session, anew=False))

    def _file_of(self, session: Session) -> ObjectsFile | None:
        """Return where the objects are kept: one file, which knows who is writing."""
        from napari_seg.corrections.objects import ObjectsFile

        store = session.store
        if store is None:
            return None
        if self._file is None or self._file[0] is not store:
            self._file = store, ObjectsFile(store.folder, store.shape)
        return self._file[1]

    def _save_moved(self, now: bool = False) -> None:
        """Save what has changed, beside the main thread or before this returns."""
        if self._numbered is None:
            return
        moved, self._numbered.moved = self._numbered.moved, []
        if self._saver is not None:
            for where in moved:
                self._saver.note(where)
            if now:
                self._saver.now()
            else:
                self._saver.soon()

    def _left(self) -> None:
        """Save the objects of a mask that is being left; later it belongs to others."""
        if self._numbered is not None and self._of is not None:
            self._numbered.finish(self._of.mask.labels)
            self._save_moved(now=True)
        self._saver = None

    # Work ---------------------------------------------------------------------

    def _follow(self) -> None:
        """Have nothing to do with another image."""
        session = self._workspace.session
        if session is not self._of:
            self.cancel()
            self.forget()
            self._of = session

    def _start(self, job: Job, on_item: Any) -> None:
        # What ends at once, in a script, must not look as if it were under way.
        ended: list[bool] = []
        task = self._runner(
            job,
            on_item=on_item,
            on_done=partial(self._ended, ended, None),
            on_error=partial(self._ended, ended),
        )
        if not ended:
            self._task = task
            self.changed.emit()

    def _found(self, session: Session, numbered: Numbered, anew: bool = True) -> None:
        from napari_seg.workspace.objects_saver import ObjectsSaver

        self._numbered, self._of = numbered, session
        file = None if session.read_only else self._file_of(session)
        self._saver = None
        if file is not None:
            failed = self._workspace.failed.emit
            self._saver = ObjectsSaver(file, numbered, self._runner, failed, anew=anew)
        labels = session.mask.labels
        # What was painted while they were found, or read.
        for change in self._meanwhile or ():
            numbered.note(change, labels)
        self._meanwhile = None
        numbered.finish(labels)
        numbered.forget()
        self._save_moved()

    def _ended(self, ended: list[bool], error: Exception | None) -> None:
        ended.append(True)
        self._task = self._meanwhile = None
        if error is not None:
            self._workspace.failed.emit(error)
        self.changed.emit()
