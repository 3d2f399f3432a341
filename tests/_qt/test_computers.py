"""Predicting on the workers of a dask scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from numpy.typing import NDArray
from qtpy.QtWidgets import QInputDialog

from napari_seg import load_model, predict
from napari_seg.errors import ClusterError, InputError
from napari_seg.inference import cluster as cluster_module
from napari_seg.inference.predict import PredictOptions
from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def server() -> Iterator[LocalCluster]:
    """Return a scheduler with a worker."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


def connect(person: Person, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the last entry, and answer the question that follows."""
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: (address, True))
    combo = person.combo("run_on_combo")
    hands.choose(combo, "Dask scheduler…")


def models(server: LocalCluster) -> list[str]:
    """Return what workers were given."""
    return [n for n in server.scheduler.worker_plugins if n.startswith("napari-seg")]


def test_a_scheduler_predicts(
    person: Person,
    server: LocalCluster,
    model_file: Path,
    field: NDArray[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    combo = person.combo("run_on_combo")
    here = person.text("device_label")
    assert combo.currentText() == "This computer"
    address = server.scheduler_address
    connect(person, address, monkeypatch)
    person.wait(lambda: person.text("device_label") == "1 worker")
    assert combo.currentText() == address.removeprefix("tcp://")

    person.workspace.predict_options = PredictOptions(tile=32)
    mask = person.predict()
    expected = predict(load_model(model_file), field, tile=32).labels
    # Sums depend on how many threads share them.
    assert np.count_nonzero(mask.data != expected) < 3
    assert models(server)

    hands.choose(combo, "This computer")
    assert person.text("device_label") == here
    person.wait(lambda: not models(server))
    # It is offered from now on.
    assert combo.itemText(1) == address.removeprefix("tcp://")
    assert not person.failures


def test_a_scheduler_that_is_lost(
    person: Person, server: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(person, server.scheduler_address, monkeypatch)
    person.wait(lambda: person.text("device_label") == "1 worker")
    server.close()
    hands.press_button(person.button("predict_all_button"))
    person.wait(lambda: bool(person.failures))
    (failure,) = person.failures
    assert isinstance(failure, ClusterError)
    assert "scheduler" in str(failure)
    person.failures.clear()
    # This computer goes on.
    assert person.combo("run_on_combo").currentText() == "This computer"
    assert person.predict().data.any()


def test_nobody_answers(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.3)
    connect(person, "tcp://127.0.0.1:9", monkeypatch)
    person.wait(lambda: bool(person.failures))
    (failure,) = person.failures
    person.failures.clear()
    assert isinstance(failure, InputError)
    assert "No dask scheduler answers" in str(failure)
    assert person.combo("run_on_combo").currentText() == "This computer"
    assert person.button("predict_all_button").isEnabled()


def test_leaving_while_a_connection_is_made(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE", 1.0)
    connect(person, "tcp://127.0.0.1:9", monkeypatch)
    hands.choose(person.combo("run_on_combo"), "This computer")
    person.wait(lambda: person.dock._runner.running == 0)
    assert not person.failures
    assert person.predict().data.any()
