"""Boxes that wait are handed out once, in pieces, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_seg._qt.idle import IdleBoxes
from napari_seg.scoring.regions import Box, pixels
from tests._qt import hands

LARGE = np.s_[0:4096, 0:2048]


class Heard:
    def __init__(self) -> None:
        self.pieces: list[Box] = []
        self.done = 0
        self.boxes = IdleBoxes(self.pieces.append, self.count)

    def count(self) -> None:
        self.done += 1


@pytest.fixture
def heard(qapp: QApplication) -> Heard:
    return Heard()


def test_a_large_box_comes_in_pieces_and_only_once(heard: Heard) -> None:
    heard.boxes.add(LARGE)
    heard.boxes.add(LARGE)
    assert not heard.pieces
    assert heard.boxes
    hands.wait_until(lambda: heard.done == 1)
    assert sum(map(pixels, heard.pieces)) == 4096 * 2048
    assert len(heard.pieces) >= 8
    assert not heard.boxes


def test_it_can_be_had_at_once_or_not_at_all(heard: Heard) -> None:
    heard.boxes.add(LARGE)
    heard.boxes.flush()
    assert sum(map(pixels, heard.pieces)) == 4096 * 2048
    assert heard.done == 1
    heard.boxes.add(LARGE)
    heard.boxes.clear()
    heard.boxes.add(np.s_[3:3, 0:9])
    hands.settle()
    assert heard.done == 1


def test_a_failing_piece_comes_once(qapp: QApplication) -> None:
    tried: list[Box] = []

    def look(piece: Box) -> None:
        tried.append(piece)
        raise ValueError("no")

    boxes = IdleBoxes(look, lambda: None)
    boxes.add(np.s_[0:2, 0:2])
    with pytest.raises(ValueError, match="no"):
        boxes.flush()
    boxes.flush()
    assert len(tried) == 1
