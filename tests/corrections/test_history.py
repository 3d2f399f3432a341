"""The journal tells what happened, gives back any moment, and what to undo."""

from __future__ import annotations

import numpy as np
import pytest

from napari_seg.corrections import history as history_module
from napari_seg.corrections import store as store_module
from napari_seg.corrections.change import Change, Pixels
from napari_seg.corrections.history import (
    changed_since,
    last_strokes,
    moments,
    state_at,
)
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.store import ImageStore

SHAPE = (40, 60)


class Desk:
    """A mask with its ledger and store, and hands that work on it."""

    def __init__(self, folder):
        self.folder = folder
        self.store = ImageStore(folder, SHAPE)
        mask = self.store.load()
        self.ledger = Ledger(mask.labels, mask.reference, 3, mask.state)

    def dab(self, y, x, value, size=6):
        region = slice(y, y + size), slice(x, x + size)
        self.ledger.labels[region] = value
        change = self.ledger.edited(region)
        if change is not None:
            self.store.append(change)

    def stroke(self, y, x, value, dabs=3):
        for i in range(dabs):
            self.dab(y, x + 4 * i, value)
        self.store.stroke_finished()

    def undo(self, stroke):
        for box, before, _ in reversed(stroke):
            self.ledger.labels[box] = before
        self.store.append(self.ledger.edited())
        self.store.stroke_finished()

    def predict(self, value=1, rows=SHAPE[0]):
        for y in range(0, rows, 10):
            region = slice(y, y + 10), slice(None)
            self.store.append(self.ledger.predicted(region, np.full((10, 60), value)))
        self.store.stroke_finished()

    def accept(self):
        self.store.append(self.ledger.accept((slice(0, 20), slice(0, 20))))
        self.store.stroke_finished()

    def arrays(self):
        return (
            self.ledger.labels.copy(),
            self.ledger.reference.copy(),
            (self.ledger.state()),
        )

    def reopen(self):
        assert self.store.flush(10)
        self.store.close()
        return Desk(self.folder)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "image")
    yield desk
    desk.store.close()


def assert_same(mask, arrays):
    for found, wanted in zip(vars(mask).values(), arrays, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_moments_are_what_the_user_did(desk):
    desk.predict()
    desk.stroke(5, 5, 2)
    desk.stroke(25, 5, 2, dabs=1)
    desk.accept()
    desk.store.flush()
    found = moments(desk.store)
    assert [m.kind for m in found] == ["predict", "edit", "edit", "accept"]
    assert [m.strokes for m in found] == [0, 1, 1, 0]
    assert [m.pixels for m in found] == [2400, 6 * 14, 36, 400]
    assert [m.position for m in found] == sorted({m.position for m in found})
    merged = moments(desk.store, pause=60)
    assert [(m.kind, m.strokes) for m in merged] == [
        ("predict", 0),
        ("edit", 2),
        ("accept", 0),
    ]


def test_two_predictions_are_two_moments(desk):
    desk.predict(1)
    desk.predict(2)
    desk.store.flush()
    assert [m.pixels for m in moments(desk.store)] == [2400, 2400]


def test_tile_amid_a_stroke_does_not_join_what_is_before_and_after(desk):
    desk.dab(0, 0, 2)
    desk.predict(1, rows=10)
    desk.dab(0, 20, 2)
    desk.store.flush()
    assert [m.kind for m in moments(desk.store)] == ["edit", "predict", "edit"]


def test_numbers_of_the_next_run_are_not_mistaken_for_those_of_the_last(desk):
    desk.stroke(0, 0, 1, dabs=1)
    again = desk.reopen()
    again.stroke(0, 20, 1, dabs=1)
    again.store.flush()
    assert [m.strokes for m in moments(again.store)] == [1, 1]
    again.store.close()


@pytest.mark.parametrize("compact", [False, True])
def test_any_moment_can_be_seen_again(tmp_path, make_painter, compact):
    painter = make_painter((2, 30, 40), 3)
    store = ImageStore(tmp_path, (2, 30, 40))
    seen = [painter.arrays()]
    for i in range(40):
        store.append(painter.change())
        store.stroke_finished()
        seen.append(painter.arrays())
        if compact and i % 9 == 0:
            store.flush()
            store.compact()
    store.flush()
    found = moments(store)
    assert len(found) == 40
    for moment, arrays in zip([None, *found], seen, strict=True):
        assert_same(state_at(store, moment), arrays)
    store.close()


def test_what_changed_since_a_moment_is_enough_to_go_back(desk):
    desk.predict()
    then = desk.arrays()
    desk.stroke(5, 5, 2, dabs=1)
    desk.stroke(15, 20, 2, dabs=1)
    desk.store.flush()
    moment = moments(desk.store)[0]
    box = changed_since(desk.store, moment)
    assert box == (slice(5, 21), slice(5, 26))
    old = state_at(desk.store, moment)
    earlier = Pixels(old.labels[box], old.state[box], old.reference[box])
    desk.store.append(desk.ledger.restore(box, earlier))
    for found, wanted in zip(desk.arrays(), then, strict=True):
        np.testing.assert_array_equal(found, wanted)
    desk.store.flush()
    assert changed_since(desk.store, moments(desk.store)[-1]) is None


def test_a_revert_is_a_change_and_can_be_reverted(desk):
    desk.predict()
    desk.stroke(5, 5, 2)
    painted = desk.arrays()
    desk.store.flush()
    old = state_at(desk.store, moments(desk.store)[0])
    box = tuple(slice(0, n) for n in SHAPE)
    now = Pixels(painted[0], painted[2], painted[1])
    change = Change("revert", box, now, Pixels(old.labels, old.state, old.reference))
    desk.store.append(change)
    desk.store.flush()
    found = moments(desk.store)
    assert [m.kind for m in found] == ["predict", "edit", "revert"]
    assert_same(state_at(desk.store, found[1]), painted)
    assert_same(state_at(desk.store, found[2]), vars(old).values())
    assert last_strokes(desk.store) == []


def test_forgotten_beginning_leaves_later_moments_right(desk, monkeypatch):
    monkeypatch.setattr(store_module, "_HISTORY_BYTES", 4000)
    seen = []
    for i in range(12):
        desk.stroke(3 * i, 5, 1 + i % 2)
        seen.append(desk.arrays())
        desk.store.flush()
        desk.store.compact()
    found = moments(desk.store)
    assert 1 < len(found) < 12
    for moment, arrays in zip(found[::-1], seen[::-1], strict=False):
        assert_same(state_at(desk.store, moment), arrays)
    assert_same(state_at(desk.store, None), seen[-len(found) - 1])


# Strokes to undo ----------------------------------------------------------------


def test_strokes_lead_back_from_the_mask_as_it_is(desk):
    desk.predict()
    masks = []
    for i in range(8):
        masks.append(desk.ledger.labels.copy())
        # They overlap, and so do the dabs of each.
        desk.stroke(4 * i, 3 * i, (2, 0, 3)[i % 3])
    again = desk.reopen()
    strokes = last_strokes(again.store, labels=again.ledger.labels)
    assert len(strokes) == 8
    mask = again.ledger.labels.copy()
    for stroke, wanted in zip(strokes[::-1], masks[::-1], strict=True):
        for box, before, after in stroke[::-1]:
            np.testing.assert_array_equal(mask[box], after)
            mask[box] = before
        np.testing.assert_array_equal(mask, wanted)
    assert len(last_strokes(again.store, count=3)) == 3
    np.testing.assert_array_equal(
        last_strokes(again.store, count=3)[0][0][1], strokes[5][0][1]
    )
    again.store.close()


def test_stroke_that_a_later_prediction_covers_cannot_be_undone(desk):
    desk.stroke(30, 5, 2)
    desk.stroke(2, 5, 2)
    desk.stroke(30, 40, 2)
    desk.predict(1, rows=10)
    desk.stroke(2, 30, 2)
    desk.store.flush()
    boxes = [stroke[0][0] for stroke in last_strokes(desk.store)]
    assert [(box[0].start, box[1].start) for box in boxes] == [(30, 40), (2, 30)]


def test_a_stroke_under_an_adopted_truth_cannot_be_undone(desk):
    desk.stroke(5, 5, 2)
    change = desk.ledger.adopt(None, np.ones(SHAPE, np.uint8))
    desk.store.append(change)
    desk.store.stroke_finished()
    desk.stroke(25, 5, 2, dabs=1)
    desk.store.flush()
    assert [m.kind for m in moments(desk.store)] == ["edit", "adopt", "edit"]
    assert len(last_strokes(desk.store)) == 1


def test_accepting_does_not_end_what_can_be_undone(desk):
    desk.stroke(2, 5, 2)
    desk.accept()
    desk.store.flush()
    assert len(last_strokes(desk.store)) == 1


def test_undone_stroke_does_not_come_back(desk):
    desk.stroke(2, 5, 2)
    desk.stroke(12, 5, 2)
    desk.store.flush()
    first, second = last_strokes(desk.store)
    desk.undo(second)
    desk.undo(first)
    desk.store.flush()
    assert last_strokes(desk.store) == []
    desk.stroke(12, 5, 2)
    desk.store.flush()
    assert len(last_strokes(desk.store)) == 1


def test_mask_that_is_not_that_of_the_journal_ends_it(desk):
    desk.stroke(2, 5, 2)
    desk.stroke(22, 5, 2)
    desk.store.flush()
    labels = desk.ledger.labels.copy()
    labels[3, 6] = 0
    assert len(last_strokes(desk.store, labels=labels)) == 1


def test_large_fills_stay_within_the_memory_for_strokes(desk, monkeypatch):
    monkeypatch.setattr(history_module, "_STROKE_BYTES", 3 * 2 * 2400)
    for i in range(5):
        desk.ledger.labels[:] = 1 + i
        desk.store.append(desk.ledger.edited())
        desk.store.stroke_finished()
    desk.store.flush()
    assert len(last_strokes(desk.store)) == 3
