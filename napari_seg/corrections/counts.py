"""The ledger's sums, of the whole mask or of a part of it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.packed import ACCEPTED, PackedPixels
from napari_seg.scoring.confusion import Scores, scored_block
from napari_seg.scoring.regions import Box, intersection, relative, split
from napari_seg.scoring.tally import UNKNOWN, Tally

__all__ = ["Counted", "Counts"]

Counted: TypeAlias = tuple[NDArray[Any], NDArray[np.uint8]]
"""Packed pixels and their reference."""


class Counts:
    """Pixels per flags, label and reference within a box, kept by moving pixels.

    It begins with none: see :meth:`count`.

    Parameters
    ----------
    pixels : PackedPixels
        Labels and flags.
    reference : ndarray of uint8
        What the model said, of the shape of the mask.
    box : tuple of slice
        Where pixels are counted.
    """

    def __init__(
        self, pixels: PackedPixels, reference: NDArray[np.uint8], box: Box
    ) -> None:
        self.box = box
        self._pixels, self._reference = pixels, reference
        self._bits = pixels.bits
        self._tally = Tally(pixels.rows)

    def count(self, box: Box) -> None:
        """Count the pixels of a part of the box, which must be new."""
        for piece in split(box):
            self._tally.add(self._pixels.data[piece], self._reference[piece])

    @property
    def table(self) -> NDArray[np.int64]:
        """Pixels, (4 flags, label codes, 256 references)."""
        return self._tally.counts.reshape(4, 1 << self._bits, 256)

    def move(
        self, piece: Box, changed: NDArray[np.bool_], before: Counted, after: Counted
    ) -> None:
        """Count changed pixels anew.

        Parameters
        ----------
        piece : tuple of slice
            Where the pixels lie.
        changed : ndarray of bool
            Which pixels of `piece` may differ, N of them.
        before, after : (packed pixels, reference)
            Of these, both (N,).
        """
        inside = intersection(piece, self.box)
        if inside is None:
            return
        if inside != piece:
            within = np.zeros(changed.shape, bool)
            within[relative(inside, piece)] = True
            counted = within[changed]
            before = before[0][counted], before[1][counted]
            after = after[0][counted], after[1][counted]
        self._tally.remove(*before)
        self._tally.add(*after)

    def scores(self, n_classes: int, reviewed: bool) -> Scores:
        """Return the scores of all pixels, or of the accepted ones only."""
        table = self.table[ACCEPTED:] if reviewed else self.table
        # Of each flag's table only the classes are read, so cost is that of K x K.
        counts = table[:, :n_classes, :n_classes].sum(axis=0)
        return Scores(scored_block(counts, n_classes))

    def flagged(self, flag: int) -> int:
        """Return the number of pixels with any of the bits of `flag`."""
        return sum(int(self.table[flags].sum()) for flags in range(4) if flags & flag)

    def per_label(self) -> NDArray[np.int64]:
        """Return the pixels of each label 0 to 254, (255,)."""
        codes: NDArray[np.int64] = self.table.sum(axis=(0, 2))
        counts = np.zeros(UNKNOWN, np.int64)
        counts[: codes.size - 1] = codes[:-1]
        return counts
