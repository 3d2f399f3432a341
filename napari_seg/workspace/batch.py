"""Many images of a folder, one after the other, in one project."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from io import StringIO
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_seg.corrections.durable import write_json
from napari_seg.corrections.identity import safe_name
from napari_seg.corrections.project import Project
from napari_seg.errors import InputError, NapariSegError, NothingToLearnError
from napari_seg.folders import images_in
from napari_seg.workspace.lesson import save_training_windows, vouched_planes
from napari_seg.workspace.prediction import Predictor, Progress
from napari_seg.workspace.session import Session
from napari_seg.workspace.source import ImageSource
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    from napari_seg.inference.predict import TileResult
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Batch", "BatchImage"]

_FILE = "batch.json"


@dataclass(frozen=True)
class BatchImage:
    """An image of the folder, and how far the work on it is.

    Attributes
    ----------
    path : Path
        Its file.
    predicted, corrected, done : bool
        Whether a model has said something, the user has changed or accepted something,
        and the user has called it done.
    reviewed : float
        Share of its pixels that were accepted, 0 to 1.
    iou, dice : float or None
        Mean scores of the prediction in what was accepted.
    """

    path: Path
    predicted: bool = False
    corrected: bool = False
    done: bool = False
    reviewed: float = 0.0
    iou: float | None = None
    dice: float | None = None

    @property
    def state(self) -> str:
        """How far the work is, in a word."""
        if self.done:
            return "done"
        if self.corrected:
            return "corrected"
        return "predicted" if self.predicted else "new"


class Batch:
    """Opens the images of a folder in turn, and predicts those that nobody looks at.

    All of them belong to one project: they share classes and models, and what is
    corrected in one of them is learned from with all others.

    Parameters
    ----------
    workspace : Workspace
        Where the image that is looked at is worked on.
    runner : Runner
        Drives the work beside the main thread.

    Attributes
    ----------
    folder : Path or None
        Of the images.
    images : list of BatchImage
        By name.
    current : int or None
        Place of the image that is looked at.
    predicting : int or None
        Place of the image that is being predicted unseen.
    """

    #: Another folder or image, or others are being predicted.
    changed = Signal()
    #: The image at this place has another state or other scores.
    image_changed = Signal(int)
    #: Progress of the prediction of all images, 0 to 1 and a sentence; None at its end.
    progress = Signal(object)

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self._predictor = Predictor(runner)
        self._reading: Task | None = None
        self._unseen: Session | None = None
        self._queue: list[int] = []
        self._asked = 0
        self.folder: Path | None = None
        self.images: list[BatchImage] = []
        self.current: int | None = None
        self.predicting: int | None = None
        self.project: Project | None = None
        #: Reads a file, on any thread; set by whoever can.
        self.read: Callable[[Path], Any] = _cannot_read
        #: Makes the source of what was read, on the main thread.
        self.as_source: Callable[[Any], ImageSource] = _cannot_read
        workspace.mask_left.connect(self._image_left)
        workspace.stroke_ended.connect(self.note)

    # The folder ---------------------------------------------------------------

    def can_open(self, folder: Path) -> bool:
        """Return whether there are images in a folder; say so if not."""
        try:
            images_in(folder)
        except InputError as error:
            self._workspace.failed.emit(error)
            return False
        return True

    def open(self, folder: Path) -> None:
        """Work on the images of a folder; one that was open before was left."""
        folder = folder.resolve()
        self.close()
        try:
            paths = images_in(folder)
            project = Project.open_or_create(_project_folder(self._home, folder))
        except NapariSegError as error:
            self._workspace.failed.emit(error)
            return
        self.folder, self.project = folder, project
        known = self._load()
        self.images = [known.get(path.name, BatchImage(path)) for path in paths]
        if project.read_only:
            self._workspace.told.emit(
                "Another viewer works on this folder: nothing that is painted here is "
                "saved."
            )
        self.changed.emit()

    def close(self) -> None:
        """Leave the folder; everything is saved."""
        self.cancel()
        self._save()
        project, self.project = self.project, None
        self.folder, self.images, self.current = None, [], None
        if project is not None:
            project.close()
        self.changed.emit()

    @property
    def _home(self) -> Path:
        return self._workspace.home

    def project_of(self, source: ImageSource) -> Project | None:
        """Return the open project that an image belongs to, if it is one of these."""
        if self.project is None or source.project != self.project.folder:
            return None
        return self.project

    def belonging(self, source: ImageSource) -> ImageSource:
        """Return an image of the folder as one of its project."""
        folder = None if self.project is None else self.project.folder
        return replace(source, project=folder)

    # One image after the other ------------------------------------------------

    def let_go(self, place: int) -> None:
        """Leave an image to the user: if it is being predicted unseen, that ends."""
        if place == self.predicting:
            self._stop_unseen()
            self._next()

    def turned_to(self, place: int) -> None:
        """Take in that the user looks at this image."""
        self.current = place
        self.changed.emit()

    def next_place(self, step: int) -> int | None:
        """Return the place of the image before (-1) or after (1), if there is one."""
        if not self.images:
            return None
        place = 0 if self.current is None else self.current + step
        return place if 0 <= place < len(self.images) else None

    def mark_done(self, done: bool) -> None:
        """Call the image that is looked at done, or not."""
        if self.current is not None:
            self._change(self.current, done=done)
            self._save()

    def note(self) -> None:
        """Take in the state of the image that is looked at."""
        session = self._workspace.session
        if self.current is not None and session is not None and self._is_of(session):
            self._take(self.current, session)

    def _is_of(self, session: Session) -> bool:
        return self.project is not None and (
            session.source.project == self.project.folder
        )

    def _image_left(self) -> None:
        """Cut what was corrected into windows, from which all images learn."""
        session, place = self._workspace.session, self.current
        if session is None or session.ledger is None or not self._is_of(session):
            return
        if place is not None:
            self._take(place, session)
            self._save()
        planes = vouched_planes(session)
        choice = self._workspace.choice
        if not planes or choice is None or session.read_only:
            return
        spec, ids = choice.spec, self._workspace.objects.ids

        def job() -> Job:
            # Where there is too little to learn from, there are other images.
            with suppress(NothingToLearnError):
                save_training_windows(session, planes, spec, ids)
            yield from ()

        self._runner(
            job(),
            on_item=lambda _: None,
            on_done=lambda: None,
            on_error=self._workspace.failed.emit,
        )

    def _take(self, place: int, session: Session) -> None:
        ledger = session.ledger
        if ledger is None:
            return
        scores = ledger.scores("reviewed")
        self._change(
            place,
            predicted=bool(ledger.scores("whole").confusion.any()),
            corrected=ledger.vouched_pixels > 0,
            reviewed=ledger.reviewed_fraction,
            iou=_known(scores.mean_iou),
            dice=_known(scores.mean_dice),
        )

    def _change(self, place: int, **values: Any) -> None:
        changed = replace(self.images[place], **values)
        if changed != self.images[place]:
            self.images[place] = changed
            self.image_changed.emit(place)

    # All of them --------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether images are being predicted unseen."""
        return self.predicting is not None

    def predict_all(self) -> None:
        """Predict every image that is not done and that nobody looks at."""
        choice = self._workspace.choice
        if self.busy or choice is None or choice.untrained:
            return
        self._queue = [
            place
            for place, image in enumerate(self.images)
            if not image.done and place != self.current
        ]
        self._asked = len(self._queue)
        self._next()

    def cancel(self) -> None:
        """Predict no further; what is finished stays."""
        self._queue = []
        self._stop_unseen()
        self._over()

    def _stop_unseen(self) -> None:
        """End the prediction of one image."""
        self._predictor.cancel()
        task, self._reading = self._reading, None
        if task is not None:
            task.cancel()
        self._end_unseen()

    def _next(self) -> None:
        if not self._queue:
            self._over()
            return
        self.predicting = self._queue.pop(0)
        path = self.images[self.predicting].path
        self._report(0.0)
        self.changed.emit()

        def job() -> Job:
            yield self.read(path)

        self._reading = self._runner(
            job(),
            on_item=self._read_one,
            on_done=lambda: None,
            on_error=partial(self._failed, path),
        )

    def _over(self) -> None:
        if self.predicting is not None:
            self.predicting = None
            self.progress.emit(None)
            self.changed.emit()

    def _report(self, share: float) -> None:
        if self.predicting is not None:
            done = self._asked - len(self._queue) - 1
            text = f"image {done + 1} of {self._asked}"
            self.progress.emit(((done + share) / max(self._asked, 1), text))

    def _read_one(self, read: Any) -> None:
        """Predict what was read, in a session that nobody sees."""
        workspace, choice, place = (
            self._workspace,
            self._workspace.choice,
            self.predicting,
        )
        assert place is not None
        if choice is None:
            self._next()
            return
        try:
            source = self.belonging(self.as_source(read))
            reading = source.read_for(choice.spec)
            classes = list(choice.spec.classes)
            session = Session(source, reading, classes, self.project)
            session.begin(workspace.failed.emit)
        except NapariSegError as error:
            self._failed(self.images[place].path, error)
            return
        self._unseen = session
        self._predictor.start(
            session,
            choice,
            workspace.predict_options,
            workspace.device,
            None,
            everything=True,
            cluster=workspace.computers.cluster,
            on_tile=partial(self._tile_arrived, session),
            on_fetch=lambda _: None,
            on_end=self._image_predicted,
        )

    def _tile_arrived(
        self, session: Session, tile: TileResult, progress: Progress
    ) -> None:
        change = session.mask.predicted(tile.region, tile.labels)
        if change is not None:
            session.record(change)
        self._report(progress.share)

    def _image_predicted(self, error: Exception | None) -> None:
        place = self.predicting
        assert place is not None
        if error is not None:
            self._failed(self.images[place].path, error)
            return
        self._end_unseen()
        self._next()

    def _end_unseen(self) -> None:
        session, self._unseen = self._unseen, None
        if session is None or self.predicting is None:
            return
        try:
            session.stroke_finished()
            self._take(self.predicting, session)
            self._save()
            session.close()
        except NapariSegError as error:
            self._workspace.failed.emit(error)

    def _failed(self, path: Path, error: Exception) -> None:
        """Say what is wrong with an image, and go on with the others."""
        self._workspace.failed.emit(
            InputError(f"{path.name} could not be predicted: {error}")
            if isinstance(error, InputError)
            else error
        )
        self._end_unseen()
        if isinstance(error, InputError):
            self._next()
        else:
            self._queue = []
            self._over()

    # What is known ------------------------------------------------------------

    def table(self) -> str:
        """Return the images with their scores as CSV."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("image", "state", "reviewed", "mean_iou", "mean_dice"))
        for image in self.images:
            scores = ["" if x is None else f"{x:.4f}" for x in (image.iou, image.dice)]
            writer.writerow(
                (image.path.name, image.state, f"{image.reviewed:.4f}", *scores)
            )
        return text.getvalue()

    def _load(self) -> dict[str, BatchImage]:
        assert self.project is not None
        try:
            told = json.loads((self.project.folder / _FILE).read_text("utf-8"))
            return dict(self._entries(told["images"]))
        except (OSError, ValueError, KeyError, TypeError):
            # Masks and corrections are elsewhere; only the list begins anew.
            return {}

    def _entries(self, told: list[dict[str, Any]]) -> Iterator[tuple[str, BatchImage]]:
        assert self.folder is not None
        for entry in told:
            path = self.folder / Path(str(entry["path"])).name
            yield path.name, BatchImage(**{**entry, "path": path})

    def _save(self) -> None:
        if self.project is None or self.project.read_only:
            return
        entries = [asdict(image) | {"path": image.path.name} for image in self.images]
        content = {"folder": str(self.folder), "images": entries}
        try:
            write_json(self.project.folder / _FILE, content)
        except OSError as error:
            self._workspace.failed.emit(error)


def _project_folder(home: Path, folder: Path) -> Path:
    """Return where the project of a folder of images lies."""
    mark = blake2b(str(folder).encode(), digest_size=4).hexdigest()
    return home / "projects" / f"{safe_name(folder.name)}-{mark}"


def _known(score: float) -> float | None:
    return None if isnan(score) else float(score)


def _cannot_read(_: Any) -> Any:
    raise InputError("Nothing here can read images.")
