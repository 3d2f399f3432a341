"""The sums looked over again in the background, in case something went unnoticed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from napari_seg.corrections.change import Change
from napari_seg.corrections.counts import Counts
from napari_seg.corrections.settled import Settled
from napari_seg.scoring.regions import Box, split

__all__ = ["Audit"]

_LOG = logging.getLogger(__name__)
_PIECE = 1 << 18
"""Pixels a step: 1.3 ms of comparing and counting (8192², November 2026)."""


class Audit:
    """Compares what the ledger remembers with the mask itself, a piece a step.

    It finds edits that nobody told the ledger of (an assignment into the array
    without a refresh), and sums that are not those of the pixels, which would be an
    error of this program.  Both are repaired and logged.

    Parameters
    ----------
    settled : Settled
        Pixels and sums.

    Attributes
    ----------
    done : bool
        Whether all pixels were looked at and counted without a change in between.
    """

    def __init__(self, settled: Settled) -> None:
        self._settled = settled
        self.done = False
        self._begin()

    def _begin(self) -> None:
        settled = self._settled
        self._moves = settled.moves
        self._pieces: Iterator[Box] = split(settled.box, _PIECE)
        self._counts = Counts(settled.pixels, settled.reference, settled.box)

    def step(self) -> Change | None:
        """Look at the next piece; return an edit that went unnoticed.

        After any change to the ledger it begins anew.
        """
        settled = self._settled
        if settled.moves != self._moves:
            self._begin()
        piece = next(self._pieces, None)
        if piece is None:
            self._compare()
            return None
        change = settled.edit(piece)
        if change is not None:
            _LOG.warning("The mask was changed without notice at %s.", change.region)
            return change
        self._counts.count(piece)
        return None

    def _compare(self) -> None:
        self.done = True
        if not np.array_equal(self._counts.table, self._settled.whole.table):
            _LOG.error("The sums of the score were wrong; they were counted anew.")
            self._settled.recount()
