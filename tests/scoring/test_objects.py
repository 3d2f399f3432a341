"""Scores of objects against a dense matrix of all pairs, from scratch and live."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label as connected

from napari_seg import LiveObjectScore, score_objects
from napari_seg.errors import InputError, LabelsError
from napari_seg.scoring import UNKNOWN, sides

CLASSES = 3
SHAPE = (2, 5, 6)
shapes = st.shared(st.tuples(*[st.integers(1, 7)] * 2))


def masks(elements, dtype=np.uint8, shape=shapes):
    return arrays(dtype, shape, elements=st.sampled_from(elements))


objects = masks([0, 0, 1, 1, 2, 4_000_000_000], np.uint32)
labels = masks([0, 1, 1, 2, 2, UNKNOWN])
thresholds = st.sampled_from([0.5, 0.6, 0.75])


def dense(prediction, truth, labels, true_labels, k, ignore=UNKNOWN, threshold=0.5):
    """Return tp, fp, fn and the sum of IoU per class from the matrix of all pairs."""
    unknown = (true_labels == ignore) | (true_labels >= k) | (labels >= k)
    own = labels >= k, (true_labels == ignore) | (true_labels >= k)
    found = []
    for ids, classes, own_unknown in zip(
        (prediction, truth), (labels, true_labels), own, strict=True
    ):
        inside = [ids == i for i in np.unique(ids) if i]
        votes = [
            [(mask & (classes == c) & ~own_unknown).sum() for c in range(k)]
            for mask in inside
        ]
        kinds = [int(np.argmax(each)) for each in votes]
        mostly = [(mask & unknown).sum() / mask.sum() > threshold for mask in inside]
        found.append(([mask & ~unknown for mask in inside], kinds, mostly))
    (ours, our_kinds, our_void), (theirs, their_kinds, their_void) = found
    iou = np.zeros((len(ours), len(theirs)))
    for i, one in enumerate(ours):
        for j, other in enumerate(theirs):
            whole = (one | other).sum()
            iou[i, j] = (one & other).sum() / whole if whole else 0
            iou[i, j] *= our_kinds[i] == their_kinds[j]
    hits = iou > threshold
    counts = np.zeros((4, k))
    for i, j in np.argwhere(hits):
        counts[0, our_kinds[i]] += 1
        counts[3, our_kinds[i]] += iou[i, j]
    for i, kind in enumerate(our_kinds):
        counts[1, kind] += not hits[i].any() and not our_void[i]
    for j, kind in enumerate(their_kinds):
        counts[2, kind] += not hits[:, j].any() and not their_void[j]
    return counts


def as_rows(scores):
    counts = scores.counts
    return np.array(
        [
            counts.true_positives,
            counts.false_positives,
            counts.false_negatives,
            counts.iou_sum,
        ]
    )


@settings(max_examples=80)
@given(objects, objects, thresholds)
def test_objects_of_one_class_equal_the_dense_matrix(prediction, truth, threshold):
    scores = score_objects(prediction, truth, threshold=threshold)
    none = np.zeros(truth.shape, int)
    expected = dense(prediction, truth, none, none, 1, threshold=threshold)
    np.testing.assert_allclose(as_rows(scores), expected)
    _check_ratios(scores)


@settings(max_examples=120)
@given(objects, objects, labels, labels, thresholds, st.sampled_from([UNKNOWN, 0, 2]))
def test_objects_of_classes_equal_the_dense_matrix(
    prediction, truth, labels, true_labels, threshold, ignore
):
    scores = score_objects(
        prediction,
        truth,
        prediction_labels=labels,
        truth_labels=true_labels,
        n_classes=CLASSES,
        ignore=ignore,
        threshold=threshold,
    )
    expected = dense(prediction, truth, labels, true_labels, CLASSES, ignore, threshold)
    np.testing.assert_allclose(as_rows(scores), expected)
    _check_ratios(scores)


def _check_ratios(scores):
    tp, fp, fn, iou = as_rows(scores)
    present = tp + fp + fn > 0
    for name in ("pq", "sq", "rq", "ap"):
        np.testing.assert_array_equal(np.isnan(getattr(scores, name)), ~present)
    tp, fp, fn, iou = (part[present] for part in (tp, fp, fn, iou))
    pq, sq, rq, ap = (
        getattr(scores, name)[present] for name in ("pq", "sq", "rq", "ap")
    )
    np.testing.assert_allclose(pq, iou / (tp + fp / 2 + fn / 2))
    np.testing.assert_allclose(pq, sq * rq)
    np.testing.assert_allclose(rq, 2 * tp / (2 * tp + fp + fn))
    np.testing.assert_allclose(ap, tp / (tp + fp + fn))
    np.testing.assert_allclose(sq[tp > 0], (iou / np.maximum(tp, 1))[tp > 0])


edits = st.lists(
    st.tuples(
        st.sampled_from(["ids", "labels", "both", "predict", "classes"]),
        st.tuples(*(st.integers(0, n) for n in SHAPE)),
        st.tuples(*(st.integers(0, n) for n in SHAPE)),
        st.sampled_from([0, 1, 2, 3, 70_000]),
        st.sampled_from([0, 1, 2, 5, UNKNOWN]),
        st.booleans(),
    ),
    max_size=15,
)


@settings(max_examples=80)
@given(
    edits,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["none", "both", "reference", "labels"]),
    st.sampled_from([np.uint32, np.int64]),
    thresholds,
)
def test_live_equals_from_scratch_after_each_edit(steps, seed, given_, dtype, limit):
    rng = np.random.default_rng(seed)
    # Blocks, so that objects match.
    ids = rng.integers(0, 4, (2, 3, 3)).repeat(2, 1).repeat(2, 2)[:, :5].astype(dtype)
    reference = ids.copy()
    reference[rng.random(SHAPE) < 0.2] = 0
    ours, theirs = rng.choice([0, 1, 1, 1, 2, 2, UNKNOWN], (2, *SHAPE))
    ours, theirs = ours.astype(dtype), theirs.astype(np.uint8)
    if given_ in ("none", "labels"):
        theirs = None
    if given_ in ("none", "reference"):
        ours = None
    k = CLASSES if given_ == "both" else None
    live = LiveObjectScore(
        reference.copy(),
        ids,
        reference_labels=None if theirs is None else theirs.copy(),
        labels=ours,
        n_classes=k,
        threshold=limit,
    )
    for kind, first, second, value, label, told in steps:
        region = tuple(slice(*sorted(ends)) for ends in zip(first, second, strict=True))
        if kind == "predict":
            reference[region] = value
            if theirs is not None:
                theirs[region] = label
            live.predicted(
                region,
                reference[region],
                None if theirs is None else theirs[region],
            )
        elif kind == "classes" and k:
            k = 6 if k == CLASSES else CLASSES
            live.set_classes(k)
        else:
            if kind in ("ids", "both"):
                ids[region] = value
            if kind in ("labels", "both") and ours is not None:
                ours[region] = label
            live.update(region if told else None)
        expected = score_objects(
            reference,
            ids,
            prediction_labels=_known(theirs, k),
            truth_labels=_known(ours, k),
            n_classes=k,
            threshold=limit,
        )
        np.testing.assert_array_equal(as_rows(live.scores), as_rows(expected))


def _known(labels, k):
    """Call every class id that no class has unknown, as the live score does."""
    return labels if k is None or labels is None else np.where(labels < k, labels, 255)


def blocks(rows=6, columns=8, side=10) -> np.ndarray:
    ids = np.arange(1, rows * columns + 1, dtype=np.uint32).reshape(rows, columns)
    return ids.repeat(side, 0).repeat(side, 1)


def test_merged_and_split_objects_count_as_a_biologist_would():
    truth = np.zeros((10, 40), int)
    truth[:, :10], truth[:, 10:20], truth[:, 22:32] = 1, 2, 3
    found = np.zeros_like(truth)
    found[:, :20] = 7
    found[:5, 22:32], found[5:, 22:32] = 8, 9
    scores = score_objects(found, truth)
    # An IoU of exactly a half is no match: the merged object is neither of the two.
    assert as_rows(scores).ravel().tolist() == [0, 3, 3, 0]
    assert scores.pq == scores.sq == scores.rq == scores.ap == [0]
    found[5:7, 22:32] = 8
    scores = score_objects(found, truth)
    assert as_rows(scores).ravel().tolist() == [1, 2, 2, 0.7]
    assert scores.rq == pytest.approx([1 / 3])
    assert scores.ap == [0.2]


def test_image_of_many_pieces_and_of_any_axes():
    truth = blocks(70, 70)
    assert truth.size > 2**18
    for shape in (truth.shape, (7, 100, 700)):
        found = np.roll(truth, 2, axis=1).reshape(shape)
        scores = score_objects(found, truth.reshape(shape))
        assert scores.counts.true_positives == [4900]
        assert scores.sq == pytest.approx([2 / 3])
        assert scores.pq == scores.sq
    assert score_objects(truth, truth).pq == [1]


def test_arrays_that_read_what_is_sliced_are_not_read_as_a_whole():
    class Lazy:
        shape, dtype = (700, 700), np.dtype(np.uint32)
        largest = 0

        def __getitem__(self, place):
            part = blocks(70, 70)[place]
            self.largest = max(self.largest, part.size)
            return part

    lazy = Lazy()
    assert score_objects(lazy, lazy).pq == [1]
    assert lazy.largest < 700 * 700


def test_unknown_pixels_are_void():
    truth = np.zeros((10, 30), int)
    truth[:, :10] = 1
    found = np.zeros_like(truth)
    found[:, :12] = 4
    found[:, 20:26] = 5
    labels = np.zeros(truth.shape, np.uint8)
    assert score_objects(found, truth, truth_labels=labels).sq == [100 / 120]
    labels[:, 10:24] = UNKNOWN
    scores = score_objects(found, truth, truth_labels=labels)
    # What lies beside object 1 is unknown, and of object 5 two thirds are.
    assert as_rows(scores).ravel().tolist() == [1, 0, 0, 1]
    labels[:, 22:24] = 0
    scores = score_objects(found, truth, truth_labels=labels)
    assert scores.counts.false_positives == [1]


def test_true_objects_where_nothing_was_predicted_are_no_misses():
    truth = blocks(1, 4)
    found = np.where(np.arange(40) < 20, truth, 0)
    labels = np.where(np.arange(40) < 20, 0, UNKNOWN)[None].repeat(10, 0)
    assert score_objects(found, truth).counts.false_negatives == [2]
    assert score_objects(found, truth, prediction_labels=labels).pq == [1]


def test_objects_of_other_classes_do_not_match():
    truth = blocks(1, 3)
    ours = np.array([1, 2, 1]).repeat(10)[None].repeat(10, 0)
    theirs = np.where(truth == 3, 2, ours)
    ours[:4, 20:] = 2
    options = {"prediction_labels": theirs, "truth_labels": ours}
    scores = score_objects(truth, truth, **options)
    expected = [[0, 1, 1], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert as_rows(scores).tolist() == expected
    assert np.isnan(scores.pq[0])
    assert scores.mean_pq == pytest.approx((scores.pq[1] + scores.pq[2]) / 2)
    assert score_objects(truth, truth, **options, n_classes=5).pq.shape == (5,)


def test_counts_of_images_add_up():
    rng = np.random.default_rng(0)
    truth = blocks()
    found = np.where(rng.random(truth.shape) < 0.35, 0, truth)
    top, bottom = (score_objects(found[part], truth[part]) for part in np.s_[:30, 30:])
    whole = score_objects(found, truth)
    np.testing.assert_allclose(as_rows(top + bottom), as_rows(whole))
    assert (top + bottom).counts.true_positives.dtype == np.int64
    k = {"prediction_labels": truth % 4, "truth_labels": truth % 4}
    more = top + score_objects(truth, truth, **k)
    assert more.counts.true_positives.shape == (4,)
    with pytest.raises(InputError, match="do not add up"):
        top + score_objects(found, truth, threshold=0.75)


def test_plain_numbers():
    told = score_objects(np.zeros((2, 2), int), np.zeros((2, 2), bool)).to_dict()
    assert (told["pq"], told["ap50"], told["mean_pq"]) == ([None], [None], None)
    told = score_objects(blocks(), blocks(), threshold=0.75).to_dict()
    assert (told["ap75"], told["true_positives"]) == ([1.0], [48])


def test_empty_arrays_have_no_score():
    none = np.zeros((0, 5), int)
    assert np.isnan(score_objects(none, none).pq).all()
    assert np.isnan(LiveObjectScore(none, none).scores.pq).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((2, 3), int)}, "shapes differ"),
        ({"truth_labels": np.zeros(2, int)}, "shapes differ"),
        ({"truth": np.zeros((2, 2))}, "astype"),
        ({"truth": np.full((2, 2), -1)}, "the id -1"),
        ({"prediction": np.full((2, 2), 2**32)}, "4294967296"),
        ({"truth_labels": np.full((2, 2), 300)}, "255"),
        ({"n_classes": 2}, "class masks of both"),
        ({"threshold": 0.4}, "two matches"),
        ({"threshold": 1.0}, "below 1"),
    ],
)
def test_refused(change, message):
    given = {"prediction": np.zeros((2, 2), int), "truth": np.zeros((2, 2), int)}
    given |= change
    with pytest.raises(InputError, match=message):
        score_objects(given.pop("prediction"), given.pop("truth"), **given)


def test_class_ids_beyond_the_classes_are_refused():
    ones = np.ones((2, 2), int)
    with pytest.raises(LabelsError, match="raise n_classes to 2"):
        score_objects(
            ones, ones, prediction_labels=ones, truth_labels=ones, n_classes=1
        )


def test_live_finds_a_match_by_erasing_beside_the_other_object():
    """No pixel of the predicted object changes, and yet it is found now."""
    reference = np.zeros((10, 40), np.uint32)
    reference[:, :10] = 5
    ids = np.ones_like(reference)
    live = LiveObjectScore(reference, ids)
    assert as_rows(live.scores).ravel().tolist() == [0, 1, 1, 0]
    ids[:, 12:] = 0
    assert live.update(np.s_[:, 20:]) == np.s_[0:10, 20:40]
    assert as_rows(live.scores).ravel().tolist() == [0, 1, 1, 0]
    assert live.update() == np.s_[0:10, 12:20]
    assert as_rows(live.scores).ravel().tolist() == [1, 0, 0, 100 / 120]
    assert live.update() is None


def test_cost_follows_the_objects_in_the_stroke(monkeypatch):
    reference, ids = blocks(50, 50), blocks(50, 50)
    live = LiveObjectScore(reference, ids)
    measured = []
    measure = sides._measured
    monkeypatch.setattr(
        sides, "_measured", lambda *given: measured.append(given) or measure(*given)
    )
    ids[102:108, 105:115] = 9999
    live.update(np.s_[102:108, 105:115])
    # Two objects that lose pixels and the new one, against two that were predicted.
    assert len(measured) == 5
    assert live.scores.counts.false_positives == [0]
    assert live.scores.counts.false_negatives == [1]


def test_live_takes_class_ids_as_they_come():
    ids = blocks(1, 2)
    labels = np.where(ids == 1, 1, 7).astype(np.uint8)
    live = LiveObjectScore(
        ids.copy(), ids, reference_labels=labels.copy(), labels=labels, n_classes=2
    )
    assert live.scores.pq[1] == 1
    assert live.scores.counts.true_positives.sum() == 1
    live.set_classes(8)
    assert (live.n_classes, live.scores.counts.true_positives[7]) == (8, 1)
    labels[ids == 1] = 2
    live.update()
    assert live.scores.counts.false_positives[1] == 1
    assert live.scores.counts.false_negatives[2] == 1


def test_live_changes_no_array_that_it_was_given_read_only():
    reference = blocks(1, 2)
    reference.flags.writeable = False
    live = LiveObjectScore(reference, reference.copy())
    live.predicted(np.s_[:, :10], np.zeros((10, 10), int))
    assert live.scores.counts.false_negatives == [1]
    assert reference.all()


def test_live_refuses_what_does_not_fit():
    ids = blocks(1, 2)
    with pytest.raises(LabelsError, match="shapes differ"):
        LiveObjectScore(ids, ids[:, 1:])
    live = LiveObjectScore(ids.copy(), ids)
    with pytest.raises(LabelsError, match="its region"):
        live.predicted(np.s_[:, :10], np.zeros((9, 10), int))
    with pytest.raises(LabelsError, match="or neither"):
        live.predicted(None, ids, np.zeros_like(ids))
    with pytest.raises(LabelsError, match="class masks of both"):
        live.set_classes(3)


@pytest.mark.parametrize("name", ["000", "203"])
def test_real_nuclei_against_their_connected_regions(shared_data, name):
    """Touching nuclei are one region: what a class mask makes of them."""
    folder = shared_data / "dsb2018"
    truth = tifffile.imread(folder / "instances" / f"{name}.tif")
    found, _ = connected(tifffile.imread(folder / "masks" / f"{name}.tif"))
    truth, found = truth[:256, :256], found[:256, :256]
    scores = score_objects(found, truth)
    none = np.zeros(truth.shape, int)
    np.testing.assert_allclose(as_rows(scores), dense(found, truth, none, none, 1))
    _check_ratios(scores)
    ids = found.astype(np.uint32)
    live = LiveObjectScore(truth, ids)
    ids[:] = truth
    live.update()
    assert live.scores.pq == [1]
