"""Jobs beside the main thread: cancelled, crashed, closed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import psutil
import pytest
from qtpy.QtWidgets import QApplication

from napari_seg._qt.worker import QtRunner
from napari_seg.errors import TrainingError
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.workspace.tasks import Job
from tests._qt import hands
from tests._qt.person import PATIENCE, Person, balanced_model


class Ears:
    """Hears what a runner reports."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self.ends: list[Exception | None] = []

    def start(self, runner: QtRunner, job: Job) -> object:
        return runner(
            job,
            on_item=self.items.append,
            on_done=lambda: self.ends.append(None),
            on_error=self.ends.append,
        )


@pytest.mark.smoke
def test_a_job_reports_on_the_main_thread(qapp: QApplication) -> None:
    ears, runner, threads = Ears(), QtRunner(), set()

    def job() -> Job:
        threads.add(threading.get_ident())
        yield 1
        yield 2

    ears.start(runner, job())
    hands.wait_until(lambda: ears.ends, PATIENCE)
    assert (ears.items, ears.ends, runner.running) == ([1, 2], [None], 0)
    assert threads != {threading.get_ident()}


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("no")])
def test_an_error_arrives_whatever_its_kind(
    qapp: QApplication, error: Exception
) -> None:
    ears, runner = Ears(), QtRunner()

    def job() -> Job:
        yield 1
        raise error

    ears.start(runner, job())
    hands.wait_until(lambda: ears.ends, PATIENCE)
    assert ears.ends == [error]


def test_a_cancelled_job_is_closed_on_its_thread_and_silent(
    qapp: QApplication,
) -> None:
    ears, runner, closed_on = Ears(), QtRunner(), []

    def job() -> Job:
        try:
            while True:
                time.sleep(0.005)
                yield threading.get_ident()
        finally:
            closed_on.append(threading.get_ident())

    task = ears.start(runner, job())
    hands.wait_until(lambda: ears.items, PATIENCE)
    task.cancel()
    heard = len(ears.items)
    hands.wait_until(lambda: closed_on and not runner.running, PATIENCE)
    assert closed_on == ears.items[:1]
    assert len(ears.items) == heard
    assert not ears.ends


def test_the_end_waits_for_its_own_jobs_only(qapp: QApplication) -> None:
    mine, others, gone = QtRunner(), QtRunner(), threading.Event()

    def job() -> Job:
        while True:
            time.sleep(0.005)
            yield None

    def other() -> Job:
        gone.wait(PATIENCE)
        yield None

    ears, others_ears = Ears(), Ears()
    ears.start(mine, job())
    others_ears.start(others, other())
    hands.wait_until(lambda: ears.items, PATIENCE)
    start = time.perf_counter()
    assert mine.shut_down()
    assert time.perf_counter() - start < 4
    gone.set()
    hands.wait_until(lambda: others_ears.ends and not mine.running, PATIENCE)
    assert not ears.ends


# In the dock ------------------------------------------------------------------


@pytest.fixture
def person(viewer: napari.Viewer, tmp_path: Path) -> Iterator[Person]:
    """Return somebody with an image of many tiles."""
    field = synthetic_nuclei((320, 320), n=40, seed=1).image
    viewer.add_image(field, name="large")
    person = Person(viewer, balanced_model(tmp_path / "tiny", field))
    from napari_seg.inference.predict import PredictOptions

    person.workspace.predict_options = PredictOptions(tile=32)
    yield person
    person.leave()


def _begin(person: Person) -> int:
    """Start a prediction and wait for some tiles; return the predicted pixels."""
    person.press("predict_all_button")
    person.wait(lambda: _predicted(person) >= 3 * 32 * 32)
    return _predicted(person)


def _predicted(person: Person) -> int:
    ledger = person.session.ledger
    return 0 if ledger is None else int((ledger.reference != 255).sum())


def _still(person: Person) -> int:
    """Return the predicted pixels, once no late tile can come any more."""
    person.wait(lambda: person.dock._runner.running == 0)
    hands.settle(0.1)
    return _predicted(person)


def test_cancel_keeps_finished_tiles(person: Person) -> None:
    _begin(person)
    start = time.perf_counter()
    person.press("cancel_button")
    assert person.idle()
    assert "No prediction" in person.button("cancel_button").toolTip()
    at_once = _predicted(person)
    assert at_once < 320 * 320
    assert _still(person) == at_once
    assert time.perf_counter() - start < 10
    assert not person.failures
    person.check_scores()
    person.predict()
    assert _predicted(person) == 320 * 320


def test_another_model_drops_late_tiles(person: Person, tmp_path: Path) -> None:
    _begin(person)
    image = person.viewer.layers["large"].data
    person.workspace.open_model(balanced_model(tmp_path / "other", image, seed=5))
    assert person.idle()
    at_once = _predicted(person)
    assert _still(person) == at_once < 320 * 320
    assert person.combo("model_combo").currentText() == "other"


def test_another_image_drops_late_tiles(person: Person) -> None:
    small = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    person.viewer.add_image(small, name="small")
    _begin(person)
    first = person.mask
    combo = person.combo("image_combo")
    chosen: list[Any] = []
    # A tile may still come in between two keys, so what counts is the moment of the
    # choice.
    combo.activated.connect(lambda _: chosen.append(first.data.copy()))
    hands.choose(combo, "small")
    assert person.idle()
    assert person.dock.mask_view.layer is None
    person.wait(lambda: person.dock._runner.running == 0)
    np.testing.assert_array_equal(first.data, chosen[-1])
    assert not first.editable, "what is painted there would be saved nowhere"
    assert person.predict().data.shape == (64, 64)
    assert not person.failures


def _children() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _start_training(person: Person, minutes: float = 5) -> psutil.Process:
    """Correct something and start to train; return the child process."""
    before = _children()
    person.predict()
    person.mask.brush_size = 20
    hands.drag(person.viewer, [(50, 50), (150, 150), (250, 100)])
    person.press("accept_view_button")
    person.workspace.finetune_arguments = ("--crop", "64", "--batch", "2")
    person.find(type(person.dock._panels[3].minutes), "finetune_minutes").setValue(
        minutes
    )
    person.press("finetune_button")
    person.wait(lambda: set(_children()) - set(before))
    return (set(_children()) - set(before)).pop()


def test_stop_keeps_the_best_so_far(person: Person) -> None:
    _start_training(person)
    person.wait(lambda: person.workspace.teacher.curves.loss)
    person.press("finetune_stop_button")
    person.wait_for_training()
    assert not person.failures
    assert person.workspace.verdict is not None
    assert [v.name for v in person.session.versions()] == ["v001"]


def test_a_child_that_is_killed(person: Person) -> None:
    child = _start_training(person)
    person.wait(lambda: person.workspace.teacher.curves.loss)
    os.kill(child.pid, signal.SIGKILL)
    person.wait_for_training()
    assert [type(error) for error in person.failures] == [TrainingError]
    assert "killed" in str(person.failures[0])
    assert "unchanged" in str(person.failures[0])
    assert person.workspace.verdict is None
    assert person.combo("model_combo").currentText() == "tiny"
    assert person.button("finetune_button").isEnabled()
    assert person.session.versions() == ()


# The end ----------------------------------------------------------------------


def _check_all_ended(person: Person, children: list[psutil.Process]) -> None:
    workspace, runner = person.workspace, person.dock._runner
    assert workspace.session is None
    assert not workspace.predictor.busy
    assert not workspace.teacher.busy
    hands.wait_until(lambda: runner.running == 0, PATIENCE)
    hands.wait_until(lambda: not set(_children()) - set(children), PATIENCE)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("napari-seg")], names


@pytest.mark.parametrize("how", ["window", "dock", "quit"])
def test_closing_while_predicting_and_training(
    person: Person, user_home: Path, how: str
) -> None:
    children = _children()
    _start_training(person)
    mask = person.mask
    hands.drag(person.viewer, [(200, 50), (250, 60)])
    person.press("predict_all_button")
    person.wait(lambda: person.workspace.predictor.busy)
    labels, folder = mask.data.copy(), person.session.project.folder
    state = person.session.mask.state()
    if how == "window":
        person.viewer.close()
        hands.settle(0.2)
    elif how == "dock":
        person.viewer.window.remove_dock_widget(person.dock)
    else:
        QApplication.instance().aboutToQuit.emit()
    _check_all_ended(person, children)
    assert not person.failures

    from napari_seg.corrections.project import Project

    project = Project.open(folder)
    assert not project.read_only, "the lock was not given back"
    store = project.open_store(next(iter(project.images.values())))
    saved = store.load()
    vouched = state > 0
    np.testing.assert_array_equal(saved.labels[vouched], labels[vouched])
    np.testing.assert_array_equal(saved.state, state)
    store.close()
    project.close()


def test_a_script_that_just_ends_has_saved(tmp_path: Path, model_file: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import napari\n"
        "import numpy as np\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from napari_seg._qt.app import show_dock\n"
        "viewer = napari.Viewer()\n"
        "viewer.add_image(np.eye(64), name='cells')\n"
        "workspace = show_dock(viewer).workspace\n"
        "workspace.open_model(Path(sys.argv[1]))\n"
        "workspace.predict(None, everything=True)\n"
        "while workspace.predictor.busy:\n"
        "    QApplication.processEvents()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(model_file)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env=os.environ | {"NAPARI_SEG_HOME": str(tmp_path / "home")},
    )
    assert "Error" not in ended.stderr, ended.stderr
    (record,) = (tmp_path / "home").rglob("activity.csv")
    assert "predict" in record.read_text()
