"""What is accepted in a plane, coarse enough to be drawn as lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.ledger import ACCEPTED, Ledger
from napari_seg.scoring.regions import PIECE, Box, as_box

__all__ = ["AcceptedCells", "outline"]

#: Longest side of the grid, in cells.
_GRID = 512


class AcceptedCells:
    """A coarse picture of what is accepted in one plane.

    Parameters
    ----------
    ledger : Ledger
        Of the mask.
    index : tuple of int
        The plane.

    Attributes
    ----------
    step : int
        Side of a cell in pixels.
    accepted : ndarray of bool, (rows, columns)
        Cells in which a pixel is accepted, as far as they were looked at.
    """

    def __init__(self, ledger: Ledger, index: tuple[int, ...]) -> None:
        self.ledger, self.index = ledger, index
        height, width = ledger.shape[-2:]
        self.step = max(1, -(-max(height, width) // _GRID))
        shape = -(-height // self.step), -(-width // self.step)
        self.accepted: NDArray[np.bool_] = np.zeros(shape, np.bool_)

    @property
    def plane(self) -> Box:
        """The plane as a box of the mask."""
        return as_box(tuple(slice(i, i + 1) for i in self.index), self.ledger.shape)

    def look(self, box: Box) -> None:
        """Bring the cells that `box` touches up to date."""
        step = self.step
        rows, columns = (
            slice(s.start // step * step, min(n, -(-s.stop // step) * step))
            for s, n in zip(box[-2:], self.ledger.shape[-2:], strict=True)
        )
        # Whole cells at once, but no copy of the plane.
        band = step * max(1, PIECE // (step * max(1, columns.stop - columns.start)))
        for top in range(rows.start, rows.stop, band):
            part = slice(top, min(top + band, rows.stop))
            flags = self.ledger.state((*self.plane[:-2], part, columns))
            found = flags.reshape(flags.shape[-2:]) & ACCEPTED
            for axis, length in enumerate(found.shape):
                starts = np.arange(0, length, step)
                found = np.maximum.reduceat(found, starts, axis=axis)
            at = part.start // step, columns.start // step
            cells = tuple(slice(a, a + n) for a, n in zip(at, found.shape, strict=True))
            self.accepted[cells] = found > 0


def outline(
    cells: NDArray[np.bool_], step: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the borders of the True cells as straight lines.

    Parameters
    ----------
    cells : ndarray of bool, (rows, columns)
        Cells of `step` by `step` pixels.
    step : int
        Side of a cell.
    shape : (height, width)
        Of the plane in pixels; the last cells may reach beyond it.

    Returns
    -------
    ndarray, (N, 2, 2)
        Start of each line and the way to its end, (Y, X) in pixels.
    """
    lines = []
    for axis in (0, 1):
        edges = np.diff(cells, axis=axis, prepend=False, append=False)
        # Along the last axis of `across` runs the line.
        across = edges if axis == 0 else edges.T
        ends = np.diff(across, axis=1, prepend=False, append=False)
        at, place = np.nonzero(ends)
        # Runs begin and end in turn.
        points = np.stack([at, place], axis=-1).reshape(-1, 2, 2)
        lines.append(points if axis == 0 else points[..., ::-1])
    corners: NDArray[np.float64] = np.concatenate(lines).astype(float)
    corners = np.minimum(corners * step, np.asarray(shape, float)) - 0.5
    corners[:, 1] -= corners[:, 0]
    return corners
