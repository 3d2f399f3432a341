"""A painter who edits a mask at random, and says what happened."""

from __future__ import annotations

import numpy as np
import pytest

from napari_seg.corrections.ledger import Ledger


class Painter:
    """Makes random changes to a ledger, each returned as the ledger reports it."""

    def __init__(self, shape, seed=0):
        self.rng = np.random.default_rng(seed)
        self.ledger = Ledger(np.zeros(shape, np.uint8), None, 3)

    def region(self):
        ends = [sorted(self.rng.integers(0, n, 2)) for n in self.ledger.shape]
        return tuple(slice(int(a), int(b) + 1) for a, b in ends)

    def change(self):
        """Return one change; never None."""
        ledger, region = self.ledger, self.region()
        kind = self.rng.choice(["edit", "edit", "predict", "accept", "unaccept"])
        if kind == "edit":
            ledger.labels[region] = (ledger.labels[region] + 1) % 4
            return ledger.edited(region) or self.change()
        if kind == "predict":
            shape = ledger.labels[region].shape
            return ledger.predicted(region, self.rng.integers(0, 3, shape))
        return getattr(ledger, kind)(region)

    def arrays(self):
        """Return copies of labels, reference and state as they are now."""
        ledger = self.ledger
        return ledger.labels.copy(), ledger.reference.copy(), ledger.state()


@pytest.fixture
def painter():
    return Painter((2, 30, 40))


@pytest.fixture
def make_painter():
    return Painter
