"""Objects and their scores while two masks change: equal to those made afresh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_seg import score_objects
from napari_seg.objects import live_components
from napari_seg.objects.connected import label_objects
from napari_seg.objects.live_components import LiveComponents
from napari_seg.objects.panoptic import PanopticScore
from napari_seg.scoring import UNKNOWN
from napari_seg.scoring.regions import as_box
from napari_seg.synthetic import synthetic_nuclei

CLASSES = 4
SHAPES = {"": (12, 13), "T": (2, 7, 8), "Z": (3, 6, 7), "TZ": (2, 2, 4, 5)}
#: Class 3 is not counted; 9 is none yet.
COUNTABLE = np.isin(np.arange(256), [1, 2, 9])
values = st.sampled_from([0, 0, 1, 1, 2, 3, 9, UNKNOWN])


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """Return axes and what happens: who, where, and a label or many."""
    leading = draw(st.sampled_from(sorted(SHAPES)))
    corner = st.tuples(*(st.integers(0, n) for n in SHAPES[leading]))
    who = st.sampled_from(["truth", "truth", "prediction", "known"])
    steps = st.tuples(who, corner, corner, values, st.booleans())
    return leading, draw(st.lists(steps, max_size=15))


def fresh(labels: NDArray[Any], leading: str, classes: int) -> NDArray[np.uint32]:
    counted = COUNTABLE & (np.arange(256) < classes)
    return label_objects(np.where(counted[labels], labels, 0), leading)[0]


def check_same_objects(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare up to numbering: no object has two numbers, no number two objects."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    np.testing.assert_array_equal(found > 0, expected > 0)


def scored(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    leading: str,
    known: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Return the scores of freshly labelled masks."""

    def named(labels: NDArray[Any]) -> NDArray[Any]:
        return np.where(labels < CLASSES, labels, UNKNOWN)

    return score_objects(
        fresh(prediction, leading, CLASSES),
        fresh(truth, leading, CLASSES),
        prediction_labels=named(prediction),
        truth_labels=named(truth if known is None else np.where(known, truth, UNKNOWN)),
        n_classes=CLASSES,
    ).to_dict()


@settings(max_examples=60, deadline=None)
@given(edits(), st.integers(0, 2**32 - 1))
def test_equals_what_is_labelled_afresh_after_each_edit(
    said: tuple[str, list[Any]], seed: int
) -> None:
    leading, steps = said
    rng = np.random.default_rng(seed)
    shape = SHAPES[leading]
    start = np.array([0, 0, 0, 1, 1, 2, 3, UNKNOWN], np.uint8)
    masks = {
        "truth": rng.choice(start, shape),
        "prediction": rng.choice(start, shape),
        "known": rng.random(shape) < 0.5,
    }
    both = masks["prediction"], masks["truth"]
    whole = PanopticScore(*both, CLASSES, COUNTABLE, leading)
    reviewed = PanopticScore(*both, CLASSES, COUNTABLE, leading, masks["known"])
    for who, first, second, value, noise in steps:
        box = tuple(slice(*sorted(ends)) for ends in zip(first, second, strict=True))
        mask = masks[who]
        new = rng.choice(start, mask[box].shape) if noise else value
        mask[box] = np.asarray(new) % 2 if who == "known" else new
        whole.update(*both, box)
        reviewed.update(*both, box, known=lambda piece: masks["known"][piece])
        assert whole.scores.to_dict() == scored(*both, leading)
        assert reviewed.scores.to_dict() == scored(*both, leading, masks["known"])
    check_same_objects(whole._true.ids, fresh(masks["truth"], leading, CLASSES))


@settings(max_examples=60, deadline=None)
@given(edits(), st.integers(0, 2**32 - 1))
def test_objects_keep_their_numbers_where_nothing_touches_them(
    said: tuple[str, list[Any]], seed: int
) -> None:
    leading, steps = said
    shape = SHAPES[leading]
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 0, 1, 1, 2], np.uint8), shape)
    live = LiveComponents(labels, leading, COUNTABLE)
    for _, first, second, value, _ in steps:
        box = tuple(slice(*sorted(ends)) for ends in zip(first, second, strict=True))
        before, ids_before = fresh(labels, leading, 256), live.ids.copy()
        labels[box] = value
        live.update(labels, box)
        after = fresh(labels, leading, 256)
        check_same_objects(live.ids, after)
        assert len(live) == after.max()
        for number in np.unique(after)[1:]:
            here = after == number
            same = np.unique(before[here])
            if len(same) == 1 and ((before == same[0]) == here).all():
                np.testing.assert_array_equal(live.ids[here], ids_before[here])
    for number, place in live._boxes.items():
        outside = live.ids == number
        assert outside.any()
        outside[place] = False
        assert not outside.any()


def comb() -> NDArray[np.uint8]:
    """Return a comb of long teeth on a back that is far away."""
    labels = np.zeros((90, 61), np.uint8)
    labels[:, ::3] = 1
    labels[-1] = 1
    return labels


def test_a_cut_is_followed_until_the_pieces_meet_again() -> None:
    labels = comb()
    live = LiveComponents(labels, "", COUNTABLE)
    assert len(live) == 1
    teeth = labels.copy()
    teeth[-1] = 0
    for row, count in ((3, 22), (88, 22), (89, 22)):
        # A row of every tooth is gone: the upper ends hang on nothing.
        now = comb()
        now[row] = 0
        live.update(now)
        expected = fresh(now, "", CLASSES)
        check_same_objects(live.ids, expected)
        assert expected.max() == (21 if row == 89 else count), row
        live.update(labels)
        check_same_objects(live.ids, fresh(labels, "", CLASSES))


def test_an_edit_is_looked_at_and_not_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = synthetic_nuclei((512, 512), n=150, seed=3).mask.copy()
    labels[:, 256] = 1
    live = LiveComponents(labels, "", COUNTABLE)
    looked: list[int] = []
    label = live_components.label_connected

    def counting(mask: NDArray[Any], *arguments: Any) -> Any:
        looked.append(mask.size)
        return label(mask, *arguments)

    monkeypatch.setattr(live_components, "label_connected", counting)
    # The line hangs together beside the hole: it need not be followed far.
    labels[250:253, 255:258] = 0
    labels[250, 255:260] = labels[252, 255:260] = labels[250:253, 259] = 1
    live.update(labels, as_box((slice(250, 253), slice(255, 260)), labels.shape))
    check_same_objects(live.ids, fresh(labels, "", CLASSES))
    assert sum(looked) < 5_000


def test_what_it_costs_in_memory() -> None:
    labels = np.zeros((256, 256), np.uint8)
    score = PanopticScore(labels, labels, 2, COUNTABLE, known=labels == 0)
    arrays = [
        score._known,
        *(
            vars(s)[k]
            for s in (score._true, score._predicted)
            for k in ("ids", "labels")
        ),
    ]
    assert sum(array.nbytes for array in arrays) == 11 * labels.size


def test_whoever_waits_for_it_can_end_it() -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    labels = np.zeros((4, 4), np.uint8)
    with pytest.raises(Stopped):
        PanopticScore(labels, labels, 2, COUNTABLE, on_step=stop)
