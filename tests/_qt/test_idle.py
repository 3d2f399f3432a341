"""Boxes that wait are handed out once, in pieces, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_seg._qt import idle
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


def test_what_waits_already_is_not_handed_out_twice(heard: Heard) -> None:
    heard.boxes.add(np.s_[0:2000, 0:2000])
    heard.boxes.add(np.s_[10:20, 10:20])
    heard.boxes.add(np.s_[0:3000, 0:2048])
    heard.boxes.add(np.s_[3000:3001, 0:5])
    heard.boxes.flush()
    assert sum(map(pixels, heard.pieces)) == 3000 * 2048 + 5
    # But again what was handed out before it was added.
    heard.boxes.add(LARGE)
    QApplication.processEvents()
    so_far = sum(map(pixels, heard.pieces))
    heard.boxes.add(LARGE)
    heard.boxes.flush()
    assert sum(map(pixels, heard.pieces)) == so_far + 4096 * 2048


def test_the_pieces_are_all_of_a_box(heard: Heard) -> None:
    shape = 3, 5, 700, 900
    seen = np.zeros(shape, np.uint8)
    heard.boxes.add(np.s_[0:3, 1:5, 10:700, 0:890])
    hands.wait_until(lambda: heard.done == 1)
    for piece in heard.pieces:
        seen[piece] += 1
    assert (seen[:, 1:, 10:, :890] == 1).all()
    assert seen.sum() == 3 * 4 * 690 * 890


def test_slow_pieces_become_small_ones(
    qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Painting stays smooth, however much changed in the box."""
    pieces: list[int] = []
    clock = [0.0]
    monkeypatch.setattr(idle, "perf_counter", lambda: clock[0])

    def look(piece: Box) -> None:
        pieces.append(pixels(piece))
        clock[0] += pieces[-1] * (1e-9 if sum(pieces) < 1 << 22 else 1e-7)

    boxes = IdleBoxes(look, lambda: None)
    boxes.add(np.s_[0:2048, 0:4096])
    turns = []
    while boxes:
        before = clock[0]
        QApplication.processEvents()
        turns.append(clock[0] - before)
    assert max(pieces) == 1 << 18
    assert max(pieces[-5:]) < 1 << 15
    assert max(turns[-5:]) < 0.01


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

    done: list[bool] = []
    boxes = IdleBoxes(look, lambda: done.append(True))
    boxes.add(np.s_[0:2, 0:2])
    with pytest.raises(ValueError, match="no"):
        boxes.flush()
    boxes.flush()
    assert len(tried) == 1
    hands.wait_until(lambda: done)
