"""Where the model is least sure, on coarse grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.ledger import ACCEPTED, Ledger
from napari_seg.scoring.regions import Box
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["CELL", "CellConfidence", "UncertaintyMap"]

#: Side of a cell in pixels, and of a block in cells.
CELL = 8
_CELLS = 8
_BLOCK = CELL * _CELLS
#: A block of which no more than this share is unreviewed counts as reviewed.
_MOSTLY = 0.5


class UncertaintyMap:
    """Where wrong pixels are to be expected, plane by plane.

    With a calibrated confidence p, a pixel is wrong with probability 1 − p; the sum
    over a block of 64 × 64 pixels is the number of wrong pixels to expect there.

    Parameters
    ----------
    shape : tuple of int
        Shape of the mask, (..., Y, X).

    Attributes
    ----------
    density : ndarray of float32, shape (..., Y / 8, X / 8)
        Share of the pixels of a cell of 8 × 8 that is probably wrong; 0 where nothing
        was predicted yet. Changed in place.
    known : bool
        Whether any doubt was taken in.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.density = np.zeros(_grid(shape, CELL), np.float32)
        self.known = False
        self._expected = np.zeros(_grid(shape, _BLOCK), np.float32)
        self._visited = np.zeros(self._expected.shape, bool)

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
        rows = (top + np.arange(wrong.shape[0])) // CELL
        columns = (left + np.arange(wrong.shape[1])) // CELL
        row_starts = np.flatnonzero(np.diff(rows, prepend=-1))
        column_starts = np.flatnonzero(np.diff(columns, prepend=-1))
        sums = np.add.reduceat(wrong, row_starts, axis=0)
        sums = np.add.reduceat(sums, column_starts, axis=1)
        heights = np.diff(row_starts, append=len(rows))
        widths = np.diff(column_starts, append=len(columns))
        # A cell that two tiles share keeps the density of the later one.
        cells = rows[row_starts], columns[column_starts]
        self.density[index][np.ix_(*cells)] = sums / np.outer(heights, widths)
        self.known = self.known or bool(sums.any())
        first, last = ([each[end] // _CELLS for each in cells] for end in (0, -1))
        blocks = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
        self._expected[index][blocks] = self._sums(index, blocks)
        self._visited[index][blocks] = False

    def _sums(
        self, index: tuple[int, ...], blocks: tuple[slice, ...]
    ) -> NDArray[np.float32]:
        """Return the number of wrong pixels to expect in blocks of one plane."""
        inside = tuple(slice(_CELLS * b.start, _CELLS * b.stop) for b in blocks)
        sums: NDArray[np.float32] = self.density[index][inside]
        for axis in (0, 1):
            starts = np.arange(0, sums.shape[axis], _CELLS)
            sums = np.add.reduceat(sums, starts, axis=axis)
        return sums * np.float32(CELL**2)

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


class CellConfidence:
    """The confidence of the prediction at each pixel: that of its cell.

    An array to read boxes of, none of which is in memory as a whole; NaN where nothing
    was predicted.

    Parameters
    ----------
    uncertainty : UncertaintyMap
        Where the model is unsure.
    ledger : Ledger
        Knows where it has predicted.
    """

    def __init__(self, uncertainty: UncertaintyMap, ledger: Ledger) -> None:
        self._density, self._ledger = uncertainty.density, ledger
        self.shape = ledger.shape
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[np.float32]:
        *place, rows, columns = key
        index = tuple(place)
        y, x = (
            np.arange(length)[side] // CELL
            for side, length in zip((rows, columns), self.shape[-2:], strict=True)
        )
        wrong = self._density[index][..., y, :][..., x]
        said = self._ledger.reference[key] != UNKNOWN
        sure: NDArray[np.float32] = np.where(said, 1 - wrong, np.float32(np.nan))
        return sure


def _grid(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    return (*shape[:-2], *(-(-length // side) for length in shape[-2:]))
