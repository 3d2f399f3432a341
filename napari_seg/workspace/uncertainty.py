"""Where the model is least sure, on a coarse grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.ledger import ACCEPTED, Ledger
from napari_seg.scoring.regions import Box

__all__ = ["UncertaintyMap"]

#: Side of a block in pixels.
_BLOCK = 64
#: A block of which no more than this share is unreviewed counts as reviewed.
_MOSTLY = 0.5


class UncertaintyMap:
    """Expected number of wrong pixels in blocks of 64 × 64, plane by plane.

    With a calibrated confidence p, a pixel is wrong with probability 1 − p; the sum
    over a block is the number of wrong pixels to expect there.

    Parameters
    ----------
    shape : tuple of int
        Shape of the mask, (..., Y, X).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        grid = (*shape[:-2], *(-(-side // _BLOCK) for side in shape[-2:]))
        self._expected = np.zeros(grid, np.float32)
        self._visited = np.zeros(grid, bool)

    @property
    def known(self) -> bool:
        """Whether any prediction was taken in."""
        return bool(self._expected.any())

    def add(self, region: Box, confidence: NDArray[np.float32]) -> None:
        """Take in the confidence of one tile.

        Parameters
        ----------
        region : tuple of slice
            Where the tile lies in the mask, one plane.
        confidence : ndarray of float32, shape (h, w)
            Probability of the predicted class.
        """
        index = tuple(part.start for part in region[:-2])
        wrong: NDArray[np.float32] = 1 - confidence
        *_, top, left = (part.start for part in region)
        rows = (top + np.arange(wrong.shape[0])) // _BLOCK
        columns = (left + np.arange(wrong.shape[1])) // _BLOCK
        row_starts = np.flatnonzero(np.diff(rows, prepend=-1))
        column_starts = np.flatnonzero(np.diff(columns, prepend=-1))
        sums = np.add.reduceat(wrong, row_starts, axis=0)
        sums = np.add.reduceat(sums, column_starts, axis=1)
        heights = np.diff(row_starts, append=len(rows))
        widths = np.diff(column_starts, append=len(columns))
        density = sums / np.outer(heights, widths)
        # A block that two tiles share keeps the density of the later one.
        blocks = np.ix_(rows[row_starts], columns[column_starts])
        self._expected[index][blocks] = density * _BLOCK**2
        self._visited[index][blocks] = False

    def next(self, ledger: Ledger) -> Box | None:
        """Return the block with most errors to expect in what is not reviewed.

        A block is left out once it was returned, and where most of it is accepted.
        None means that no block is left.
        """
        left = np.where(self._visited, 0, self._expected)
        exact = np.zeros(left.shape, bool)
        while left.any():
            place = np.unravel_index(int(left.argmax()), left.shape)
            box = self._box(tuple(int(i) for i in place))
            if exact[place]:
                self._visited[place] = True
                return box
            # Looked up for the foremost blocks only, which is quick on large images.
            unreviewed = float(np.mean(ledger.state(box) & ACCEPTED == 0))
            exact[place] = True
            left[place] *= unreviewed
            if unreviewed <= _MOSTLY:
                left[place], self._visited[place] = 0, True
        return None

    def _box(self, place: tuple[int, ...]) -> Box:
        *index, row, column = place
        return (
            *(slice(i, i + 1) for i in index),
            *(
                slice(i * _BLOCK, min((i + 1) * _BLOCK, side))
                for i, side in zip((row, column), self._shape[-2:], strict=True)
            ),
        )
