"""The live score of objects, without a window."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.draw import disk

from napari_seg import score_objects
from napari_seg.objects import panoptic
from napari_seg.objects.connected import label_objects
from napari_seg.workspace import ImageSource, Workspace, object_score
from napari_seg.workspace.exports import export, scores_as_csv
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job
from tests.workspace.conftest import Heard

CELLS = ((20, 20), (20, 60), (70, 30), (70, 70))


def draw(labels: NDArray[np.uint8]) -> None:
    labels[:] = 0
    for place in CELLS:
        labels[disk(place, 11)] = 1


def session_of(workspace: Workspace) -> Session:
    assert workspace.session is not None
    return workspace.session


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    """Return the workspace with a prediction of four cells, and a mask alike."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    mask = session_of(workspace).mask
    draw(mask.labels)
    workspace.record(mask.edited())
    workspace.record(mask.predicted(None, mask.labels.copy()))
    workspace.stroke_finished()
    return workspace


def expected(workspace: Workspace, known: Any = True) -> dict[str, Any]:
    """Return the scores of both masks, freshly labelled."""
    session = session_of(workspace)
    mask, wanted = session.mask, session.countable
    ids = [
        label_objects(np.where(wanted[each], each, 0), session.reading.leading)[0]
        for each in (mask.reference, mask.labels)
    ]
    return score_objects(
        *ids,
        prediction_labels=mask.reference,
        truth_labels=np.where(known, mask.labels, 255),
        n_classes=len(session.classes),
    ).to_dict()


def shown(workspace: Workspace) -> dict[str, Any]:
    scores = workspace.object_score.scores
    assert scores is not None, workspace.object_score.reason
    return scores.to_dict()


def erase(workspace: Workspace, place: tuple[int, int]) -> None:
    session_of(workspace).mask.labels[disk(place, 13)] = 0
    y, x = place
    workspace.edited((slice(y - 13, y + 14), slice(x - 13, x + 14)))
    workspace.stroke_finished()


def test_an_erased_object_is_one_that_the_model_invented(ready: Workspace) -> None:
    assert ready.object_score.scores is None, "nobody asked for it"
    ready.object_score.want(True)
    assert shown(ready)["pq"] == [None, 1.0]
    erase(ready, CELLS[0])
    assert shown(ready)["ap50"] == [None, 0.75]
    assert shown(ready)["pq"] == [None, pytest.approx(3 / 3.5)]
    assert shown(ready) == expected(ready)
    ready.object_score.want(False)
    assert ready.object_score.scores is None


def test_only_a_reviewed_area_counts_in_its_scope(ready: Workspace) -> None:
    ready.object_score.want(True)
    erase(ready, CELLS[0])
    mask = session_of(ready).mask
    ready.set_scope("reviewed")
    assert shown(ready)["pq"] == [None, None]
    ready.record(mask.accept((slice(0, 96), slice(40, 96))))
    assert shown(ready)["ap50"] == [None, 1.0]
    ready.record(mask.accept())
    assert shown(ready)["ap50"] == [None, 0.75]
    ready.record(mask.unaccept((slice(0, 96), slice(0, 35))))
    assert shown(ready) == expected(ready, mask.state() & 2 > 0)
    assert shown(ready)["ap50"] == [None, 1.0]


def test_a_slice_has_objects_of_its_own(
    workspace: Workspace, image: NDArray[np.uint16]
) -> None:
    workspace.set_image(ImageSource("stack", np.stack([image] * 3)))
    workspace.predict(None, everything=True)
    mask = session_of(workspace).mask
    for plane in mask.labels:
        draw(plane)
    workspace.record(mask.edited())
    workspace.record(mask.predicted(None, mask.labels.copy()))
    workspace.stroke_finished()
    workspace.object_score.want(True)
    assert session_of(workspace).reading.leading == "Z"
    assert shown(workspace)["true_positives"] == [0, 4]
    mask.labels[1] = 0
    workspace.edited()
    workspace.stroke_finished()
    # Each is two thirds of a column that is not connected any more.
    assert shown(workspace) == expected(workspace)
    workspace.set_scope("slice")
    assert workspace.object_score.scores is None
    workspace.look_at_slice((1,))
    assert shown(workspace)["false_positives"] == [0, 4]
    workspace.look_at_slice((2,))
    assert shown(workspace)["true_positives"] == [0, 4]
    mask.labels[0] = 1
    workspace.edited((slice(0, 1),))
    assert shown(workspace)["true_positives"] == [0, 4]


def test_a_new_prediction_is_followed(ready: Workspace) -> None:
    ready.object_score.want(True)
    ready.predict(None, everything=True)
    assert shown(ready) == expected(ready)
    assert shown(ready)["pq"] != [None, 1.0]


def test_classes_that_are_not_countable_have_no_objects(
    ready: Workspace, source: ImageSource, heard: Heard
) -> None:
    ready.object_score.want(True)
    ready.add_class("debris")
    session_of(ready).mask.labels[:8, :8] = 2
    ready.edited()
    assert shown(ready)["pq"] == [None, 1.0, 0.0]
    ready.set_countable(2, False)
    assert shown(ready)["pq"] == [None, 1.0, None]
    ready.set_countable(1, False)
    assert ready.object_score.scores is None
    assert "No class is countable" in ready.object_score.reason
    ready.objects.find("none")
    assert ready.objects.count == 0
    ready.set_countable(1, True)
    ready.rename_class(2, "dirt")
    project = session_of(ready).project.folder
    ready.set_image(None)
    content = json.loads((project / "project.json").read_text())
    assert [each["countable"] for each in content["classes"]] == [False, True, False]
    ready.set_image(source)
    ready.begin()
    assert session_of(ready).classes[2] == "dirt"
    assert not session_of(ready).countable[2]
    assert session_of(ready).countable[1]
    assert not heard.failures


def test_a_project_of_an_earlier_version_counts_every_class(
    ready: Workspace, source: ImageSource
) -> None:
    path = session_of(ready).project.folder / "project.json"
    ready.set_image(None)
    content = json.loads(path.read_text())
    for each in content["classes"]:
        del each["countable"]
    path.write_text(json.dumps(content))
    ready.set_image(source)
    assert ready.begin()
    assert session_of(ready).countable[:3].tolist() == [False, True, True]


def test_objects_of_a_class_no_longer_countable_are_not_taken_away(
    ready: Workspace, tmp_path: Any
) -> None:
    ready.add_class("debris")
    session_of(ready).mask.labels[45:50, 2:12] = 2
    ready.edited()
    for split in ("none", "shape"):
        ready.objects.find(split)
        assert ready.objects.count == 5
    ready.set_countable(2, False)
    assert export(ready, "objects-geojson", tmp_path / "cells.geojson")
    found = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    names = [each["properties"]["classification"]["name"] for each in found]
    assert names == ["nucleus"] * 4
    for split in ("none", "shape"):
        ready.objects.find(split)
        assert ready.objects.count == 4


def test_what_is_too_large_is_refused(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_score, "MOST_PIXELS", 1000)
    ready.object_score.want(True)
    assert ready.object_score.scores is None
    assert "up to 1\u202f000 px" in ready.object_score.reason


class LateRunner:
    """Runs a job when it is told to, as a thread does."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Job, dict[str, Any]]] = []
        self.cancelled = 0

    def __call__(self, job: Job, **listeners: Any) -> LateRunner:
        self.jobs.append((job, listeners))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def go_on(self) -> None:
        job, listeners = self.jobs.pop()
        for item in job:
            listeners["on_item"](item)
        listeners["on_done"]()


def test_what_is_painted_while_it_is_counted_counts(ready: Workspace) -> None:
    late = LateRunner()
    ready.object_score._runner = late
    ready.object_score.want(True)
    assert ready.object_score.reason == "The objects are being counted."
    erase(ready, CELLS[0])
    late.go_on()
    erase(ready, CELLS[1])
    assert shown(ready)["ap50"] == [None, 0.5]
    assert shown(ready) == expected(ready)


def test_a_large_change_is_counted_beside(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_score, "_AT_ONCE", 100)
    ready.object_score.want(True)
    late = LateRunner()
    ready.object_score._runner = late
    session_of(ready).mask.labels[disk(CELLS[0], 13)] = 0
    ready.edited()
    assert ready.object_score.scores is None
    assert not late.jobs, "there may be more to come"
    ready.stroke_finished()
    late.go_on()
    assert shown(ready)["ap50"] == [None, 0.75]


def test_what_fails_is_told_and_not_tried_again(
    ready: Workspace, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("too little")

    monkeypatch.setattr(panoptic, "PanopticScore", fail)
    ready.object_score.want(True)
    ready.changed.emit()
    assert [str(each) for each in heard.failures] == ["too little"]
    assert not ready.object_score.wanted
    assert not ready.object_score.reason


def test_whoever_changes_his_mind_ends_it(ready: Workspace) -> None:
    late = LateRunner()
    ready.object_score._runner = late
    ready.object_score.want(True)
    ready.object_score.want(False)
    assert late.cancelled == 1
    assert not list(late.jobs[0][0])


def test_the_table_of_scores_has_them(ready: Workspace) -> None:
    def rows() -> list[dict[str, str]]:
        return list(csv.DictReader(scores_as_csv(ready).splitlines()))

    assert {each["pq"] for each in rows()} == {""}
    ready.object_score.want(True)
    erase(ready, CELLS[0])
    background, nucleus, mean = rows()
    assert background["pq"] == background["ap50"] == ""
    assert nucleus["sq"] == "1.000000"
    assert nucleus["rq"] == nucleus["pq"] == f"{3 / 3.5:.6f}"
    assert nucleus["ap50"] == mean["ap50"] == "0.750000"
