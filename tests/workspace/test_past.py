"""What was done before: offered, listed, brought back."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_seg.corrections.activity import read_activity
from napari_seg.corrections.ledger import Ledger
from napari_seg.workspace import ImageSource, View, Workspace, obstacles
from napari_seg.workspace.exports import export
from napari_seg.workspace.tasks import Job, Task, run_inline
from tests.workspace.conftest import SIDE, Heard

VIEW = View((), slice(0, 40), slice(30, SIDE))


class Said:
    """What came out of a workspace about the past."""

    def __init__(self, workspace: Workspace) -> None:
        self.moments: list[Any] = []
        self.strokes: list[Any] = []
        workspace.moments_listed.connect(self._moments)
        workspace.strokes_recalled.connect(self._strokes)

    def _moments(self, moments: list[Any]) -> None:
        self.moments = moments

    def _strokes(self, strokes: list[Any]) -> None:
        self.strokes = strokes


@pytest.fixture
def reopened(
    user_home: Path, model_file: Path, source: ImageSource
) -> Iterator[Callable[[], Workspace]]:
    """Return a function that leaves the image and opens it again, a day later."""
    opened: list[Workspace] = []

    def reopen() -> Workspace:
        for each in opened:
            each.close()
        workspace = Workspace(run_inline)
        opened.append(workspace)
        workspace.open_model(model_file)
        workspace.set_image(ImageSource(source.name, source.data))
        return workspace

    yield reopen
    for each in opened:
        each.close()


class HeldRunner:
    """Begins jobs only when it is told to, as a thread pool with much to do."""

    def __init__(self, workspace: Workspace) -> None:
        self.jobs: list[tuple[Job, dict[str, Any]]] = []
        workspace.past._runner = self

    def __call__(self, job: Job, **reports: Any) -> Task:
        self.jobs.append((job, reports))
        return self

    def cancel(self) -> None:
        """Do nothing: what is late must be noticed where it arrives."""

    def release(self) -> None:
        """Do all that was asked for."""
        while self.jobs:
            job, reports = self.jobs.pop(0)
            run_inline(job, **reports)


def ledger(workspace: Workspace) -> Ledger:
    assert workspace.session is not None
    return workspace.session.mask


def paint(workspace: Workspace, *where: slice) -> None:
    labels = ledger(workspace).labels
    labels[where] = 1 - labels[where]
    workspace.edited(where)
    workspace.stroke_finished()


def everything(workspace: Workspace) -> tuple[NDArray[np.uint8], ...]:
    mask = ledger(workspace)
    return mask.labels.copy(), mask.state(), mask.reference.copy()


def test_saved_work_is_offered_and_gone_on_with(
    reopened: Callable[[], Workspace],
) -> None:
    workspace = reopened()
    assert workspace.past.saved_at is None
    workspace.predict(None, everything=True)
    paint(workspace, slice(3, 9), slice(4, 12))
    workspace.accept(VIEW)
    before, scores = everything(workspace), workspace.scores
    assert scores is not None

    workspace = reopened()
    assert workspace.past.saved_at is not None
    assert workspace.session is not None
    assert workspace.session.ledger is None
    workspace.begin()

    assert workspace.past.saved_at is None
    for old, new in zip(before, everything(workspace), strict=True):
        np.testing.assert_array_equal(old, new)
    assert workspace.scores is not None
    np.testing.assert_array_equal(workspace.scores.confusion, scores.confusion)


def test_what_is_saved_while_it_is_looked_for_is_not_offered(
    reopened: Callable[[], Workspace], source: ImageSource
) -> None:
    workspace = reopened()
    runner = HeldRunner(workspace)
    workspace.set_image(None)
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    paint(workspace, slice(3, 9), slice(4, 12))
    assert workspace.session is not None
    assert workspace.session.store is not None
    assert workspace.session.store.flush(10)
    runner.release()
    assert workspace.past.saved_at is None


def test_no_prediction_while_the_mask_is_brought_back(
    reopened: Callable[[], Workspace],
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    predicted = everything(workspace)
    paint(workspace, slice(3, 9), slice(4, 12))
    said = Said(workspace)
    workspace.past.list_moments()
    runner = HeldRunner(workspace)
    gates: list[str] = []
    workspace.changed.connect(lambda: gates.append(obstacles.to_predict(workspace)))
    workspace.past.revert(said.moments[0])
    assert "brought back" in gates[-1]
    moves = ledger(workspace).moves
    workspace.predict(None, everything=True)
    assert ledger(workspace).moves == moves, "tiles between two states of the mask"
    runner.release()
    assert gates[-1] == ""
    for old, new in zip(predicted, everything(workspace), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_is_offered_for_another_image(
    reopened: Callable[[], Workspace], source: ImageSource
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    workspace.set_image(ImageSource(source.name, source.data + 1))
    assert workspace.past.saved_at is None


def test_the_mask_goes_back_to_any_moment_and_forth_again(
    reopened: Callable[[], Workspace],
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    predicted = everything(workspace)
    paint(workspace, slice(3, 9), slice(4, 12))
    workspace.accept(VIEW)
    accepted = everything(workspace)
    paint(workspace, slice(50, 70), slice(4, 12))
    said = Said(workspace)
    workspace.past.list_moments()
    kinds = [moment.kind for moment in said.moments]
    assert kinds == ["predict", "edit", "accept", "edit"]

    workspace.past.revert(said.moments[0])
    for old, new in zip(predicted, everything(workspace), strict=True):
        np.testing.assert_array_equal(old, new)
    assert ledger(workspace).corrected_pixels == 0
    assert ledger(workspace).recount()

    workspace = reopened()
    workspace.begin()
    said = Said(workspace)
    workspace.past.list_moments()
    assert [moment.kind for moment in said.moments] == [*kinds, "revert"]
    workspace.past.revert(said.moments[2])
    for old, new in zip(accepted, everything(workspace), strict=True):
        np.testing.assert_array_equal(old, new)

    workspace.past.revert(None)
    assert not ledger(workspace).labels.any()
    assert (ledger(workspace).reference == 255).all()


def test_reverting_waits_for_its_turn(reopened: Callable[[], Workspace]) -> None:
    workspace = reopened()
    assert "no mask yet" in obstacles.to_revert(workspace)
    workspace.past.revert(None)
    workspace.predict(None, everything=True)
    assert obstacles.to_revert(workspace) == ""
    workspace.past.busy = True
    assert "being brought back" in obstacles.to_revert(workspace)
    workspace.past.revert(None)
    assert (ledger(workspace).reference != 255).all()


def test_strokes_can_be_undone_on_another_day(
    reopened: Callable[[], Workspace],
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    paint(workspace, slice(3, 9), slice(4, 12))
    paint(workspace, slice(5, 11), slice(4, 12))

    workspace = reopened()
    said = Said(workspace)
    workspace.begin()

    assert len(said.strokes) == 2
    labels = ledger(workspace).labels.copy()
    for stroke in reversed(said.strokes):
        for box, before, after in reversed(stroke):
            np.testing.assert_array_equal(labels[box], after)
            labels[box] = before
    np.testing.assert_array_equal(labels, ledger(workspace).reference)


def test_strokes_are_not_recalled_over_a_newer_one(
    reopened: Callable[[], Workspace], user_home: Path, source: ImageSource
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    paint(workspace, slice(3, 9), slice(4, 12))
    workspace.close()
    slow = Workspace(_Slow())
    slow.set_image(ImageSource(source.name, source.data))
    said = Said(slow)
    slow.begin()
    paint(slow, slice(20, 25), slice(4, 12))
    _Slow.work()
    assert said.strokes == []
    slow.close()


class _Slow:
    """A runner whose jobs run when they are told to."""

    waiting: list[Callable[[], Task]] = []  # noqa: RUF012

    def __call__(self, job: Job, **callbacks: Any) -> Task:
        self.waiting.append(lambda: run_inline(job, **callbacks))
        return run_inline(_nothing(), **{k: lambda *_: None for k in callbacks})

    @classmethod
    def work(cls) -> None:
        while cls.waiting:
            cls.waiting.pop(0)()


def _nothing() -> Job:
    yield from ()


def test_the_record_of_work_goes_on(
    reopened: Callable[[], Workspace], tmp_path: Path
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    paint(workspace, slice(3, 9), slice(4, 12))
    workspace.accept(VIEW)

    workspace = reopened()
    workspace.begin()
    assert workspace.session is not None
    assert len(workspace.session.history.points("whole")) == 2
    assert len(workspace.session.history.points("reviewed")) == 1
    paint(workspace, slice(50, 52), slice(4, 12))

    assert export(workspace, "work", tmp_path / "work.csv")
    entries = read_activity(tmp_path / "work.csv")
    assert [entry.kind for entry in entries] == ["predict", "edit", "accept", "edit"]
    assert sum(entries[1].changed.values()) == 6 * 8
    assert set(entries[1].changed) <= {"background", "nucleus"}
    assert entries[3].corrected == 6 * 8 + 2 * 8
    assert entries[2].accepted == 40 * (SIDE - 30)
    with (tmp_path / "work.csv").open() as file:
        assert len(list(csv.reader(file))) == 5
    assert workspace.session.diary is not None
    assert workspace.session.diary.summary.strokes == 2


def test_there_is_no_record_without_work(
    workspace: Workspace, heard: Heard, source: ImageSource, tmp_path: Path
) -> None:
    workspace.set_image(source)
    assert not export(workspace, "work", tmp_path / "work.csv")
    assert "no record yet" in str(heard.failures[-1])


def test_a_damaged_mask_locks_nobody_out(
    reopened: Callable[[], Workspace], user_home: Path
) -> None:
    workspace = reopened()
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    assert workspace.session.store is not None
    assert workspace.session.store.flush(10)
    workspace.session.store.compact()
    expected = everything(workspace)
    workspace.close()
    chunk = next(user_home.glob("projects/*/images/*/mask.zarr/reference/c/0/0"))
    content = chunk.read_bytes()
    chunk.write_bytes(b"damaged" + content[7:])

    workspace = reopened()
    heard = Heard(workspace)
    assert not workspace.begin()
    assert chunk.name in str(heard.failures[-1])
    chunk.write_bytes(content)
    assert workspace.begin()

    assert workspace.session is not None
    assert not workspace.session.read_only
    for old, new in zip(expected, everything(workspace), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_unnoticed_edit_is_found_and_saved(
    reopened: Callable[[], Workspace],
) -> None:
    workspace = reopened()
    assert workspace.look_over()
    workspace.predict(None, everything=True)
    labels = ledger(workspace).labels
    labels[10:20, 10:20] = 1 - labels[10:20, 10:20]
    assert ledger(workspace).corrected_pixels == 0
    rounds = 0
    while not workspace.look_over():
        rounds += 1
    assert rounds
    assert ledger(workspace).corrected_pixels == 100

    workspace = reopened()
    workspace.begin()
    assert ledger(workspace).corrected_pixels == 100
