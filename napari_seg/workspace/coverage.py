"""Which part of an image the current model has predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_seg.workspace.source import View

__all__ = ["Coverage"]

#: Side in pixels of the squares that are remembered.
_CELL = 64


class Coverage:
    """Remembers predictions that ran to their end, in squares of 64 × 64 pixels.

    Parameters
    ----------
    plane_shape : tuple of int
        Height and width of a plane in pixels.
    """

    def __init__(self, plane_shape: tuple[int, int]) -> None:
        self._shape = plane_shape
        self._cells = tuple(-(-side // _CELL) for side in plane_shape)
        self._planes: dict[tuple[int, ...], NDArray[np.bool_]] = {}
        self._everything = False
        self._asked: View | None = None
        self._left = 0

    def begin(self, view: View | None, planes: int) -> None:
        """Take in that a prediction begins: of a view, or else of so many planes."""
        self._asked = view
        if view is None:
            self._left = planes * self._shape[0] * self._shape[1]
        else:
            self._left = _length(view.rows) * _length(view.columns)

    def add(self, pixels: int) -> None:
        """Take in that so many pixels of it are there."""
        self._left -= pixels

    def end(self) -> None:
        """Take in that it has ended; it counts if nothing is missing."""
        view, self._asked = self._asked, None
        if self._left > 0:
            return
        self._left = 1
        if view is None:
            self._everything = True
            return
        plane = self._planes.setdefault(view.index, np.zeros(self._cells, bool))
        rows, columns = (
            slice(-(-span.start // _CELL), _last(span.stop, side))
            for span, side in zip(view.box, self._shape, strict=True)
        )
        plane[rows, columns] = True

    def missing(self, view: View) -> View | None:
        """Return the part of a view that has yet to be predicted.

        It is a box of whole squares, the smallest that has all that is missing, and
        may so reach a little beyond the view. None if nothing is missing.
        """
        if self._everything:
            return None
        rows, columns = (
            slice(span.start // _CELL, -(-span.stop // _CELL)) for span in view.box
        )
        plane = self._planes.get(view.index)
        seen = (
            np.zeros((_length(rows), _length(columns)), bool)
            if plane is None
            else plane[rows, columns]
        )
        places = np.argwhere(~seen)
        if not len(places):
            return None
        (top, left), (bottom, right) = places.min(0), places.max(0) + 1
        return View(
            view.index,
            _pixels(rows.start + top, rows.start + bottom, self._shape[0]),
            _pixels(columns.start + left, columns.start + right, self._shape[1]),
        )


def _last(stop: int, side: int) -> int:
    """Return the end of the last whole square; one that the border cuts is whole."""
    return -(-stop // _CELL) if stop >= side else stop // _CELL


def _pixels(start: int, stop: int, side: int) -> slice:
    return slice(int(start) * _CELL, min(int(stop) * _CELL, side))


def _length(span: slice) -> int:
    return int(span.stop - span.start)
