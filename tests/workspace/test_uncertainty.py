"""Where Next leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_seg.corrections.ledger import ACCEPTED
from napari_seg.scoring.regions import Box
from napari_seg.workspace.uncertainty import UncertaintyMap

SHAPE = (2, 128, 192)


@dataclass
class Reviewed:
    """Stands in for a ledger: what is accepted."""

    accepted: NDArray[np.bool_]

    def state(self, box: Box) -> NDArray[np.uint8]:
        return (self.accepted[box] * ACCEPTED).astype(np.uint8)


@pytest.fixture
def ledger() -> Reviewed:
    return Reviewed(np.zeros(SHAPE, bool))


@pytest.fixture
def doubts() -> UncertaintyMap:
    """Return a map in which the blocks of plane 1 are worse than those of plane 0."""
    found = UncertaintyMap(SHAPE)
    confidence = np.ones(SHAPE[1:], np.float32)
    for plane in (0, 1):
        for row in (0, 1):
            for column in (0, 1, 2):
                doubt = 0.05 * (6 * plane + 3 * row + column + 1)
                block = np.s_[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
                confidence[block] = 1 - doubt
        found.add((slice(plane, plane + 1), slice(0, 128), slice(0, 192)), confidence)
    return found


def corner(box: Box | None) -> tuple[int, ...] | None:
    return None if box is None else tuple(part.start for part in box)


def test_most_errors_first_and_no_place_twice(
    doubts: UncertaintyMap, ledger: Reviewed
) -> None:
    corners = [corner(doubts.next(ledger)) for _ in range(13)]
    expected = [(p, y, x) for p in (1, 0) for y in (64, 0) for x in (128, 64, 0)]
    assert corners == [*expected, None]


def test_what_is_reviewed_counts_no_more(
    doubts: UncertaintyMap, ledger: Reviewed
) -> None:
    """The worst block is mostly accepted, the next one by two fifths."""
    ledger.accepted[1, 64:, 128:] = True
    ledger.accepted[1, 100, 150] = False
    ledger.accepted[1, 64:90, 64:128] = True
    corners = [corner(doubts.next(ledger)) for _ in range(5)]
    # Of its 0.55, 0.33 are left.
    others = [(1, 64, 0), (1, 0, 128), (1, 0, 64), (1, 0, 0)]
    assert corners == [*others, (1, 64, 64)]


def test_a_new_prediction_opens_a_place_again(
    doubts: UncertaintyMap, ledger: Reviewed
) -> None:
    first = doubts.next(ledger)
    assert first is not None
    doubts.add(first, np.zeros((64, 64), np.float32))
    assert doubts.next(ledger) == first


def test_without_doubt_there_is_nowhere_to_go(ledger: Reviewed) -> None:
    found = UncertaintyMap(SHAPE)
    assert not found.known
    assert found.next(ledger) is None
    found.add((slice(0, 1), slice(0, 128), slice(0, 192)), np.ones((128, 192), "f4"))
    assert found.next(ledger) is None
