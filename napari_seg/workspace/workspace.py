"""The state of one dock, and every decision that is taken there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal, SignalInstance

from napari_seg.corrections.change import Change
from napari_seg.corrections.ledger import Scope
from napari_seg.corrections.manifest import ReadAs
from napari_seg.errors import ClusterError, InputError, ModelFileError, NapariSegError
from napari_seg.models.catalog import PACKAGE_NAMES
from napari_seg.resources import user_folder
from napari_seg.scoring.confusion import Scores
from napari_seg.scoring.regions import Box, Region
from napari_seg.workspace.batch import Batch
from napari_seg.workspace.choices import (
    ModelChoice,
    ModelShelf,
    choice_of_version,
)
from napari_seg.workspace.comparison import Comparison
from napari_seg.workspace.computers import Computers
from napari_seg.workspace.coverage import Coverage
from napari_seg.workspace.intake import Intake
from napari_seg.workspace.lesson import Lesson, add_version
from napari_seg.workspace.object_score import ObjectScore
from napari_seg.workspace.objects import Objects
from napari_seg.workspace.past import Past
from napari_seg.workspace.prediction import Predictor, Progress
from napari_seg.workspace.reading import Reading
from napari_seg.workspace.review import Review
from napari_seg.workspace.session import Session
from napari_seg.workspace.source import ImageSource, View
from napari_seg.workspace.tasks import Runner
from napari_seg.workspace.teaching import Teacher

if TYPE_CHECKING:
    from napari_seg.inference.predict import PredictOptions, TileResult
    from napari_seg.training.loop import Step

__all__ = ["Workspace"]


class Workspace:
    """What the dock shows, and what happens when something in it is clicked.

    It knows neither Qt nor napari: a viewer tells it of images, views and edits, and
    listens to its signals.  All methods are called on one thread, the main thread of
    the viewer.  No method raises for what a user does: errors go out as `failed`.

    Parameters
    ----------
    runner : Runner
        Drives prediction and training beside the main thread.
    home : Path, optional
        Folder of projects and models; by default the user's.
    """

    #: Another image, model, reading or set of classes.
    changed = Signal()
    #: The mask of the session exists now: show it.
    mask_started = Signal()
    #: A prediction wrote into this box of the mask; None at its end.
    pixels_changed = Signal(object)
    #: Mask, flags or reference changed: scores and counts are others now.
    scores_changed = Signal()
    #: The mask is about to be read as a whole: report edits that still wait.
    settling = Signal()
    #: The session is about to be saved and left: its mask is no longer followed.
    mask_left = Signal()
    #: Another part of the mask counts as reviewed.
    reviewed = Signal()
    #: Strokes of earlier days that can still be undone, oldest first.
    strokes_recalled = Signal(object)
    #: The mask was brought back to an earlier moment.
    went_back = Signal()
    #: Moments of the mask that one can go back to, oldest first.
    moments_listed = Signal(object)
    #: Progress of a prediction, or of the download before it; None at its end.
    predicting = Signal(object)
    #: A stroke, a review or a prediction is complete.
    stroke_ended = Signal()
    #: A training step, or progress of the download before it; None at the end.
    training = Signal(object)
    #: A verdict was reached or taken off the table.
    verdict_changed = Signal()
    #: Another computer predicts, or a connection is being made.
    computer_changed = Signal()
    #: Something went wrong.
    failed = Signal(object)
    #: Something the user should know.
    told = Signal(str)

    def __init__(self, runner: Runner, home: Path | None = None) -> None:
        self.home = home or user_folder()
        self.runner = runner
        self.shelf = ModelShelf(self.home / "models")
        self.predictor = Predictor(runner)
        self.teacher = Teacher(runner)
        self.past = Past(self, runner)
        self.review = Review(self)
        self.reading = Reading(self)
        self.comparison = Comparison(self, runner)
        self.computers = Computers(self, runner)
        self.batch = Batch(self, runner)
        self.objects = Objects(self, runner)
        self.object_score = ObjectScore(self, runner)
        self.intake = Intake(self, runner)
        self.source: ImageSource | None = None
        self.choice: ModelChoice | None = None
        self.session: Session | None = None
        self.misfit = ""
        self.device = "auto"
        self.scope: Scope = "whole"
        self.predict_options: PredictOptions | None = None
        self.finetune_arguments: tuple[str, ...] = ()
        self.verdict: dict[str, Any] | None = None
        self._predicted_all = False
        self._last_view: View | None = None
        self._covered: tuple[Any, Coverage] | None = None

    # Image and model ----------------------------------------------------------

    def set_image(self, source: ImageSource | None) -> None:
        """Work on another image, or on none; the work on the one before is saved."""
        if source is not None and source.same_as(self.source):
            return
        self._leave()
        self.source = source
        if source is not None:
            self._choose_fitting_model()
        self._read()
        if self.session is None or not self.session.reading.leading:
            self.scope = "whole" if self.scope == "slice" else self.scope
        self.past.look_for_saved_work()
        self.changed.emit()

    def set_model(self, choice: ModelChoice) -> None:
        """Predict with another model from now on; a running prediction ends."""
        if choice == self.choice:
            return
        self.predictor.cancel()
        self.comparison.end()
        self.predicting.emit(None)
        self.choice = choice
        self._read()
        self.changed.emit()

    def start_from_imagenet(self, wanted: bool) -> None:
        """Begin the encoder of a new model with ImageNet weights, or at random."""
        choice = self.choice
        if choice is not None and choice.imagenet_file is not None:
            self.set_model(choice.with_imagenet(wanted))

    def open_model(self, path: Path) -> None:
        """Add a model file, or a package of the BioImage Model Zoo, and choose it.

        Of an unpacked package it may be the folder, or the description in it.
        """
        if path.name in PACKAGE_NAMES:
            path = path.parent
        try:
            choice = self.shelf.open(path)
        except NapariSegError as error:
            self.failed.emit(error)
            return
        self.set_model(choice)

    def choices(self) -> list[ModelChoice]:
        """Return the models to choose from: versions, bundled, saved, new ones."""
        session, source = self.session, self.source
        channels = 1 if source is None else source.available
        if session is None:
            nothing_yet = ("background", "foreground")
            return self.shelf.choices((), self.choice, channels, nothing_yet)
        classes = tuple(session.classes)
        axes = session.reading.axes
        step = None if source is None else source.anisotropy(axes)
        return self.shelf.choices(
            session.versions(), self.choice, channels, classes, step
        )

    def _choose_fitting_model(self) -> None:
        if self.choice is None or not self._fits(self.choice):
            fitting = filter(self._fits, self.choices())
            self.choice = next(fitting, self.choice)

    def _fits(self, choice: ModelChoice) -> bool:
        try:
            if self.source is not None:
                self.source.read_for(choice.spec)
        except InputError:
            return False
        return True

    def _read(self) -> None:
        """Read the image's axes for the model; keep the mask where it still fits."""
        source, choice = self.source, self.choice
        self.misfit = ""
        if source is None or choice is None:
            return
        try:
            reading = source.read_for(choice.spec)
            if self.session is None:
                classes = list(choice.spec.classes)
                project = self.batch.project_of(source)
                self.session = Session(source, reading, classes, project)
            else:
                self.session.take_model(reading, choice.spec.classes)
        except InputError as error:
            self.misfit = str(error)

    def read_as(self, how: ReadAs) -> None:
        """Read the image in another way, if its model can take it so.

        The mask stays where its axes do; else it is saved and left.
        """
        session, choice = self.session, self.choice
        if choice is None or self.source is None:
            return
        source = replace(self.source, read_as=how)
        try:
            reading = source.read_for(choice.spec)
        except InputError as error:
            self.failed.emit(error)
            self.changed.emit()
            return
        self.predictor.cancel()
        self.comparison.end()
        self.predicting.emit(None)
        mark = "" if session is None else session.mark
        if session is not None and not session.fits(reading):
            self._leave()
        self.source = source
        if self.session is not None:
            self.session.source = source
        self._read()
        if self.session is not None:
            self.session.mark = mark
            self._guarded(self.session.save_reading)
        self.changed.emit()
        self.scores_changed.emit()

    def _leave(self) -> None:
        """Save and forget the session."""
        # Edits that still wait belong to this mask, not to the next one.
        self.settling.emit()
        self.mask_left.emit()
        self.predictor.cancel()
        self.predicting.emit(None)
        self.teacher.abandon()
        self.past.abandon()
        self.comparison.forget()
        self.training.emit(None)
        self._set_verdict(None)
        session, self.session = self.session, None
        self._predicted_all, self._last_view = False, None
        if session is not None:
            self._guarded(session.close)

    # The mask -----------------------------------------------------------------

    def restart(self) -> None:
        """Save and leave the mask, since its layer is gone; the image stays."""
        self._leave()
        self._read()
        self.changed.emit()
        self.scores_changed.emit()

    def begin(self) -> bool:
        """Make the mask, or go on with the saved one; return whether there is one."""
        if self.session is None:
            return False
        try:
            started = self.session.begin(self.failed.emit)
        except NapariSegError as error:
            self.failed.emit(error)
            return False
        if started:
            self.past.saved_at = None
            self._take_project_model()
            self.mask_started.emit()
            self.changed.emit()
            self.scores_changed.emit()
            if self.session.read_only:
                self.told.emit(
                    "Another viewer is working on this image: nothing that is painted "
                    "here is saved. Close it there, and remove the mask layer here to "
                    "go on."
                )
            else:
                self.past.recall_strokes()
        return True

    def _take_project_model(self) -> None:
        """Go on with the version that was in use when the project was left."""
        assert self.session is not None
        current = self.version_choice(self.session.project.current)
        if current is not None:
            self.choice = current
            self._read()

    def version_choice(self, version: str | None) -> ModelChoice | None:
        """Return the choice of a version of this project, if it can be read."""
        versions = () if self.session is None else self.session.versions()
        named = next((each for each in versions if each.name == version), None)
        try:
            return None if named is None else choice_of_version(named)
        except ModelFileError as error:
            self.failed.emit(error)
            return None

    @property
    def version(self) -> str:
        """The version of this project that is in use, or empty."""
        choice, session = self.choice, self.session
        own = () if session is None else session.versions()
        used = (each.name for each in own if choice and each.path == choice.path)
        return next(used, "")

    def edited(self, region: Region = None) -> None:
        """Take in that the user may have changed the mask somewhere in `region`."""
        if self.session is not None and self.session.ledger is not None:
            self.record(self.session.ledger.edited(region))

    def replaced(self, labels: NDArray[np.uint8]) -> None:
        """Take in that the viewer's mask is another array now."""
        if self.session is not None and self.session.ledger is not None:
            self.record(self.session.ledger.replace_labels(labels))

    def stroke_finished(self) -> None:
        """Take in that a stroke, a fill, an undo or a review is complete."""
        if self.session is not None and self.session.ledger is not None:
            self.session.stroke_finished()
            self.scores_changed.emit()
            self.stroke_ended.emit()

    def look_over(self) -> bool:
        """Compare a piece of the mask with what was counted; return whether it ends."""
        session = self.session
        if session is None or session.ledger is None:
            return True
        unnoticed, done = session.look_over()
        if unnoticed is not None:
            self.record(unnoticed)
            self.stroke_finished()
        return done

    def rewritten(self) -> None:
        """Show a mask that was brought back to an earlier moment."""
        self.went_back.emit()
        self.pixels_changed.emit(None)
        self.reviewed.emit()
        self.stroke_finished()

    def accept(self, view: View) -> None:
        """Count what is visible as reviewed and right."""
        self.review.view(view)

    def unaccept(self, view: View) -> None:
        """Take acceptance of what is visible back."""
        self.review.view(view, back=True)

    def _reviewed(self) -> None:
        self.reviewed.emit()
        self.stroke_finished()

    def next_uncertain(self) -> Box | None:
        """Return where to look next, or None where everything was looked at."""
        session = self.session
        if session is None or session.ledger is None or session.uncertainty is None:
            return None
        box = session.uncertainty.next(session.ledger)
        if box is None:
            self.told.emit("Every doubtful place was visited.")
        return box

    def add_class(self, name: str) -> None:
        """Add a class; the next fine-tuning teaches it to the model."""
        if self.session is not None:
            self._guarded(self.session.add_class, name)
            self.changed.emit()
            self.scores_changed.emit()

    def rename_class(self, class_id: int, name: str) -> None:
        """Call a class something else; models go on as before."""
        if self.session is not None:
            self._guarded(self.session.rename_class, class_id, name)
            self.changed.emit()
            self.scores_changed.emit()

    def set_countable(self, class_id: int, countable: bool) -> None:
        """Say whether the pixels of a class are objects, one beside the other."""
        if self.session is not None:
            self._guarded(self.session.set_countable, class_id, countable)
            self.changed.emit()

    def set_scope(self, scope: Scope) -> None:
        """Score another part of the mask."""
        self.scope = scope
        self.scores_changed.emit()

    def look_at_slice(self, index: tuple[int, ...]) -> None:
        """Score this plane, if the scope is the current slice."""
        if self.session is not None and self.scope == "slice":
            self.settling.emit()
            if self.session.look_at_slice(index):
                self.scores_changed.emit()

    @property
    def scores(self) -> Scores | None:
        """The live scores, None without a mask."""
        if self.session is None or self.session.ledger is None:
            return None
        return self.session.ledger.scores(self.scope)

    def record(self, change: Change | None) -> None:
        """Save a change of the mask, if there is one."""
        if self.session is not None and change is not None:
            self._guarded(self.session.record, change)
            self.objects.note(change)
            self.object_score.follow(change)
            self.scores_changed.emit()

    def _guarded(self, action: Any, *arguments: Any) -> None:
        """Call `action`; what it raises on purpose goes out as `failed`."""
        try:
            action(*arguments)
        except NapariSegError as error:
            self.failed.emit(error)

    # Prediction ---------------------------------------------------------------

    def predict(self, view: View | None, *, everything: bool) -> None:
        """Predict what is visible, and the rest of the image after it."""
        if not self.begin():
            return
        session, choice = self.session, self.choice
        assert session is not None
        assert choice is not None
        busy = self.past.busy or self.intake.busy or self.computers.busy
        if session.read_only or self.misfit or busy:
            return
        if choice.untrained:
            self.told.emit(
                "This model is new and has learned nothing yet: paint some of each "
                "class, then press Fine-tune."
            )
            return
        self.comparison.end()
        self._predicted_all = everything
        self._last_view = view
        planes = prod(session.reading.leading_shape)
        whole = everything or view is None
        self.coverage.begin(None if whole else view, planes)
        self.predictor.start(
            session,
            choice,
            self.predict_options,
            self.device,
            view,
            everything=everything,
            cluster=self.computers.cluster,
            on_tile=self._tile_arrived,
            on_fetch=self.predicting.emit,
            on_end=self._prediction_ended,
        )
        if self.predictor.busy:
            self.predicting.emit(Progress(0, 1, 0.0))

    @property
    def coverage(self) -> Coverage:
        """What the model has predicted of the image, as both are now."""
        session = self.session
        assert session is not None
        key = (
            id(session),
            self.choice,
            session.reading,
            session.source.read_as,
            self.predict_options,
        )
        if self._covered is None or self._covered[0] != key:
            self._covered = (key, Coverage(session.reading.plane_shape))
        return self._covered[1]

    def look_at(self, view: View) -> None:
        """Take in that the user looks elsewhere: a prediction goes on there."""
        self.predictor.look_at(view)

    def cancel(self) -> None:
        """End the prediction under way; finished tiles stay."""
        if self.predictor.cancel():
            self._prediction_ended(None)

    def _tile_arrived(self, tile: TileResult, progress: Progress) -> None:
        session = self.session
        if session is None or session.ledger is None:
            return
        self.record(session.ledger.predicted(tile.region, tile.labels))
        if session.uncertainty is not None and tile.confidence is not None:
            session.uncertainty.add(tile.region, tile.confidence)
        self.coverage.add(tile.labels.size)
        self.pixels_changed.emit(tile.region)
        self.predicting.emit(progress)

    def _prediction_ended(self, error: Exception | None) -> None:
        if error is not None:
            self.failed.emit(error)
        if isinstance(error, ClusterError):
            self.computers.lost()
        self.coverage.end()
        self.pixels_changed.emit(None)
        self.predicting.emit(None)
        self.stroke_finished()

    # Fine-tuning --------------------------------------------------------------

    def finetune(self, minutes: float) -> None:
        """Train the model on what the user vouches for, in a process of its own."""
        session, choice = self.session, self.choice
        if session is None or choice is None or session.ledger is None:
            return
        self._set_verdict(None)
        self.settling.emit()
        lesson = Lesson(
            choice, minutes, self.device, self.finetune_arguments, self.objects.ids
        )
        # The model may be changed meanwhile; the parent is the one of now.
        self.teacher.start(
            session,
            lesson,
            on_step=self._step_done,
            on_fetch=self.training.emit,
            on_end=partial(self._training_ended, choice.label),
        )
        self.changed.emit()

    def stop_training(self) -> None:
        """End training now, with what was learned so far."""
        self.teacher.stop()
        self.changed.emit()

    def _step_done(self, step: Step) -> None:
        self.training.emit(step)

    def _training_ended(
        self, parent: str, result: dict[str, Any] | None, error: Exception | None
    ) -> None:
        self.training.emit(None)
        if error is not None:
            self.failed.emit(error)
        if result is not None and self.session is not None:
            try:
                result["version"] = add_version(self.session, result, parent)
            except NapariSegError as failure:
                self.failed.emit(failure)
            else:
                self._set_verdict(result)
                self.session.note("finetune")
        self.changed.emit()

    def keep(self) -> None:
        """Use the new model, and predict again what the user did not vouch for."""
        if self.verdict is None or self.session is None:
            return
        version = self.verdict["version"]
        self._set_verdict(None)
        self._guarded(self.session.project.keep_version, version)
        self.restore(version)

    def discard(self) -> None:
        """Go on with the model from before; the new one stays in the list."""
        self._set_verdict(None)

    def restore(self, version: str) -> None:
        """Use a version from the list, and predict again with it."""
        choice = self.version_choice(version)
        if self.session is None or choice is None:
            return
        self._guarded(self.session.project.use_model, version)
        self.set_model(choice)
        if not self.misfit:
            self.predict(self._last_view, everything=self._predicted_all)

    def _set_verdict(self, verdict: dict[str, Any] | None) -> None:
        if verdict is not self.verdict:
            self.comparison.end()
            self.verdict = verdict
            self.verdict_changed.emit()

    # The end ------------------------------------------------------------------

    def signals(self) -> tuple[SignalInstance, ...]:
        """Return all signals of this workspace."""
        declared = vars(Workspace).items()
        return tuple(getattr(self, k) for k, v in declared if isinstance(v, Signal))

    def close(self) -> None:
        """Stop everything and save."""
        self.objects.close()
        self.object_score.forget()
        self._leave()
        self.batch.close()
        self.computers.close()
        self.source = None
