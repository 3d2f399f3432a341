"""Predictions that are begun and cancelled, over and over."""

from __future__ import annotations

import ctypes
import gc
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_seg import load_model, predict
from napari_seg.inference.predict import PredictOptions
from tests._qt import hands
from tests._qt.person import Person

CYCLES = 500
#: What the allocators of Python and torch may keep, in bytes.
SLACK = 64 << 20
#: Threads that save a mask, and the record of the work on it, while it is open.
SAVING = {"napari-seg journal", "napari-seg activity"}


def _memory() -> int:
    """Return the resident bytes of this process; 0 where the system tells none."""
    if sys.platform == "win32":
        return 0
    # What was freed goes back first: threads that come and go scatter it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * 4096 if told.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_left_of_500_cancelled_predictions(
    person: Person, model_file: Path
) -> None:
    workspace, rng = person.workspace, random.Random(0)
    workspace.predict_options = PredictOptions(tile=32)
    image = person.viewer.layers[0].data
    expected = predict(load_model(model_file), image, tile=32).labels

    def cycles(count: int) -> None:
        for _ in range(count):
            # A click takes longer than what is to be interrupted.
            person.dock.source.predict_all()
            hands.settle(rng.random() * 0.02 * (rng.random() < 0.3))
            workspace.cancel()
            hands.settle(0.0)
            assert person.idle()

    def settled() -> int:
        person.wait(lambda: person.dock._runner.running == 0)
        gc.collect()
        return _memory()

    def names() -> set[str]:
        return {thread.name for thread in hands.running()}

    # A slow machine finishes no tile for long, and saving begins with the first one.
    person.dock.source.predict_all()
    person.wait(lambda: names() >= SAVING, what="saving")
    workspace.cancel()
    cycles(CYCLES * 2 // 5)
    memory, threads = settled(), set(hands.running())
    cycles(CYCLES - CYCLES * 2 // 5)
    memory_after = settled()

    def more() -> list[str]:
        return [thread.name for thread in hands.running() if thread not in threads]

    # What is being saved at this moment has a thread, which ends by itself.
    person.wait(
        lambda: len(hands.running()) <= len(threads),
        what=lambda: f"the end of {', '.join(more())}",
    )

    assert memory_after - memory < SLACK
    assert not person.failures
    # Each tile is there or it is not; none is there by half.
    mask = person.mask.data
    for top in range(0, mask.shape[0], 32):
        for left in range(0, mask.shape[1], 32):
            tile = np.s_[top : top + 32, left : left + 32]
            assert (mask[tile] == expected[tile]).all() or not mask[tile].any()
    # And the next one is as good as the first.
    np.testing.assert_array_equal(person.predict().data, expected)
