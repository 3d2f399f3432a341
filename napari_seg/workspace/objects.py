"""The objects of the mask: numbered, measured, and taken away."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_seg.corrections.ledger import CORRECTED
from napari_seg.errors import InputError
from napari_seg.inference.axes import as_array
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    import pandas as pd

    from napari_seg.objects.numbering import Split
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Objects"]


class Objects:
    """Numbers the objects of the mask, and measures them, beside the main thread.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    runner : Runner
        Drives the work.

    Attributes
    ----------
    ids : ndarray of uint32 or None
        Number of the object that each pixel belongs to, shape of the mask; None until
        they were found. Whoever shows it may edit it in place.
    count : int or None
        How many objects were found.
    """

    #: Objects were found or forgotten, or work has begun or ended.
    changed = Signal()
    #: A table, a row for each object.
    measured = Signal(object)

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self.ids: NDArray[np.uint32] | None = None
        self.count: int | None = None
        self._of: Session | None = None
        self._task: Task | None = None
        self._stopped = threading.Event()
        workspace.changed.connect(self._follow)

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

    def find(self, split: Split) -> None:
        """Find the objects of the mask as it is now."""
        session = self._workspace.session
        if self.obstacle or session is None:
            return
        self._workspace.settling.emit()
        stopped = self._stopped = threading.Event()
        labels, leading = session.mask.labels, session.reading.leading
        self._start(_find(labels, leading, split, stopped), self._found)

    def measure(self) -> None:
        """Measure the objects: :attr:`measured` tells the table."""
        session = self._workspace.session
        if self.measuring_obstacle or session is None or self.ids is None:
            return
        self._workspace.settling.emit()
        stopped = self._stopped = threading.Event()
        self._start(_measure(session, self.ids, stopped), self.measured.emit)

    def cancel(self) -> None:
        """Stop what is under way."""
        self._stopped.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self.changed.emit()

    def forget(self) -> None:
        """Have no objects any more."""
        if self.ids is not None:
            self.ids = self.count = None
            self.changed.emit()

    def adopt(self, ids: NDArray[np.uint32] | None, count: int | None) -> None:
        """Have objects that came from elsewhere; None is none.

        Parameters
        ----------
        ids : ndarray of uint32, shape of the mask
            Number of the object that each pixel belongs to, in any order and with gaps.
        count : int
            How many objects they are.
        """
        self.cancel()
        self.ids, self.count = ids, count
        self.changed.emit()

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

    def _follow(self) -> None:
        """Have nothing to do with another image."""
        session = self._workspace.session
        if session is not self._of:
            self._of = session
            self.cancel()
            self.forget()

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

    def _found(self, found: tuple[NDArray[np.uint32], int]) -> None:
        self.ids, self.count = found

    def _ended(self, ended: list[bool], error: Exception | None) -> None:
        ended.append(True)
        self._task = None
        if error is not None:
            self._workspace.failed.emit(error)
        self.changed.emit()


class _Stopped(Exception):
    """Raised inside work that is no longer wanted."""


def _check(stopped: threading.Event, *_: Any) -> None:
    if stopped.is_set():
        raise _Stopped


def _find(
    labels: NDArray[np.uint8], leading: str, split: Split, stopped: threading.Event
) -> Job:
    # Late, since scikit-image takes its time to load.
    from napari_seg.objects.numbering import number_objects

    with suppress(_Stopped):
        # A copy, since the user may go on painting; here, where nobody waits for it.
        mask, check = labels.copy(), partial(_check, stopped)
        ids = number_objects(mask, leading, split, on_block=check)
        yield ids, int(ids.max(initial=0))


def _measure(
    session: Session, ids: NDArray[np.uint32], stopped: threading.Event
) -> Job:
    from napari_seg.objects.measure import measure_objects

    reading, mask = session.reading, session.mask
    with suppress(_Stopped):
        table: pd.DataFrame = measure_objects(
            ids,
            mask.labels,
            as_array(session.source.data),
            classes=session.classes,
            pixel_size=None if "Z" in reading.leading else session.source.pixel_size,
            corrected=(mask.state() & CORRECTED) > 0,
            axes=reading.leading + "YX",
            image_axes=reading.axes,
            progress=partial(_check, stopped),
        )
        yield table
