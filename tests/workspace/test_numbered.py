"""Numbers of objects through strokes, undo and redo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_seg.corrections.ledger import Ledger
from napari_seg.objects.connected import label_objects
from napari_seg.objects.follow import is_object
from napari_seg.workspace.numbered import Numbered

SIDE = 24
_dab = st.tuples(
    st.integers(0, SIDE - 1),
    st.integers(0, SIDE - 1),
    st.integers(1, 8),
    st.sampled_from([0, 1, 1, 2, 255]),
)


class Hand:
    """Paints on a mask, dab by dab, and undoes it as napari does."""

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self.ledger = Ledger(labels, n_classes=3)
        self.labels = labels
        ids, _ = label_objects(np.where(labels == 255, 0, labels), "")
        self.numbered = Numbered(ids, "")

    def write(self, box: Any, values: Any) -> None:
        self.labels[box] = values
        change = self.ledger.edited(box)
        if change is not None:
            self.numbered.note(change, self.labels)

    def stroke(self, dabs: list[tuple[int, int, int, int]]) -> None:
        for y, x, size, value in dabs:
            self.write(np.s_[y : y + size, x : x + size], value)
        self.numbered.finish(self.labels)

    def bring_back(self, labels: NDArray[np.uint8]) -> None:
        self.write(np.s_[:, :], labels)
        self.numbered.finish(self.labels)

    def check(self) -> None:
        ids = self.numbered.ids
        np.testing.assert_array_equal(ids > 0, is_object(self.labels))
        numbers, counts = np.unique(ids[ids > 0], return_counts=True)
        assert self.numbered.areas == dict(
            zip(numbers.tolist(), counts.tolist(), strict=True)
        )
        assert self.numbered.last >= ids.max()


@settings(max_examples=60, deadline=None)
@given(st.lists(_dab, max_size=5), st.lists(st.lists(_dab, max_size=3), max_size=4))
def test_undo_and_redo_bring_numbers_back(first: Any, strokes: Any) -> None:
    hand = Hand(np.zeros((SIDE, SIDE), np.uint8))
    hand.stroke(first)
    states = [(hand.labels.copy(), hand.numbered.ids.copy())]
    for dabs in strokes:
        hand.stroke(dabs)
        hand.check()
        # A stroke that changes nothing is none to undo.
        if not np.array_equal(states[-1][0], hand.labels):
            states.append((hand.labels.copy(), hand.numbered.ids.copy()))
    for order in (states[-2::-1], states[1:], states[-2::-1]):
        for labels, ids in order:
            hand.bring_back(labels)
            hand.check()
            np.testing.assert_array_equal(hand.numbered.ids, ids)


def test_a_tile_that_arrives_during_a_stroke() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[5:15, 5:15] = 1
    hand = Hand(labels)
    hand.write(np.s_[5:15, 15:20], 1)
    tile = np.zeros((20, 20), np.uint8)
    tile[10:] = 2
    change = hand.ledger.predicted(np.s_[20:40, 20:40], tile)
    hand.numbered.note(change, labels)
    hand.write(np.s_[5:15, 20:25], 1)
    hand.numbered.finish(labels)
    hand.check()
    assert (hand.numbered.ids[5:15, 5:25] == 1).all()
    assert hand.numbered.ids[35, 35] == 2


def test_a_large_stroke_is_taken_in_before_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_seg.workspace.numbered._AT_ONCE", 50)
    labels = np.zeros((40, 40), np.uint8)
    hand = Hand(labels)
    hand.write(np.s_[5:15, 5:15], 1)
    assert hand.numbered.areas == {1: 100}
    hand.write(np.s_[5:15, 15:20], 1)
    hand.write(np.s_[5:15, 9:12], 0)
    hand.numbered.finish(labels)
    hand.check()
    assert len(hand.numbered.areas) == 2


def test_memory_of_undo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_seg.workspace.numbered._REMEMBERED", 4000)
    labels = np.zeros((40, 40), np.uint8)
    hand = Hand(labels)
    for row in range(0, 40, 4):
        hand.stroke([(row, 0, 8, 1)])
    assert sum(step.nbytes for step in hand.numbered._undo) <= 4000
