"""Objects of the mask, without a window."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk
from tifffile import TiffFile, imread

from napari_seg.corrections.ledger import CORRECTED, Ledger
from napari_seg.inference.object_maps import ClassProbability, ObjectMaps, Seen
from napari_seg.models.checkpoint import load_model
from napari_seg.objects.follow import is_object
from napari_seg.objects.numbering import number_objects
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.exports import EXPORTS, export
from napari_seg.workspace.numbered import Numbered
from napari_seg.workspace.object_edits import Edit, merged, split
from napari_seg.workspace.tasks import run_inline
from napari_seg.workspace.uncertainty import CellConfidence
from tests.workspace.conftest import Heard, make_model


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    """Return the workspace with a mask of three cells, two of which touch."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    labels = workspace.session.mask.labels
    labels[:] = 0
    for place in ((30, 20), (30, 38), (70, 70)):
        labels[disk(place, 11)] = 1
    workspace.edited()
    return workspace


def test_found_and_measured(ready: Workspace, heard: Heard) -> None:
    tables: list[pd.DataFrame] = []
    ready.objects.measured.connect(tables.append)
    assert "Find objects" in ready.objects.measuring_obstacle
    ready.objects.measure()
    ready.objects.find("none")
    assert ready.objects.count == 2
    ready.objects.find("shape")
    assert ready.objects.count == 3
    ready.objects.measure()
    (table,) = tables
    assert list(table["id"]) == [1, 2, 3]
    assert set(table["class"]) == {"nucleus"}
    assert table["area_px"].sum() == np.count_nonzero(ready.objects.ids)
    # All that is painted here is another class than the model says, or the same.
    assert table["corrected_share"].between(0, 1).all()
    assert not heard.failures


def test_told_apart_as_the_model_learned(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    assert "model" not in ready.objects.splits
    ready.objects.find("model")
    assert "object_head=True" in str(heard.failures.pop())
    assert ready.objects.ids is None

    ready.open_model(make_model(tmp_path / "able", object_head=True))
    assert "model" in ready.objects.splits
    ready.objects.find("model")
    session, model = ready.session, load_model(tmp_path / "able.safetensors")
    assert session is not None
    seen = Seen(model, session.source.data, session.reading)
    labels = session.mask.labels
    expected = number_objects(labels, "", "model", maps=ObjectMaps(seen))
    np.testing.assert_array_equal(ready.objects.ids, expected)

    ready.objects.find("probability")
    maps = ClassProbability(seen, labels)
    expected = number_objects(labels, "", "probability", maps=maps)
    np.testing.assert_array_equal(ready.objects.ids, expected)
    assert not heard.failures


def test_an_untrained_model_tells_nothing_apart(ready: Workspace) -> None:
    assert "probability" in ready.objects.splits
    choice = ready.choice
    assert choice is not None
    ready.set_model(replace(choice, path=None))
    assert ready.objects.splits == ("shape", "none")


def test_nothing_to_find_without_a_mask(workspace: Workspace) -> None:
    assert "no mask" in workspace.objects.obstacle
    workspace.objects.find("shape")
    assert workspace.objects.ids is None


def test_another_image_has_objects_of_its_own(
    ready: Workspace, source: ImageSource
) -> None:
    ready.objects.find("shape")
    ready.set_image(ImageSource("other", np.flip(source.data)))
    assert ready.objects.ids is None


@pytest.mark.parametrize("key", [k for k in EXPORTS if k.startswith(("mask-", "obj"))])
def test_every_format_is_on_offer(ready: Workspace, tmp_path: Path, key: str) -> None:
    ready.objects.find("shape")
    target = tmp_path / f"cells{EXPORTS[key].suffix}"
    assert export(ready, key, target)
    assert target.exists()


def test_objects_carry_their_class_and_the_pixel_size(
    workspace: Workspace, source: ImageSource, ready: Workspace, tmp_path: Path
) -> None:
    ready.objects.find("shape")
    assert export(ready, "objects-geojson", tmp_path / "cells.geojson")
    found: dict[str, Any] = json.loads((tmp_path / "cells.geojson").read_text())
    names = [each["properties"]["classification"]["name"] for each in found["features"]]
    assert names == ["nucleus"] * 3
    assert export(ready, "mask-ome-tiff", tmp_path / "cells.ome.tif")
    with TiffFile(tmp_path / "cells.ome.tif") as file:
        assert file.ome_metadata is not None
    assert ready.session is not None
    np.testing.assert_array_equal(
        imread(tmp_path / "cells.ome.tif"), ready.session.mask.labels
    )


def test_objects_that_were_not_found_are_no_file(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    assert not export(ready, "objects-coco", tmp_path / "cells.json")
    assert "Find objects" in str(heard.failures[-1])
    assert not (tmp_path / "cells.json").exists()


def test_slices_of_one_cell_are_one_object() -> None:
    stack = np.zeros((2, 3, 60, 80), np.uint8)
    for z in (0, 1):
        stack[0, z][disk((30, 30 + z), 10)] = 1
    stack[0, 2][disk((30, 60), 10)] = 1
    stack[1, 0][disk((30, 30), 10)] = 1
    ids = number_objects(stack, "TZ")
    first, second = ids[0, 0, 30, 30], ids[0, 2, 30, 60]
    assert ids[0, 1, 30, 31] == first
    # Time steps have objects of their own.
    assert sorted(np.unique(ids)) == sorted({0, first, second, ids[1, 0, 30, 30]})
    assert ids.max() == 3


# Edited -----------------------------------------------------------------------


def stroke(workspace: Workspace, place: Any, label: int) -> None:
    assert workspace.session is not None
    workspace.session.mask.labels[place] = label
    workspace.edited()
    workspace.stroke_finished()


def carry_out(workspace: Workspace, edit: Edit | None) -> None:
    """Do what the viewer does with an edit."""
    assert edit is not None
    ids = workspace.objects.needed()
    where = np.ravel_multi_index(edit.where, ids.shape)
    before = ids[edit.where]
    ids[edit.where] = edit.numbers
    workspace.objects.edited(where, before)


def test_numbers_follow_the_mask_and_come_back(ready: Workspace) -> None:
    ready.objects.find("shape")
    ids = ready.objects.needed()
    before = ids.copy()
    boxes: list[Any] = []
    ready.objects.renumbered.connect(boxes.append)
    line = np.s_[55:90, 68:71]
    assert ready.session is not None
    old = ready.session.mask.labels[line].copy()
    stroke(ready, line, 0)
    assert not ids[line].any()
    assert ready.objects.count == 4
    assert boxes
    stroke(ready, np.s_[10:14, 80:84], 1)
    assert ids[11, 81] == ids.max() == 5
    # Undo, as a viewer does it.
    stroke(ready, np.s_[10:14, 80:84], 0)
    stroke(ready, line, old)
    np.testing.assert_array_equal(ids, before)
    assert ready.objects.count == 3
    # And redo.
    stroke(ready, line, 0)
    assert set(np.unique(ids)) == {0, 1, 2, 3, 4}
    stroke(ready, np.s_[10:14, 80:84], 1)
    assert ids[11, 81] == 5


def test_merged_split_and_deleted(ready: Workspace, heard: Heard) -> None:
    ready.objects.find("shape")
    ids = ready.objects.needed()
    carry_out(ready, ready.objects.merge([(30, 20), (30, 38)]))
    assert ids[30, 20] == ids[30, 38] == 1
    assert ready.objects.count == 2
    assert ready.objects.merge([(30, 20), (30, 38), (0, 0)]) is None
    assert "Only one object" in heard.told[-1]
    carry_out(ready, ready.objects.split(np.array([[30, 20]])))
    assert {ids[30, 20], ids[30, 38]} == {1, 4}
    assert ready.objects.split(np.array([[70, 70]])) is None
    assert "drag a line" in heard.told[-1]
    carry_out(ready, ready.objects.split(np.array([[50, 66], [90, 66]])))
    assert (ids[70, 75], ids[70, 61]) == (3, 5)
    assert ready.session is not None
    mask = ready.session.mask
    corrected, labels = mask.corrected_pixels, mask.labels.copy()
    gone = ids == 3
    carry_out(ready, ready.objects.delete((70, 75)))
    assert not mask.labels[gone].any()
    assert mask.corrected_pixels != corrected
    assert ready.objects.count == 3
    # The mask's undo brings the object back, with its number.
    stroke(ready, np.s_[:], labels)
    np.testing.assert_array_equal(ids == 3, gone)
    assert ready.objects.delete((0, 0)) is None
    assert "no object here" in heard.told[-1]


def test_what_was_merged_meanwhile_does_not_come_back_as_itself(
    ready: Workspace,
) -> None:
    ready.objects.find("shape")
    ids = ready.objects.needed()
    old = ready.session.mask.labels.copy() if ready.session else None
    stroke(ready, np.s_[30:35, 38:60], 0)
    carry_out(ready, ready.objects.merge([(30, 20), (25, 38)]))
    stroke(ready, np.s_[:], old)
    assert set(np.unique(ids[:50, :60])) == {0, 1}


def test_objects_of_two_classes_are_not_merged(ready: Workspace, heard: Heard) -> None:
    ready.add_class("other")
    stroke(ready, np.s_[60:80, 60:80], 2)
    ready.objects.find("none")
    assert ready.objects.merge([(30, 20), (70, 70)]) is None
    assert "different classes" in heard.told[-1]


def test_numbers_painted_outside_of_the_mask_become_mask(ready: Workspace) -> None:
    ready.add_class("other")
    stroke(ready, np.s_[60:80, 60:80], 2)
    ready.objects.find("none")
    ids, session = ready.objects.needed(), ready.session
    assert session is not None
    labels = session.mask.labels
    number = int(ids[70, 70])
    for place, value in ((np.s_[85:90, 85:90], number), (np.s_[25:30, 20:25], 0)):
        flat = np.zeros(ids.shape, bool)
        flat[place] = True
        where = np.flatnonzero(flat)
        before = ids.reshape(-1)[where]
        ids[place] = value
        ready.objects.edited(where, before)
    assert (labels[85:90, 85:90] == 2).all()
    assert not labels[25:30, 20:25].any()
    assert (session.mask.state(np.s_[85:90, 85:90]) & CORRECTED).any()


def test_a_cut_goes_straight_on_through_the_slices(ready: Workspace) -> None:
    ids = np.zeros((3, 40, 60), np.uint32)
    for z in range(3):
        ids[z][disk((20, 20 + z), 10)] = ids[z][disk((20, 38 + z), 10)] = 1
    numbered = Numbered(ids, "Z")
    edit = split(numbered, np.array([[1, 20, 21]]))
    ids[edit.where] = edit.numbers
    assert (ids[:, 20, 14] == ids[0, 20, 14]).all()
    assert (ids[:, 20, 46] == ids[0, 20, 46]).all()
    assert {ids[0, 20, 14], ids[0, 20, 46]} == {1, 2}
    numbered.count(
        np.ravel_multi_index(edit.where, ids.shape), np.ones(len(edit.numbers), "u4")
    )
    edit = merged(numbered, np.ones(ids.shape, "u1"), [(0, 20, 14), (0, 20, 46)])
    ids[edit.where] = edit.numbers
    assert len(np.unique(ids)) == 2, "through all slices"


# Saved ------------------------------------------------------------------------


def reopen(workspace: Workspace, source: ImageSource) -> None:
    workspace.set_image(None)
    assert workspace.objects.ids is None
    workspace.set_image(source)
    assert workspace.begin()


def test_objects_are_there_again(
    ready: Workspace, source: ImageSource, heard: Heard
) -> None:
    ready.objects.find("shape")
    carry_out(ready, ready.objects.merge([(30, 20), (30, 38)]))
    stroke(ready, np.s_[55:90, 68:71], 0)
    expected = ready.objects.needed().copy()
    reopen(ready, source)
    np.testing.assert_array_equal(ready.objects.needed(), expected)
    # No number is given again, also not that of an object that is gone.
    carry_out(ready, ready.objects.delete((70, 75)))
    reopen(ready, source)
    stroke(ready, np.s_[5:9, 80:84], 1)
    assert ready.objects.needed()[6, 81] == expected.max() + 1
    assert not heard.failures


def test_a_mask_painted_without_objects_finds_them_again(
    ready: Workspace, source: ImageSource
) -> None:
    ready.objects.find("shape")
    expected = ready.objects.needed().copy()
    ready.objects.forget()
    stroke(ready, np.s_[60:90, 60:90], 0)
    stroke(ready, np.s_[5:9, 80:84], 1)
    reopen(ready, source)
    ids = ready.objects.needed()
    np.testing.assert_array_equal(ids[:50, :60], expected[:50, :60])
    assert set(np.unique(ids)) == {0, 1, 2, 4}


def test_a_damaged_file_is_told_of_and_takes_nothing_with_it(
    ready: Workspace, source: ImageSource, heard: Heard
) -> None:
    ready.objects.find("shape")
    session = ready.session
    assert session is not None
    assert session.store is not None
    labels = session.mask.labels.copy()
    (session.store.folder / "objects.zarr" / "zarr.json").write_text("{")
    reopen(ready, source)
    assert len(heard.failures) == 1
    assert "Find objects" in str(heard.failures[0])
    assert ready.objects.ids is None
    assert ready.session is not None
    np.testing.assert_array_equal(ready.session.mask.labels, labels)
    ready.objects.find("shape")
    reopen(ready, source)
    assert ready.objects.count == 3
    assert len(heard.failures) == 1


def test_mean_confidence_is_that_of_the_map(ready: Workspace) -> None:
    session = ready.session
    assert session is not None
    assert session.uncertainty is not None
    tables: list[pd.DataFrame] = []
    ready.objects.measured.connect(tables.append)
    whole = tuple(slice(0, n) for n in session.mask.shape)
    confidence = np.full(session.mask.shape, 0.5, np.float32)
    confidence[:50] = 0.75
    session.uncertainty.add(whole, confidence)
    ready.objects.find("shape")
    ready.objects.measure()
    column = tables[-1]["mean_confidence"]
    # Cells of 8 × 8 pixels: of the row at 50 one is in between.
    np.testing.assert_allclose(column, [0.75, 0.75, 0.5], atol=0.01)
    assert np.isnan(
        CellConfidence(
            session.uncertainty, Ledger(np.zeros(session.mask.shape, np.uint8))
        )[whole]
    ).all(), "where nothing was predicted nothing is known"


def test_numbers_follow_a_new_prediction(ready: Workspace) -> None:
    ready.objects.find("none")
    ids, session = ready.objects.needed(), ready.session
    assert session is not None
    labels = session.mask.labels.copy()
    whole = tuple(slice(0, n) for n in labels.shape)
    stroke(ready, whole, session.mask.reference)
    assert not session.mask.vouched_pixels, "the model may write everywhere"
    said = labels.copy()
    said[:, 69:72] = 0
    said[2:8, 2:8] = 1
    ready.record(session.mask.predicted(whole, said))
    ready.stroke_finished()
    np.testing.assert_array_equal(ids > 0, is_object(session.mask.labels))
    said[68:72, 66:74] = 1
    number = ids[70, 63]
    ready.record(session.mask.predicted(whole, said))
    ready.stroke_finished()
    assert ids[70, 63] == number
    assert ready.objects.count == len(np.unique(ids)) - 1


def test_a_second_viewer_sees_the_objects_and_saves_none(
    ready: Workspace, source: ImageSource, user_home: Path
) -> None:
    ready.objects.find("shape")
    expected = ready.objects.needed().copy()
    second = Workspace(run_inline)
    second.set_model(ready.choice)  # type: ignore[arg-type]
    second.set_image(source)
    assert second.begin()
    assert second.session is not None
    assert second.session.read_only
    np.testing.assert_array_equal(second.objects.needed(), expected)
    carry_out(second, second.objects.delete((70, 70)))
    second.close()
    reopen(ready, source)
    np.testing.assert_array_equal(ready.objects.needed(), expected)
