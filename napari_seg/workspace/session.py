"""One image, its mask, and what the user vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.audit import Audit
from napari_seg.corrections.change import Change
from napari_seg.corrections.identity import default_project_folder, fingerprint
from napari_seg.corrections.journal import ErrorListener
from napari_seg.corrections.ledger import Ledger, Scope
from napari_seg.corrections.project import ImageEntry, Project
from napari_seg.corrections.versions import ModelVersion
from napari_seg.errors import InputError
from napari_seg.inference.axes import AxesReading, as_array, is_lazy
from napari_seg.inference.heap import share_heaps
from napari_seg.scoring.confusion import UNKNOWN, Scores
from napari_seg.workspace.classes import ClassNames
from napari_seg.workspace.diary import Diary
from napari_seg.workspace.history import ScoreHistory
from napari_seg.workspace.source import ImageSource
from napari_seg.workspace.uncertainty import UncertaintyMap

if TYPE_CHECKING:
    from napari_seg.corrections.store import ImageStore

__all__ = ["Session"]


class Session:
    """One image being worked on.  Main thread only, as its ledger is.

    Parameters
    ----------
    source : ImageSource
        The image.
    reading : AxesReading
        What its axes mean to the model.
    classes : list of str
        Class names in the order of the ids.
    project : Project or None
        An open project to keep the image in, which the caller closes; None is one of
        the image's own.

    Attributes
    ----------
    ledger : Ledger or None
        The mask and what is vouched for; None until :meth:`begin`.
    ranges : ndarray or None
        (C, 2) intensities that become 0 and 1, once a prediction has needed them.
    history : ScoreHistory
        Mean scores after each stroke.
    diary : Diary or None
        The record of work; None until :meth:`begin`.
    mark : str
        Fingerprint of the image, empty until somebody has taken it.
    """

    def __init__(
        self,
        source: ImageSource,
        reading: AxesReading,
        classes: list[str],
        project: Project | None = None,
    ) -> None:
        self.source = source
        self.reading = reading
        self._classes = ClassNames(classes)
        self.ledger: Ledger | None = None
        self.ranges: NDArray[np.float64] | None = None
        self.history = ScoreHistory()
        self.mark = ""
        self._slice: tuple[int, ...] | None = None
        self._audit: Audit | None = None
        self.uncertainty: UncertaintyMap | None = None
        self._project: Project | None = None
        self._shared = project
        self._store: ImageStore | None = None
        self.diary: Diary | None = None
        self._image_id = ""

    # The mask -----------------------------------------------------------------

    def begin(self, on_error: ErrorListener) -> bool:
        """Make the mask or go on with the saved one; return whether that was to do.

        Parameters
        ----------
        on_error : callable
            Called with a StorageError, on another thread, when saving fails.

        Raises
        ------
        ProjectError, StorageError
            If the project of this image cannot be opened or made.
        """
        if self.ledger is not None:
            return False
        image = as_array(self.source.data)
        if is_lazy(image):
            share_heaps()
        self.mark = self.mark or fingerprint(image)
        with ExitStack() as to_close:
            project = self._shared
            if project is None:
                folder = default_project_folder(self.source.name, self.mark)
                project = Project.open_or_create(folder)
                to_close.callback(project.close)
            self._adopt_classes(project)
            entry = self._enter_image(project)
            store = project.open_store(entry, on_error)
            to_close.callback(store.close)
            saved = store.load()
            # All went well: it stays open until the session is closed.
            to_close.pop_all()
        self.ledger = Ledger(
            saved.labels, saved.reference, len(self.classes), saved.state
        )
        self.uncertainty = UncertaintyMap(self.ledger.shape)
        self._project, self._store, self._image_id = project, store, entry.id
        path = store.folder / "activity.csv"
        self.diary = Diary(path, self.history, store.read_only)
        return True

    def _enter_image(self, project: Project) -> ImageEntry:
        """Return the entry of the image, and save in it how the image is read."""
        shape, axes = self.reading.spatial_shape, self.reading.axes
        read_as = replace(self.source.read_as, axes=axes)
        return project.add_image(self.source.name, self.mark, shape, read_as=read_as)

    def _adopt_classes(self, project: Project) -> None:
        """Take the classes that were added or renamed in an earlier session."""
        if not self._classes.adopt(project.classes) and not project.read_only:
            project.set_classes(self._classes.saved())

    @property
    def mask(self) -> Ledger:
        """The ledger of the mask.

        Raises
        ------
        InputError
            If there is no mask yet.
        """
        if self.ledger is None:
            raise InputError(
                "There is no mask yet: press Predict view or Predict all first."
            )
        return self.ledger

    def record(self, change: Change) -> None:
        """Write a change to the journal; the disk is met on another thread."""
        if self.diary is not None:
            self.diary.note(change)
        if self._store is not None and not self._store.read_only:
            self._store.append(change)

    def stroke_finished(self) -> None:
        """End a stroke in the journal, and note the scores for the curves."""
        if self._store is not None and not self._store.read_only:
            self._store.stroke_finished()
        scores = self._scores()
        for scope, each in scores.items():
            self.history.note(scope, each)
        if self.diary is not None:
            self.diary.finish(self.mask, self.classes, scores)

    def note(self, kind: str) -> None:
        """Write something else than a change of the mask to the record of work."""
        if self.diary is not None:
            self.diary.finish(self.mask, self.classes, self._scores(), kind)

    def _scores(self) -> dict[Scope, Scores]:
        """Return the scores of every scope that is counted."""
        scopes: list[Scope] = ["whole", "reviewed"]
        if self._slice is not None:
            scopes.append("slice")
        return {scope: self.mask.scores(scope) for scope in scopes}

    def look_over(self) -> tuple[Change | None, bool]:
        """Look at a piece of the mask; return an unnoticed edit, and if all is done."""
        audit = self._audit = self._audit or self.mask.audit()
        unnoticed = audit.step()
        if audit.done:
            self._audit = None
        return unnoticed, audit.done

    def look_at_slice(self, index: tuple[int, ...]) -> bool:
        """Score this plane in the scope "slice"; return whether it is another one."""
        if self.ledger is None or index == self._slice:
            return False
        self._slice = index
        self.ledger.focus(index)
        self.history.forget("slice")
        self.history.note("slice", self.ledger.scores("slice"))
        return True

    @property
    def slice_index(self) -> tuple[int, ...] | None:
        """The plane of the scope "slice", None before one was looked at."""
        return self._slice

    @property
    def uncertain(self) -> bool:
        """Whether the model has said how sure it is of something."""
        return self.uncertainty is not None and self.uncertainty.known

    # Model and classes --------------------------------------------------------

    def fits(self, reading: AxesReading) -> bool:
        """Whether the mask has the axes of another reading of its image."""
        mine = self.reading
        same_shape = reading.spatial_shape == mine.spatial_shape
        return same_shape and reading.layout == mine.layout

    def save_reading(self) -> None:
        """Save in the project how the image is read, if there is one.

        Raises
        ------
        StorageError
            If it cannot be saved.
        """
        if self._project is not None and not self._project.read_only:
            self._enter_image(self._project)

    def take_model(self, reading: AxesReading, classes: tuple[str, ...]) -> None:
        """Take the reading and the classes of another model.

        Raises
        ------
        InputError
            If the mask has other classes, and something in it is vouched for.
        """
        if not self.fits(reading):
            raise InputError(
                "This model reads the image with other axes than the mask has; remove "
                "the mask layer to begin a new one."
            )
        same = self._classes.known(classes)
        if not same and self.ledger is not None and self.ledger.vouched_pixels:
            raise InputError(
                f"This model has the classes {', '.join(classes)}, your mask has "
                f"{', '.join(self.classes)}. Choose a model with the same classes, or "
                "remove the mask layer to begin a new one."
            )
        self.reading, self.ranges = reading, None
        if not same:
            self._classes = ClassNames(classes)
            self._classes_changed()

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the ids."""
        return self._classes.names

    @property
    def countable(self) -> NDArray[np.bool_]:
        """Of which labels there are objects, (256,); of those without a class, too."""
        wanted = np.ones(UNKNOWN + 1, bool)
        own = self._classes.countable
        wanted[: len(own)] = own
        wanted[UNKNOWN] = False
        return wanted

    def set_countable(self, class_id: int, countable: bool) -> None:
        """Say whether the pixels of a class are objects, one beside the other."""
        self._classes.set_countable(class_id, countable)
        self._save_classes()

    def classes_to_train(self, names: Sequence[str]) -> list[str]:
        """Return the classes for a model that has `names`: these, and what it lacks."""
        return self._classes.to_train(names)

    def add_class(self, name: str) -> None:
        """Add a class behind the others.

        Raises
        ------
        InputError
            If the name is empty, taken or holds a comma.
        """
        self._classes.add(name)
        self._classes_changed()

    def rename_class(self, class_id: int, name: str) -> None:
        """Call a class something else; models that know the old name go on working.

        Raises
        ------
        InputError
            As :meth:`add_class`.
        """
        self._classes.rename(class_id, name)
        self._classes_changed()

    def _classes_changed(self) -> None:
        if self.ledger is not None:
            self.ledger.set_classes(len(self.classes))
        self._save_classes()

    def _save_classes(self) -> None:
        if self._project is not None and not self._project.read_only:
            self._project.set_classes(self._classes.saved())

    # The project --------------------------------------------------------------

    @property
    def project(self) -> Project:
        """The project that the image belongs to.

        Raises
        ------
        InputError
            If there is no mask yet, and so no project.
        """
        if self._project is None:
            raise InputError("There is no mask yet: press Predict view first.")
        return self._project

    @property
    def store(self) -> ImageStore | None:
        """Where the mask is saved, None without a mask."""
        return self._store

    @property
    def image_id(self) -> str:
        """Name of the image in the project."""
        return self._image_id

    @property
    def read_only(self) -> bool:
        """Whether another viewer holds the project, so that nothing is saved."""
        return self._project is not None and self._project.read_only

    @property
    def saved_at(self) -> float | None:
        """When something was last saved, in seconds since 1970."""
        return None if self._store is None else self._store.saved_at

    @property
    def pending(self) -> int:
        """Number of changes that are not on disk yet."""
        return 0 if self._store is None else self._store.pending

    def versions(self) -> tuple[ModelVersion, ...]:
        """Return the fine-tuned models of the project, oldest first."""
        return () if self._project is None else self._project.versions

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every change is on disk; return whether it is."""
        return self._store is None or self._store.flush(timeout)

    def close(self) -> None:
        """Save everything and let others open the project.

        Raises
        ------
        StorageError
            If something could not be saved.
        """
        try:
            if self.diary is not None:
                self.diary.close()
            if self._store is not None:
                self._store.close()
        finally:
            if self._project is not None and self._project is not self._shared:
                self._project.close()
