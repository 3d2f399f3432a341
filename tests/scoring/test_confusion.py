"""Scores against scikit-learn's, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, jaccard_score

from napari_seg.errors import LabelsError
from napari_seg.scoring import UNKNOWN, Scores, confusion_matrix, score
from napari_seg.scoring.tally import Tally

CLASSES = 4
ids = st.sampled_from([0, 1, 2, 3, UNKNOWN])
masks = arrays(np.uint8, st.shared(st.tuples(*[st.integers(1, 9)] * 2)), elements=ids)


@given(masks, masks)
def test_equals_scikit_learn_on_the_known_pixels(prediction, truth):
    scores = score(prediction, truth, CLASSES)
    known = (truth != UNKNOWN) & (prediction != UNKNOWN)
    assert scores.pixels == known.sum()
    if not known.any():
        assert np.isnan(scores.iou).all()
        return
    y_true, y_pred = truth[known], prediction[known]
    labels = list(range(CLASSES))
    expected = sklearn_confusion(y_true, y_pred, labels=labels)
    np.testing.assert_array_equal(scores.confusion, expected)
    present = np.isin(labels, np.union1d(y_true, y_pred))
    options = {"labels": labels, "average": None, "zero_division": 0}
    iou = np.where(present, jaccard_score(y_true, y_pred, **options), np.nan)
    dice = np.where(present, f1_score(y_true, y_pred, **options), np.nan)
    np.testing.assert_allclose(scores.iou, iou)
    np.testing.assert_allclose(scores.dice, dice)
    assert scores.mean_iou == pytest.approx(np.nanmean(iou))
    assert scores.mean_dice == pytest.approx(np.nanmean(dice))
    assert scores.pixel_accuracy == pytest.approx((y_true == y_pred).mean())


def test_rows_are_truth_and_columns_prediction():
    found = confusion_matrix(prediction=[[1, 1]], truth=[[0, 1]], n_classes=2)
    np.testing.assert_array_equal(found, [[0, 1], [0, 1]])
    assert found.dtype == np.int64


def test_absent_class_has_no_score_and_does_not_count_in_the_mean():
    scores = score([[0, 1]], [[0, 1]], n_classes=3)
    assert np.isnan(scores.iou[2])
    assert np.isnan(scores.dice[2])
    assert scores.mean_iou == scores.mean_dice == 1.0


def test_nothing_to_score_is_nan_without_a_warning():
    scores = score(np.full((3, 3), UNKNOWN), np.zeros((3, 3), int), n_classes=2)
    assert np.isnan([scores.mean_iou, scores.mean_dice, scores.pixel_accuracy]).all()
    assert scores.to_dict()["mean_iou"] is None
    json.dumps(scores.to_dict(), allow_nan=False)


def test_sums_are_exact_beyond_32_bits():
    half = Scores(np.array([[2**40 + 1, 3], [5, 2**33]]))
    both = half + half
    np.testing.assert_array_equal(both.confusion, [[2**41 + 2, 6], [10, 2**34]])
    assert both.pixels == 2**41 + 2**34 + 18


def test_pixels_are_counted_and_merged_exactly_past_32_bits():
    """Of an image of 2³³ pixels, the last few are added here."""
    tally = Tally(3)
    tally.counts[[0, 1, 1], [0, 0, 1]] = 2**32, 2**31 - 2, 2**31 - 1
    tally.add(np.ones(7, np.uint8), np.array([0, 0, 0, 0, 1, 1, 1], np.uint8))
    tally.remove(np.zeros(1, np.uint8), np.zeros(1, np.uint8))
    image = Scores(tally.counts[:, :3])
    assert image.pixels == 2**33 + 3
    both = image + score([[1, 0]], [[1, 1]], n_classes=3)
    hits = 2**31 + 3
    misses = 2**31 + 3
    assert both.confusion[1].tolist() == [misses, hits, 0]
    assert both.iou[1] == float(Fraction(hits, hits + misses))
    assert both.dice[0] == float(Fraction(2**33 - 2, 2**33 - 2 + misses))
    assert both.pixel_accuracy == float(Fraction(2**32 - 1 + hits, both.pixels))


def test_counts_piece_by_piece_in_any_dimension():
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 3, (2, 5, 700, 300), np.uint8)
    found = confusion_matrix(prediction, truth, 3)
    expected = sklearn_confusion(truth.ravel(), prediction.ravel())
    np.testing.assert_array_equal(found, expected)


def test_number_of_classes_is_read_from_the_ids():
    assert score([[0, 2]], [[UNKNOWN, 1]]).confusion.shape == (3, 3)
    assert score([[UNKNOWN]], [[UNKNOWN]]).confusion.shape == (1, 1)


@pytest.mark.parametrize("ignore", [0, -1, 1000])
def test_ignored_id_is_left_out_of_the_truth_only(ignore):
    truth = np.array([[ignore, ignore, 1, 1]])
    scores = score(np.array([[0, 1, 0, 1]]), truth, n_classes=2, ignore=ignore)
    np.testing.assert_array_equal(scores.confusion, [[0, 0], [1, 1]])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
def test_any_integer_dtype(dtype):
    mask = np.array([[0, 1, 1]]).astype(dtype)
    assert score(mask, mask).mean_dice == 1.0


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "same shape"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "astype"),
        (np.full((2, 2), 2), np.zeros((2, 2), int), "raise n_classes to 3"),
        (np.zeros((2, 2), int), np.full((2, 2), 7), "truth holds the ids"),
        (np.full((2, 2), 300), np.zeros((2, 2), int), "the id 300"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "the id -1"),
    ],
)
def test_refused_with_what_would_work(prediction, truth, message):
    with pytest.raises(LabelsError, match=message):
        score(prediction, truth, n_classes=2)


@pytest.mark.parametrize("n_classes", [0, 256])
def test_impossible_number_of_classes(n_classes):
    with pytest.raises(LabelsError, match="1 to 255"):
        score([[0]], [[0]], n_classes=n_classes)
