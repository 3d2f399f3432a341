"""The live score equals a full recount after any sequence of edits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_seg.errors import LabelsError
from napari_seg.scoring import UNKNOWN, LiveScore, confusion_matrix

SHAPE = (2, 9, 8)
CLASSES = 3
values = st.sampled_from([0, 1, 2, 7, 200, UNKNOWN])
corner = st.tuples(*(st.integers(0, n) for n in SHAPE))
steps = st.lists(
    st.tuples(st.sampled_from(["paint", "found", "predict"]), corner, corner, values),
    max_size=20,
)


def recount(reference, labels, n_classes):
    """Count after calling every id that no class has unknown."""
    known = [np.where(a < n_classes, a, UNKNOWN) for a in (reference, labels)]
    return confusion_matrix(known[0], known[1], n_classes)


@settings(max_examples=60)
@given(steps, st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int32]))
def test_equals_a_recount_after_each_step(steps, seed, dtype):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, CLASSES, SHAPE).astype(dtype)
    labels = rng.integers(0, CLASSES, SHAPE).astype(dtype)
    expected_reference = reference.copy()
    live = LiveScore(reference, labels, CLASSES)
    for kind, first, second, value in steps:
        region = tuple(slice(*sorted(ends)) for ends in zip(first, second, strict=True))
        if kind == "predict":
            expected_reference[region] = value
            live.predicted(region, np.full(labels[region].shape, value, dtype))
        else:
            labels[region] = value
            live.update(region if kind == "paint" else None)
        np.testing.assert_array_equal(
            live.scores.confusion, recount(expected_reference, labels, CLASSES)
        )
    live.set_classes(8)
    np.testing.assert_array_equal(
        live.confusion, recount(expected_reference, labels, 8)
    )


def test_update_returns_the_smallest_changed_box():
    labels = np.zeros((20, 30), np.uint8)
    live = LiveScore(labels.copy(), labels, 2)
    labels[3:5, 7:8] = 1
    assert live.update(np.s_[0:10, 0:20]) == np.s_[3:5, 7:8]
    assert live.update() is None


def test_ignored_label_is_left_out():
    labels = np.array([[0, 1]], np.uint8)
    live = LiveScore(np.array([[0, 1]], np.uint8), labels, 2, ignore=0)
    assert live.scores.pixels == 1


def test_foreign_ids_are_counted_once_they_are_classes():
    labels = np.array([[0, 7]], np.uint8)
    live = LiveScore(np.zeros((1, 2), np.uint8), labels, 2)
    assert live.scores.pixels == 1
    live.set_classes(8)
    assert live.scores.confusion[7, 0] == 1


def test_read_only_reference_is_copied_before_it_changes():
    reference = np.zeros((4, 4), np.uint8)
    reference.flags.writeable = False
    live = LiveScore(reference, np.zeros((4, 4), np.uint8), 2)
    live.predicted(None, np.ones((4, 4), np.uint8))
    assert live.scores.confusion[0, 1] == 16
    assert not reference.any()


@pytest.mark.parametrize(
    ("reference", "labels"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int)),
        (np.zeros((2, 2)), np.zeros((2, 2), int)),
        (np.zeros((2, 2), int), np.zeros((2, 2), complex)),
    ],
)
def test_refused(reference, labels):
    with pytest.raises(LabelsError):
        LiveScore(reference, labels, 2)


def test_prediction_must_fit_its_region():
    live = LiveScore(np.zeros((4, 4), int), np.zeros((4, 4), int), 2)
    with pytest.raises(LabelsError, match="region"):
        live.predicted(np.s_[:2, :2], np.zeros((3, 3), int))
