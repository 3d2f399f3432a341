"""Fine-tuning as the workspace sees it; the child process is played."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imread

from napari_seg.errors import NothingToLearnError, TrainingError
from napari_seg.training import child
from napari_seg.training.child import FinetuneCommand
from napari_seg.training.loop import Step
from napari_seg.workspace import ImageSource, View, Workspace, obstacles
from napari_seg.workspace.exports import export, scores_as_csv
from napari_seg.workspace.lesson import Lesson, finetune_command
from napari_seg.workspace.tasks import Job, Task
from napari_seg.workspace.teaching import Curves, verdict_text
from tests.workspace.conftest import SIDE, Heard, make_model

RESULT = {
    "sentence": "The new model is better.",
    "before": {"mean_dice": 0.5, "iou": [0.4], "dice": [0.5], "mean_iou": 0.4},
    "after": {"mean_dice": 0.75, "iou": [0.6], "dice": [0.75], "mean_iou": 0.6},
    "interval": [0.1, 0.4],
    "improved": True,
    "regions": 5,
    "places": 2,
    "pixels": 12345,
    "steps": 3,
    "seconds": 2.0,
    "plateau": False,
    "earlier": None,
}


class PlayedChild:
    """Stands in for the process."""

    made: list[PlayedChild] = []  # noqa: RUF012
    error: Exception | None = None
    during: Callable[[], object] | None = None

    def __init__(self, command: FinetuneCommand) -> None:
        self.command, self.result = command, None
        self.cancelled = self.killed = self.started = False
        self.made.append(self)

    def steps(self) -> Iterator[Step]:
        self.started = True
        for i in range(1, 4):
            yield Step(i, 1 / i, i / 3, float(i), 0.5 if i == 3 else None)
            if self.during is not None:
                type(self).during()
            if self.killed:
                raise TrainingError("killed")
        if self.error is not None:
            raise self.error
        make_model(self.command.output, width=4)
        self.result = {**RESULT, "model": str(self.command.output)}

    def cancel(self) -> None:
        self.cancelled = True

    def kill(self) -> None:
        self.killed = True


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> type[PlayedChild]:
    monkeypatch.setattr(child, "FinetuneChild", PlayedChild)
    monkeypatch.setattr(PlayedChild, "made", [])
    monkeypatch.setattr(PlayedChild, "during", None)
    monkeypatch.setattr(PlayedChild, "error", None)
    return PlayedChild


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    """Return the workspace with something to learn from."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    workspace.accept(View((), slice(0, 64), slice(0, SIDE)))
    return workspace


def test_a_better_model_is_offered_and_kept(ready: Workspace, heard: Heard) -> None:
    assert ready.session is not None
    truth = ready.session.mask.truth()
    ready.finetune(0.5)
    assert not heard.failures
    command = PlayedChild.made[0].command
    assert command.minutes == 0.5
    assert command.project == ready.session.project.folder
    assert list(command.project.glob("windows/labels/*.tif"))
    assert ready.verdict is not None
    assert ready.verdict["version"] == "v001"
    assert ready.version == ""
    ready.keep()
    assert ready.verdict is None
    assert ready.version == "v001"
    assert ready.choice is not None
    assert ready.choice.label == "v001, fine-tuned"
    assert ready.session.versions()[0].card.parent == "tiny"
    kept = truth != 255
    np.testing.assert_array_equal(ready.session.mask.labels[kept], truth[kept])


def test_a_head_learns_from_the_objects_that_were_found(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    assert ready.session is not None
    ready.objects.find("shape")
    ready.finetune(0.5)
    windows = ready.session.project.windows_folder
    assert not (windows / "objects").exists(), "this model has no use for them"
    ready.discard()

    ready.open_model(make_model(tmp_path / "able", object_head=True))
    ready.objects.find("shape")
    ready.finetune(0.5)
    (file,) = (windows / "objects").iterdir()
    np.testing.assert_array_equal(imread(file), ready.objects.ids)
    assert not heard.failures


def test_discard_leaves_everything_and_restore_brings_it_back(
    ready: Workspace,
) -> None:
    before = ready.choice
    ready.finetune(0.5)
    ready.discard()
    assert (ready.choice, ready.verdict, ready.version) == (before, None, "")
    ready.restore("v001")
    assert ready.version == "v001"


def test_the_version_of_one_image_is_no_version_of_another(
    ready: Workspace,
) -> None:
    ready.finetune(0.5)
    ready.keep()
    ready.set_image(ImageSource("other", np.zeros((64, 64), np.uint8)))
    assert ready.begin()
    assert ready.choice is not None
    assert ready.choice.label == "v001, fine-tuned", "one goes on with it"
    assert ready.choice in ready.choices()
    assert ready.version == ""
    ready.restore("v001")
    assert ready.version == ""


def test_the_parent_is_the_model_that_was_trained(
    ready: Workspace, played: type[PlayedChild], tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other")
    played.during = lambda: ready.open_model(other)
    ready.finetune(0.5)
    assert ready.session is not None
    assert ready.session.versions()[0].card.parent == "tiny"


def test_a_failure_changes_nothing(
    ready: Workspace, heard: Heard, played: type[PlayedChild]
) -> None:
    before = ready.choice
    played.error = TrainingError("no memory")
    ready.finetune(0.5)
    assert heard.failures == [played.error]
    assert (ready.choice, ready.verdict) == (before, None)
    assert not ready.teacher.busy


def test_too_little(workspace: Workspace, heard: Heard, source: ImageSource) -> None:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    workspace.accept(View((), slice(0, 5), slice(0, 5)))
    workspace.finetune(0.5)
    assert [type(e) for e in heard.failures] == [NothingToLearnError]
    assert not PlayedChild.made


def test_stopping_asks_the_child(ready: Workspace, played: type[PlayedChild]) -> None:
    phases = [ready.teacher.phase]

    def stop() -> None:
        phases.append(ready.teacher.phase)
        assert not obstacles.to_stop(ready)
        ready.stop_training()
        played.during = None
        phases.append(ready.teacher.phase)
        assert "card" in obstacles.to_stop(ready)

    played.during = stop
    ready.finetune(0.5)
    assert PlayedChild.made[0].cancelled
    assert ready.verdict is not None
    assert phases == ["", "", "Comparing the old and the new model…"]
    assert ready.teacher.phase == ""


def test_leaving_kills_the_child(ready: Workspace, played: type[PlayedChild]) -> None:
    played.during = lambda: ready.set_image(None)
    ready.finetune(0.5)
    assert PlayedChild.made[0].killed
    assert ready.session is None
    assert ready.verdict is None


class LaterRunner:
    """Keeps jobs, as a thread pool with much to do."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job, **_: Any) -> Task:
        self.jobs.append(job)
        return self

    def cancel(self) -> None:
        """Do nothing: the thread may be about to start the child."""


@pytest.mark.parametrize("stopped", [True, False])
def test_a_child_that_was_not_started_yet(ready: Workspace, stopped: bool) -> None:
    runner = LaterRunner()
    ready.teacher._runner = runner
    ready.finetune(0.5)
    if stopped:
        ready.stop_training()
    else:
        ready.set_image(None)
    steps = list(runner.jobs[0])
    assert PlayedChild.made[0].started == stopped
    assert PlayedChild.made[0].cancelled == stopped
    assert len(steps) == (3 if stopped else 0)


def test_a_new_class_is_taught(ready: Workspace) -> None:
    ready.add_class("rim")
    ready.finetune_arguments = ("--crop", "64")
    ready.finetune(0.5)
    options = PlayedChild.made[0].command.options
    assert options[:2] == ("--crop", "64")
    assert options[options.index("--classes") + 1] == "background,nucleus,rim"
    assert options[-1] == "--overwrite"


def test_an_untrained_model_is_made_first(ready: Workspace) -> None:
    ready.set_model(next(c for c in ready.choices() if c.untrained))
    ready.finetune(0.5)
    assert PlayedChild.made[0].command.model.is_file()


def test_earlier_images_that_the_model_knows_are_replayed(
    ready: Workspace, tmp_path: Path
) -> None:
    """Of those that still lie beside the project, and have windows."""
    assert ready.session is not None
    assert ready.choice is not None
    own = ready.session.project.folder
    for name in ("a", "b", "empty"):
        (own.parent / name / "windows" / "labels").mkdir(parents=True)
    for name in ("a", "b"):
        (own.parent / name / "windows" / "labels" / "0.tif").touch()
    spec = ready.choice.spec
    for name in (
        "b",
        "a",
        own.name,
        "b",
        "gone",
        "empty",
        "..",
        "a/../b",
        str(tmp_path),
    ):
        spec = spec.with_history({"project": name})
    choice = replace(ready.choice, spec=spec.with_history({"steps": 3}))
    command = finetune_command(ready.session, Lesson(choice, 1.0))
    replayed = [
        value for name, value in pairwise(command.options) if name == "--replay"
    ]
    assert replayed == [str(own.parent / "b"), str(own.parent / "a")]


# Words and files --------------------------------------------------------------


def test_the_verdict_in_words() -> None:
    text = verdict_text(RESULT)
    assert text.startswith(RESULT["sentence"])
    assert "0.500 → 0.750" in text
    assert "+0.100 to +0.400" in text
    assert "12\u202f345 px in 5 regions of 2 places" in text
    assert "no longer rose" not in text
    assert "no longer rose" in verdict_text({**RESULT, "plateau": True})
    unknown = {**RESULT, "before": {"mean_dice": None}, "after": {"mean_dice": None}}
    assert "→" not in verdict_text(unknown)


def test_curves_are_smooth_and_hold_what_was_held_out() -> None:
    curves = Curves()
    for i, loss in enumerate((1.0, 2.0, 0.0)):
        curves.add(Step(i + 1, loss, 0.1, float(i), 0.7 if i == 1 else None))
    assert curves.seconds == [0, 1, 2]
    assert curves.loss == pytest.approx([1, 1.1, 0.99])
    assert (curves.holdout_seconds, curves.holdout) == ([1], [0.7])


def test_exports(ready: Workspace, heard: Heard, tmp_path: Path) -> None:
    assert ready.session is not None
    mask = ready.session.mask.labels
    assert export(ready, "mask", tmp_path / "mask")
    assert heard.told[-1] == f"Saved {tmp_path / 'mask.tif'}"
    np.testing.assert_array_equal(imread(tmp_path / "mask.tif"), mask)
    assert export(ready, "scores", tmp_path / "scores.csv")
    rows = list(csv.DictReader(scores_as_csv(ready).splitlines()))
    assert [row["class"] for row in rows] == ["background", "nucleus", "mean"]
    assert float(rows[-1]["dice"]) == 1
    assert int(rows[-1]["pixels"]) == mask.size
    assert export(ready, "windows", tmp_path)
    labels = imread(next((tmp_path / "windows" / "labels").glob("*.tif")))
    assert set(np.unique(labels)) <= {0, 1, 255}
    assert export(ready, "model", tmp_path / "taken.safetensors")
    assert not heard.failures
    # Nobody was asked whether this file may be replaced.
    assert not export(ready, "mask", tmp_path / "mask")
    assert "full name" in str(heard.failures.pop())
    ready.set_model(next(c for c in ready.choices() if c.untrained))
    assert not export(ready, "model", tmp_path / "none.safetensors")
    assert "no weights" in str(heard.failures[-1])
    shutil.rmtree(tmp_path / "windows")
    assert not export(ready, "mask", tmp_path / "no" / "folder" / "mask.tif")
