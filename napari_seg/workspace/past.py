"""What happened to a mask before: saved work, strokes to undo, moments to go back to.

Journals are read beside the main thread; what is found goes out as signals of the
workspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from napari_seg.corrections.change import Pixels
from napari_seg.corrections.identity import default_project_folder, fingerprint
from napari_seg.corrections.manifest import AS_GUESSED, ReadAs
from napari_seg.corrections.project import Project
from napari_seg.errors import ProjectError
from napari_seg.inference.axes import as_array
from napari_seg.scoring.regions import Box, split
from napari_seg.workspace.session import Session
from napari_seg.workspace.source import ImageSource
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    from napari_seg.corrections.history import Moment, Stroke
    from napari_seg.corrections.store import ImageStore
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Past", "SavedWork", "find_saved_work"]

_PIECE = 1 << 20
"""Pixels brought back at once: a few milliseconds on the main thread."""

_PAUSE = 2.0
"""Strokes closer than so many seconds are one moment in the list."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class SavedWork:
    """What is known of an image from earlier days.

    Attributes
    ----------
    mark : str
        Fingerprint of the image.
    saved_at : float or None
        When work on it was last saved, in seconds since 1970; None if there is none.
    read_as : ReadAs
        How it was read then.
    """

    mark: str
    saved_at: float | None = None
    read_as: ReadAs = AS_GUESSED


def find_saved_work(source: ImageSource) -> SavedWork:
    """Return what was saved of the work on an image.

    It reads a part of the image: call it beside the main thread.
    """
    image = as_array(source.data)
    mark = fingerprint(image)
    folder = source.project or default_project_folder(source.name, mark)
    try:
        project = Project.open(folder, read_only=True)
    except ProjectError:
        return SavedWork(mark)
    found = SavedWork(mark)
    for entry in project.images.values():
        journal = folder / "images" / entry.id / "journal"
        times = [path.stat().st_mtime for path in journal.glob("[0-9]*.*")]
        last = max(times, default=None)
        if entry.fingerprint == mark and (last or 0.0) > (found.saved_at or 0.0):
            found = SavedWork(mark, last, entry.read_as)
    return found


class Past:
    """Reads what was saved, and brings it back.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    runner : Runner
        Drives the reading beside the main thread.

    Attributes
    ----------
    saved_at : float or None
        When work on the image was saved that one could go on with, in seconds since
        1970; None until it was found, and once the mask is there.
    busy : bool
        Whether the mask is being brought back to an earlier moment.
    """

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self._task: Task | None = None
        self.busy = False
        self.saved_at: float | None = None

    def abandon(self) -> None:
        """Forget what was found; end what is under way."""
        self.saved_at, self.busy = None, False
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def look_for_saved_work(self) -> None:
        """Find out whether there is work to go on with; emits ``changed`` if so."""
        source, workspace = self._workspace.source, self._workspace
        if source is None:
            return

        def found(saved: SavedWork) -> None:
            session = workspace.session
            # What was saved may be of this very moment, by a mask begun meanwhile.
            if workspace.source is source and session and session.ledger is None:
                session.mark = saved.mark
                if saved.saved_at is not None:
                    workspace.reading.go_on(saved.read_as)
                    if source.project is not None:
                        # Of a folder's images one goes on without being asked.
                        workspace.begin()
                        return
                    self.saved_at = saved.saved_at
                    workspace.changed.emit()

        self._read(lambda: find_saved_work(source), found)

    def recall_strokes(self) -> None:
        """Find the strokes of earlier days; emits ``strokes_recalled``."""
        session = self._workspace.session
        if session is None or session.ledger is None or session.store is None:
            return
        store, ledger = session.store, session.ledger
        moves, labels = ledger.moves, ledger.labels

        def read() -> list[Stroke]:
            from napari_seg.corrections.history import last_strokes

            return last_strokes(store, labels=labels)

        def found(strokes: list[Stroke]) -> None:
            # A stroke made meanwhile stands on top of them, out of order.
            if strokes and self._is_current(session) and ledger.moves == moves:
                self._workspace.strokes_recalled.emit(strokes)

        self._read(read, found)

    def list_moments(self) -> None:
        """Find the moments that one can go back to; emits ``moments_listed``."""
        session = self._workspace.session
        if session is None or session.store is None:
            self._workspace.moments_listed.emit([])
            return
        store = session.store

        def read() -> list[Moment]:
            from napari_seg.corrections.history import moments

            store.flush(5.0)
            return moments(store, _PAUSE)

        def found(listed: list[Moment]) -> None:
            if self._is_current(session):
                self._workspace.moments_listed.emit(listed)

        self._read(read, found)

    def revert(self, moment: Moment | None) -> None:
        """Bring the mask back to a moment; this can be reverted, too.

        Parameters
        ----------
        moment : Moment or None
            None is before everything that is known.
        """
        workspace, session = self._workspace, self._workspace.session
        if session is None or session.store is None or self.busy or session.read_only:
            return
        workspace.cancel()
        workspace.settling.emit()
        self.busy = True
        workspace.changed.emit()
        self._task = self._runner(
            _earlier(session.store, moment),
            on_item=lambda piece: self._bring_back(session, *piece),
            on_done=self._ended,
            on_error=self._ended,
        )

    def _bring_back(self, session: Session, box: Box, earlier: Pixels) -> None:
        if self._is_current(session):
            self._workspace.record(session.mask.restore(box, earlier))

    def _ended(self, error: Exception | None = None) -> None:
        self.busy = False
        if error is not None:
            self._workspace.failed.emit(error)
        self._workspace.rewritten()
        self._workspace.changed.emit()

    def _is_current(self, session: Session) -> bool:
        return self._workspace.session is session

    def _read(self, read: Callable[[], Found], found: Callable[[Found], None]) -> None:
        def job() -> Job:
            yield read()

        self._runner(
            job(),
            on_item=found,
            on_done=lambda: None,
            on_error=self._workspace.failed.emit,
        )


def _earlier(store: ImageStore, moment: Moment | None) -> Job:
    """Yield the mask as it was, in pieces."""
    from napari_seg.corrections.history import changed_since, state_at

    store.flush(5.0)
    changed = changed_since(store, moment)
    if changed is None:
        return
    mask = state_at(store, moment)
    for box in split(changed, _PIECE):
        yield box, Pixels(mask.labels[box], mask.state[box], mask.reference[box])
