"""Two versions in the view: what differs, and that the mask stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_seg
from napari_seg.workspace import ImageSource, View, Workspace
from napari_seg.workspace.comparison import Compared
from napari_seg.workspace.lesson import add_version
from napari_seg.workspace.tasks import Job
from tests.workspace.conftest import SIDE, Heard, make_model
from tests.workspace.test_teaching import RESULT

VIEW = View((), slice(10, 70), slice(5, 90))


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource, tmp_path: Path) -> Workspace:
    """Return a workspace with a mask, a part of it accepted, and two versions."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    workspace.accept(View((), slice(0, 40), slice(0, SIDE)))
    assert workspace.session is not None
    for width in (4, 6):
        path = make_model(tmp_path / f"trained {width}", width=width)
        add_version(workspace.session, {**RESULT, "model": str(path)}, "tiny")
    return workspace


def predicted(workspace: Workspace, version: str) -> NDArray[np.uint8]:
    """Return the view as this version alone has it."""
    assert workspace.session is not None
    path = next(v.path for v in workspace.session.versions() if v.name == version)
    model = napari_seg.load_model(path)
    return napari_seg.predict(model, workspace.session.source.data).labels[VIEW.box]


def shown(workspace: Workspace) -> Compared:
    compared = workspace.comparison.shown
    assert compared is not None
    return compared


def test_one_version_beside_the_mask(ready: Workspace, heard: Heard) -> None:
    assert ready.session is not None
    mask, moves = ready.session.mask.labels.copy(), ready.session.mask.moves
    ready.comparison.start(["v001"], VIEW)
    assert heard.failures == []
    compared = shown(ready)
    alone = predicted(ready, "v001")
    # What was accepted stays as it is, whatever the model says.
    np.testing.assert_array_equal(compared.labels[:30], mask[10:40, 5:90])
    np.testing.assert_array_equal(compared.labels[30:], alone[30:])
    assert (alone[:30] != mask[10:40, 5:90]).any()
    np.testing.assert_array_equal(
        compared.differs, compared.labels != mask[VIEW.rows, VIEW.columns]
    )
    assert not compared.differs[:30].any()
    count = int(compared.differs.sum())
    assert count
    share = 100 * count / (60 * 85)
    assert f"in {share:.1f} % of this view" in compared.sentence
    assert compared.sentence.startswith("v001 differs from the mask")
    np.testing.assert_array_equal(ready.session.mask.labels, mask)
    assert ready.session.mask.moves == moves


def test_two_versions(ready: Workspace) -> None:
    ready.comparison.start(["v001", "v002"], VIEW)
    compared = shown(ready)
    first, second = (predicted(ready, name) for name in ("v001", "v002"))
    np.testing.assert_array_equal(compared.labels, second)
    np.testing.assert_array_equal(compared.differs, first != second)
    assert compared.sentence.startswith("v002 differs from v001")


def test_a_version_beside_itself(ready: Workspace) -> None:
    ready.comparison.start(["v001", "v001"], VIEW)
    assert shown(ready).sentence == "v001 and v001 are alike in this view."


def test_it_is_not_predicted_again_until_something_changes(ready: Workspace) -> None:
    assert ready.session is not None
    ready.comparison.start(["v001"], VIEW)
    before = shown(ready)
    ready.comparison.end()
    assert ready.comparison.shown is None
    ready.comparison.start(["v001"], VIEW)
    assert shown(ready) is before
    ready.session.mask.labels[50:60, 20:30] ^= 1
    ready.edited((slice(50, 60), slice(20, 30)))
    ready.comparison.start(["v001"], VIEW)
    assert shown(ready) is not before
    painted = ready.session.mask.labels[50:60, 20:30]
    np.testing.assert_array_equal(shown(ready).labels[40:50, 15:25], painted)


@pytest.mark.parametrize("what", ["predict", "restore", "discard", "image", "restart"])
def test_it_ends_when_something_else_begins(
    ready: Workspace, source: ImageSource, what: str
) -> None:
    ready._set_verdict({**RESULT, "version": "v002"})
    ready.comparison.start(["v002"], VIEW)
    assert ready.comparison.wanted == ("v002",)
    {
        "predict": lambda: ready.predict(None, everything=True),
        "restore": lambda: ready.restore("v002"),
        "discard": ready.discard,
        "image": lambda: ready.set_image(ImageSource("b", source.data.copy())),
        "restart": ready.restart,
    }[what]()
    assert ready.comparison.shown is None
    assert ready.comparison.wanted == ()


def test_a_model_that_cannot_be_read(ready: Workspace, heard: Heard) -> None:
    assert ready.session is not None
    ready.session.versions()[0].path.write_bytes(b"nothing")
    ready.comparison.start(["v001"], VIEW)
    assert ready.comparison.wanted == ()
    assert "v001" in str(heard.failures[-1])


def test_nothing_to_compare(workspace: Workspace, source: ImageSource) -> None:
    workspace.comparison.start(["v001"], VIEW)
    workspace.set_image(source)
    workspace.comparison.start(["v001"], VIEW)
    workspace.begin()
    workspace.comparison.start(["v001"], VIEW)
    assert workspace.comparison.wanted == ()


def test_what_arrives_after_the_end_is_dropped(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user clicks away while the view is still being predicted."""
    held: list[tuple[Job, dict[str, object]]] = []

    class Task:
        def cancel(self) -> None:
            pass

    def hold(job: Job, **calls: object) -> Task:
        held.append((job, calls))
        return Task()

    monkeypatch.setattr(ready.comparison._predictor, "_runner", hold)
    ready.comparison.start(["v001"], VIEW)
    assert ready.comparison.wanted
    ready.comparison.end()
    job, calls = held[0]
    for item in job:
        calls["on_item"](item)  # type: ignore[operator]
    calls["on_done"]()  # type: ignore[operator]
    assert ready.comparison.shown is None
