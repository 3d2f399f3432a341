"""Borders of objects along the borders of their pixels, and back to the same pixels.

A pixel (y, x) is the square from (x, y) to (x + 1, y + 1).  A *ring* is the list of
the corners of a closed border, an array (N, 2) of x and y that does not repeat its
first corner.  A *polygon* is a list of rings: its shell, then its holes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outline", "Polygon", "Ring", "trace"]

Ring: TypeAlias = NDArray[np.int64]
Polygon: TypeAlias = list[Ring]

# Edges run right, down, left, up, with the object on their right-hand side as one
# looks at the image, where Y points down.
_STEP_X = np.array([1, 0, -1, 0])
_STEP_Y = np.array([0, 1, 0, -1])
# Where two of the object's pixels touch by a corner alone, the border turns back to
# the pixel that it comes from; elsewhere one way only is open.
_TURNS = (1, 0, 3)


@dataclass(frozen=True)
class Outline:
    """The border of one object in one plane.

    Attributes
    ----------
    number : int
        The object.
    polygons : list of Polygon
        One for each part that is connected by the sides of pixels.  Its rings are
        simple: none meets itself, and two meet in single points at most.  On the
        screen shells run clockwise, holes counter-clockwise.
    """

    number: int
    polygons: list[Polygon]

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns that the object spans."""
        corners = np.concatenate([shell for shell, *_ in self.polygons])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return slice(int(top), int(bottom)), slice(int(left), int(right))


@dataclass(frozen=True)
class _Edges:
    """The sides of pixels that lie on a border, sorted by `key`.

    Attributes
    ----------
    key : ndarray of int64
        Four times the place where the edge starts, plus its direction.
    part : ndarray of int
        The connected part whose border it is on.
    follower : ndarray of int64
        The edge that comes next.
    width : int
        Places in a row: one more than pixels.
    """

    key: NDArray[np.int64]
    part: NDArray[np.int64]
    follower: NDArray[np.int64]
    width: int

    @property
    def place(self) -> NDArray[np.int64]:
        """Number of the corner where each edge starts."""
        return self.key // 4

    def crossings(self) -> NDArray[np.bool_]:
        """Tell which edges start where another one of the same part does."""
        found = np.zeros(len(self.key), bool)
        # At most four edges start at a place, and at most two of one part.
        for away in (1, 2, 3):
            same = (self.place[away:] == self.place[:-away]) & (
                self.part[away:] == self.part[:-away]
            )
            found[away:] |= same
            found[: len(found) - away] |= same
        return found


def trace(ids: NDArray[Any]) -> list[Outline]:
    """Return the borders of all objects of a plane.

    Parameters
    ----------
    ids : ndarray of int, shape (Y, X)
        Numbers of objects; 0 is none.

    Returns
    -------
    list of Outline
        In the order of the numbers.
    """
    from skimage import measure

    label: Any = measure.label
    parts = label(ids, background=0, connectivity=1)
    edges = _edges(parts)
    polygons: dict[int, Polygon] = {}
    for part, ring in _rings(edges):
        rings = polygons.setdefault(part, [])
        # The one ring around all others is the shell.
        rings.insert(0 if _area(ring) > 0 else len(rings), ring)
    numbers = np.zeros(len(polygons) + 1, np.int64)
    numbers[parts.ravel()] = ids.ravel()
    outlines: dict[int, list[Polygon]] = {}
    for part in sorted(polygons):
        outlines.setdefault(int(numbers[part]), []).append(polygons[part])
    return [Outline(number, outlines[number]) for number in sorted(outlines)]


def _edges(parts: NDArray[Any]) -> _Edges:
    """Return the edges around each part of a plane, shape (Y, X)."""
    height, width = parts.shape
    padded = np.zeros((height + 2, width + 2), np.int64)
    padded[1:-1, 1:-1] = parts
    starts, owners = [], []
    for direction in range(4):
        # Right-hand of the edge is the pixel; left-hand its neighbour.
        away_y, away_x = -_STEP_X[direction], _STEP_Y[direction]
        beside = padded[
            1 + away_y : 1 + away_y + height, 1 + away_x : 1 + away_x + width
        ]
        y, x = np.nonzero((parts > 0) & (parts != beside))
        corner_y, corner_x = y + (direction in (2, 3)), x + (direction in (1, 2))
        starts.append(4 * (corner_y * (width + 1) + corner_x) + direction)
        owners.append(parts[y, x])
    key = np.concatenate(starts).astype(np.int64)
    order = np.argsort(key)
    key = key[order]
    part = np.concatenate(owners).astype(np.int64)[order]
    return _Edges(key, part, _followers(key, part, width + 1), width + 1)


def _followers(
    key: NDArray[np.int64], part: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    place, direction = key // 4, key % 4
    end = place + _STEP_Y[direction] * width + _STEP_X[direction]
    follower = np.full(len(key), -1, np.int64)
    for turn in _TURNS:
        wanted = 4 * end + (direction + turn) % 4
        at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        there = (follower < 0) & (key[at] == wanted) & (part[at] == part)
        follower[there] = at[there]
    return follower


def _rings(edges: _Edges) -> Iterator[tuple[int, Ring]]:
    """Yield each simple ring, with the part that it belongs to."""
    follower = edges.follower.tolist()
    crossing = edges.crossings()
    place, direction = edges.place, edges.key % 4
    seen = bytearray(len(follower))
    for first in range(len(follower)):
        if seen[first]:
            continue
        walk, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            walk.append(edge)
            edge = follower[edge]
        way = np.array(walk)
        loops = _split(way, place[way]) if crossing[way].any() else [way]
        for loop in loops:
            turns = direction[loop] != np.roll(direction[loop], 1)
            corners = place[loop[turns]]
            ring = np.stack([corners % edges.width, corners // edges.width], axis=1)
            yield int(edges.part[first]), ring


def _split(
    way: NDArray[np.int64], places: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Cut a closed way where it comes to a place again, into ways that do not."""
    loops: list[NDArray[np.int64]] = []
    open_way: list[tuple[int, int]] = []
    at: dict[int, int] = {}
    for edge, place in zip(way.tolist(), places.tolist(), strict=True):
        if place in at:
            start = at[place]
            loop = open_way[start:]
            loops.append(np.array([each for each, _ in loop]))
            for _, left in loop:
                del at[left]
            del open_way[start:]
        at[place] = len(open_way)
        open_way.append((edge, place))
    loops.append(np.array([each for each, _ in open_way]))
    return loops


def _area(ring: Ring) -> float:
    """Return twice the area of a ring: positive clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
