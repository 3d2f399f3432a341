"""Masks of other programs: what their numbers mean, and what becomes of them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.draw import disk
from skimage.measure import label

from napari_seg.corrections.objects import ObjectsFile
from napari_seg.errors import LabelsError
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.workspace import ImageSource, Workspace, intaking
from napari_seg.workspace.intaking import ForeignMask, Taken, Treatment
from napari_seg.workspace.lesson import vouched_planes
from napari_seg.workspace.meaning import (
    Survey,
    looks_like_mask,
    meanings,
    misfit,
    read_pieces,
    survey,
)
from tests.workspace.conftest import SIDE, Heard

CLASSES = ["background", "nucleus", "membrane"]
UNKNOWN = 255


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    return workspace


def cells(dtype: Any = np.uint16) -> NDArray[Any]:
    """Return three numbered cells, two of which touch."""
    ids = np.zeros((SIDE, SIDE), dtype)
    for number, place in enumerate(((30, 20), (30, 41), (70, 70)), start=1):
        ids[disk(place, 11)] = 10 * number
    return ids


def take(
    workspace: Workspace,
    data: Any,
    treatment: Treatment,
    choice: int = 0,
    name: str = "cells",
) -> Taken | None:
    """Take a mask in as it is likeliest read; return what can be undone."""
    mask, found, taken = ForeignMask(name, data), [], []
    workspace.intake.look(mask, found.append)
    workspace.intake.taken.connect(taken.append)
    meaning = workspace.intake.meanings(found[0])[choice]
    workspace.intake.take(mask, meaning, treatment)
    assert not workspace.intake.busy
    return taken[0] if taken else None


# What the numbers mean --------------------------------------------------------


@given(hnp.arrays(st.sampled_from([np.uint8, np.int32, np.int64]), (3, 7, 9)))
@settings(deadline=None)
def test_survey_tells_the_numbers(values: NDArray[Any]) -> None:
    if values.min() < 0 or values.max() > 2**32 - 1:
        with pytest.raises(LabelsError, match="0 \\(the background\\) to 4294967295"):
            survey(values)
        return
    found = survey(values)
    assert found.values == tuple(np.unique(values[values != 0]).tolist())
    assert (found.low, found.high) == (values.min(), values.max())


@pytest.mark.parametrize(
    ("values", "first", "objects"),
    [
        ((1, 2), "classes, by their number", 0),
        ((1, UNKNOWN), "classes, by their number", 0),
        ((UNKNOWN,), "nucleus, where it is not 0", 0),
        ((7,), "nucleus, where it is not 0", 0),
        ((1, 2, 3), "3 objects: nucleus", 3),
        ((5, 9, UNKNOWN), "2 objects: nucleus", 2),
        (tuple(range(1, 301)), "300 objects: nucleus", 300),
    ],
)
def test_the_likeliest_meaning_comes_first(
    values: tuple[int, ...], first: str, objects: int
) -> None:
    found = Survey(0, values[-1], values, 1.0)
    chosen = meanings(found, CLASSES)[0]
    assert (chosen.text, chosen.objects) == (first, objects)


def test_more_numbers_than_classes_can_become_classes() -> None:
    texts = [each.text for each in meanings(survey(np.arange(5)[None]), CLASSES)]
    assert texts == [
        "4 objects: nucleus",
        "4 objects: membrane",
        "classes; adds class 3 to class 4",
    ]
    beyond = meanings(survey(np.array([[0, 255, 256]])), CLASSES)
    assert not any("classes" in each.text for each in beyond)


def test_255_is_an_object_among_many() -> None:
    ids = np.arange(301).reshape(7, 43)
    meaning = meanings(survey(ids), CLASSES)[0]
    assert (meaning.classes(ids) == 1).sum() == 300
    np.testing.assert_array_equal(meaning.ids(ids), ids)
    sparse = np.array([[0, 4, 9, UNKNOWN]], np.uint8)
    meaning = meanings(survey(sparse), CLASSES[:2])[0]
    assert meaning.classes(sparse).tolist() == [[0, 1, 1, UNKNOWN]]
    assert meaning.ids(sparse).tolist() == [[0, 4, 9, 0]]


def test_images_do_not_look_like_masks() -> None:
    nuclei = synthetic_nuclei((SIDE, SIDE), n=6, seed=4)
    assert not looks_like_mask(nuclei.image)
    assert not looks_like_mask((nuclei.image >> 4).astype(np.uint8))
    assert looks_like_mask(nuclei.mask)
    assert looks_like_mask(nuclei.instances)
    assert looks_like_mask(cells() > 0)


@pytest.mark.parametrize(
    ("data", "rgb", "words"),
    [
        (np.zeros((8, 9)), False, "float64.*astype"),
        (np.zeros((8, 9, 3), np.uint8), True, "RGB"),
        (np.zeros((8, 8), np.uint8), False, r"\(8, 8\).*\(8, 9\)"),
        (np.zeros((2, 8, 9), np.uint8), False, r"\(2, 8, 9\).*\(8, 9\)"),
    ],
)
def test_what_is_no_mask_is_refused_with_a_reason(
    data: NDArray[Any], rgb: bool, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        raise ValueError(misfit("cells.tif", data, rgb, (8, 9)))


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9), (8, 1, 9)])
@pytest.mark.parametrize("wanted", [(8, 9), (1, 1, 8, 9)])
def test_an_axis_of_one_may_be_missing(
    shape: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    data = da.from_array(np.arange(72, dtype=np.int32).reshape(shape))
    assert misfit("cells", data, False, wanted) == ""
    (piece,) = read_pieces(data, wanted)
    assert piece[1].shape == wanted
    np.testing.assert_array_equal(piece[1].ravel(), np.arange(72))


# What becomes of them ---------------------------------------------------------


def test_a_prediction_is_what_scores_compare_with(
    ready: Workspace, heard: Heard
) -> None:
    truth = (cells() > 0).astype(np.uint8)
    assert take(ready, truth, "prediction") is None
    assert ready.session is not None
    ledger = ready.session.mask
    np.testing.assert_array_equal(ledger.reference, truth)
    np.testing.assert_array_equal(ledger.labels, truth)
    assert ready.scores is not None
    assert ready.scores.mean_dice == 1.0
    assert ledger.vouched_pixels == 0
    assert not ready.session.uncertain
    ledger.labels[:10, :10] = 1
    ready.edited()
    assert ready.scores.mean_dice < 1.0
    assert "prediction now" in heard.told[-1]
    assert not heard.failures


def test_a_prediction_leaves_what_the_user_vouches_for(ready: Workspace) -> None:
    assert ready.session is not None
    ledger = ready.session.mask
    ledger.labels[:10, :10] = 1
    ready.edited()
    ledger.accept(np.s_[:10, :10])
    take(ready, np.zeros((SIDE, SIDE), np.uint8) + np.uint8(0), "prediction")
    assert (ledger.labels[:10, :10] == 1).all()
    assert not ledger.labels[10:].any()


@pytest.mark.parametrize("at_once", [0, 1 << 22])
def test_a_truth_is_vouched_for_and_undone_as_one(
    ready: Workspace, heard: Heard, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    # In several pieces.
    monkeypatch.setattr(intaking, "_PIECE", 2000)
    monkeypatch.setattr(intaking, "_AT_ONCE", at_once)
    assert ready.session is not None
    ledger, ids = ready.session.mask, cells()
    before = ledger.labels.copy(), ledger.state(), ledger.reference.copy()
    taken = take(ready, ids, "truth")
    assert taken is not None
    truth = (ids > 0).astype(np.uint8)
    np.testing.assert_array_equal(ledger.truth(), truth)
    np.testing.assert_array_equal(vouched_planes(ready.session)[0].truth, truth)
    np.testing.assert_array_equal(ready.objects.ids, ids)
    assert ready.objects.count == 3
    assert ready.scores is not None
    matches = np.mean(ledger.reference == truth)
    correct = np.trace(ready.scores.confusion) / ready.scores.confusion.sum()
    assert correct == pytest.approx(matches)
    assert "vouched for" in heard.told[-1]
    after = ledger.labels.copy(), ledger.state(), ledger.reference.copy()
    for undone, wanted in ((True, before), (False, after), (True, before)):
        taken.moved(undone)
        now = ledger.labels, ledger.state(), ledger.reference
        for found, expected in zip(now, wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
        assert (ready.objects.ids is None) is undone
        # Nor do they come back when the image is opened again.
        assert ready.session.store is not None
        assert ObjectsFile(ready.session.store.folder, ids.shape).exists is not undone
        assert ledger.recount()
    assert not heard.failures


def test_unknown_pixels_stay_as_they_are(ready: Workspace) -> None:
    assert ready.session is not None
    ledger = ready.session.mask
    before, truth = ledger.labels.copy(), np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    truth[:20, :20] = 1
    truth[20:40, :20] = 0
    take(ready, truth, "truth")
    np.testing.assert_array_equal(ledger.truth(), truth)
    np.testing.assert_array_equal(ledger.labels[:, 20:], before[:, 20:])
    assert ledger.vouched_pixels == 800
    assert ready.objects.ids is None


def test_undo_goes_by_what_the_model_says_by_then(ready: Workspace) -> None:
    assert ready.session is not None
    ledger = ready.session.mask
    ledger.labels[50:, 50:] = 1 - ledger.labels[50:, 50:]
    ready.edited()
    corrected = ledger.state() > 0
    mine = ledger.labels[corrected].copy()
    truth = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    truth[:80] = 1
    taken = take(ready, truth, "truth")
    assert taken is not None
    ready.record(ledger.predicted(None, np.zeros((SIDE, SIDE), np.uint8)))
    assert (ledger.labels[:80] == 1).all()
    taken.moved(True)
    np.testing.assert_array_equal(ledger.state() > 0, corrected)
    np.testing.assert_array_equal(ledger.labels[corrected], mine)
    assert not ledger.labels[~corrected].any()
    assert ledger.recount()


def test_classes_are_added_where_that_is_chosen(ready: Workspace) -> None:
    assert ready.session is not None
    numbers = label(cells() > 0).astype(np.uint8) + 1
    texts = [each.text for each in ready.intake.meanings(survey(numbers))]
    assert texts[-1] == "classes; adds class 2 to class 3"
    take(ready, numbers, "truth", choice=len(texts) - 1)
    assert ready.session.classes[-2:] == ["class 2", "class 3"]
    np.testing.assert_array_equal(ready.session.mask.truth(), numbers)
    assert ready.session.mask.foreign_pixels == {}


def test_it_begins_the_mask_and_is_there_on_another_day(
    workspace: Workspace, source: ImageSource, heard: Heard
) -> None:
    workspace.set_image(source)
    truth = (cells() > 0).astype(np.uint8)
    take(workspace, truth, "truth")
    workspace.set_image(None)
    workspace.set_image(ImageSource(source.name, source.data))
    strokes: list[Any] = []
    workspace.strokes_recalled.connect(strokes.append)
    assert workspace.begin()
    assert workspace.session is not None
    np.testing.assert_array_equal(workspace.session.mask.truth(), truth)
    # Flags could not be undone by napari's steps alone.
    assert not any(strokes)
    assert not heard.failures


def test_only_what_fits_is_taken(ready: Workspace, heard: Heard) -> None:
    meaning = meanings(survey(cells()), CLASSES)[0]
    wrong = ForeignMask("cells.tif", np.zeros((SIDE, 5), np.uint8))
    assert not ready.intake.take(wrong, meaning, "truth")
    message = str(heard.failures.pop())
    assert "cells.tif" in message
    assert f"({SIDE}, 5)" in message
    assert f"({SIDE}, {SIDE})" in message
    ready.intake.look(ForeignMask("cells.tif", np.full((4, 4), -1)), heard.told.append)
    assert "cells.tif: The numbers run from -1" in str(heard.failures.pop())
    assert ready.session is not None
    assert ready.session.mask.vouched_pixels == 0


def test_numbers_that_came_after_the_look_are_told(
    ready: Workspace, heard: Heard
) -> None:
    data = (cells() > 0).astype(np.uint16)
    meaning = ready.intake.meanings(survey(data))[0]
    data[0, 0] = 700
    ready.intake.take(ForeignMask("cells", data), meaning, "truth")
    assert "other numbers" in str(heard.failures.pop())
    assert not ready.intake.busy
