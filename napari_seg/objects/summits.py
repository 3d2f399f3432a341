"""Where a surface has its bumps: the maxima that rise clearly above their saddles.

The same as grey reconstruction and its regional maxima, at a fraction of the time: most
components have one maximum, and of the others a graph of the maxima is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.morphology import local_maxima

__all__ = ["summits"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.intp]


def summits(
    surface: _Floats,
    floor: Callable[[_Floats], _Floats],
    components: NDArray[np.integer],
) -> NDArray[np.bool_]:
    """Find the maxima whose floor still lies above the saddle to a higher one.

    In words of morphology: the regional maxima of the reconstruction of `surface` by
    dilation from ``floor(surface)`` (Vincent 1993, doi:10.1109/83.217222); the maxima
    whose dynamic (Grimaud 1992) is larger than what the floor lies below them.

    Parameters
    ----------
    surface : (Y, X) ndarray of float64
        Larger than 0 in components and 0 outside.
    floor : callable
        Heights → what lies below each of them; it rises with the height.
    components : (Y, X) ndarray of int
        Numbers of the connected pixels (diagonals connect), 1 ... n; 0 outside.

    Returns
    -------
    (Y, X) ndarray of bool
        Pixels of these maxima, down to their floors.
    """
    maxima = local_maxima(surface) & (components > 0)
    tops, count = label(maxima, connectivity=2, return_num=True)
    pixels = np.flatnonzero(tops)
    numbers = tops.ravel()[pixels]
    owner = np.zeros(count + 1, np.intp)
    owner[numbers] = components.ravel()[pixels]
    # Infinite for the background, and for what needs a closer look.
    least = np.full(count + 1, np.inf)
    least[numbers] = floor(surface.ravel()[pixels])
    several = np.bincount(owner[1:], minlength=components.max(initial=0) + 1) > 1
    reached = np.full(len(several), np.inf)
    reached[owner[1:]] = np.where(several[owner[1:]], np.inf, least[1:])
    found: NDArray[np.bool_] = surface >= reached[components]
    if several.any():
        # A rim, so that each pixel has eight neighbours.
        height, mask = np.pad(surface, 1), np.pad(several[components], 1)
        pixels = np.flatnonzero(mask)
        hills = _Hills(height, pixels, np.pad(tops, 1).ravel()[pixels])
        until = _flooded(least, hills.saddles())
        rows, columns = np.divmod(
            pixels[hills.height >= until[hills.basin]], mask.shape[1]
        )
        found[rows - 1, columns - 1] = True
    return found


class _Hills:
    """Pixels on their ways up.

    Parameters
    ----------
    surface : (Y, X) ndarray of float
        Its outermost pixels are 0.
    pixels : (N,) ndarray of int
        Positions on the flat surface, of whole components.
    tops : (N,) ndarray of int
        Number of the maximum that a pixel is a part of, or 0.
    """

    def __init__(self, surface: _Floats, pixels: _Ints, tops: NDArray[np.integer]):
        width = surface.shape[1]
        self._forward = (1, width - 1, width, width + 1)
        self._surface = surface.ravel()
        self._pixels = pixels
        self._index = np.zeros(surface.size, np.int32)
        self._index[pixels] = np.arange(len(pixels))
        self.height = self._surface[pixels]
        self.basin: NDArray[np.integer] = tops[self._climb(tops)]

    def _climb(self, tops: NDArray[np.integer]) -> _Ints:
        """Return the pixel on the maximum to which going up leads from each pixel."""
        offsets = [*self._forward, *(-step for step in self._forward)]
        up, best = np.arange(len(self._pixels)), self.height.copy()
        for step in offsets:
            there = self._surface[self._pixels + step]
            better = there > best
            best[better] = there[better]
            up[better] = self._index[self._pixels[better] + step]
        # A terrace is crossed towards those of its pixels from which it goes on.
        lost = (best == self.height) & (tops == 0)
        while lost.any():
            stuck = np.flatnonzero(lost)
            for step in offsets:
                beside = self._pixels[stuck] + step
                level = self._surface[beside] == self.height[stuck]
                beyond = self._index[beside]
                leads = level & ~lost[beyond]
                up[stuck[leads]] = beyond[leads]
            lost[stuck] = up[stuck] == stuck
        while True:
            further = up[up]
            if np.array_equal(further, up):
                return up
            up = further

    def saddles(self) -> Iterator[tuple[float, int, int]]:
        """Yield height and both basins of the saddles, the highest first."""
        parts = []
        for step in self._forward:
            there = self._surface[self._pixels + step]
            other = self.basin[self._index[self._pixels + step]]
            border = (there > 0) & (other != self.basin)
            height = np.minimum(there, self.height)[border]
            parts.append((height, self.basin[border], other[border]))
        heights, one, two = (np.concatenate(p) for p in zip(*parts, strict=True))
        order = np.argsort(-heights, kind="stable")
        pairs = np.stack([np.minimum(one, two), np.maximum(one, two)])[:, order]
        # Of all passes between two basins the highest counts.
        _, first = np.unique(pairs.astype(np.int64).T @ _KEY, return_index=True)
        first.sort()
        yield from zip(
            heights[order][first].tolist(), *pairs[:, first].tolist(), strict=True
        )


#: Makes one number of two.
_KEY = np.array([1 << 32, 1])


def _flooded(floor: _Floats, saddles: Iterator[tuple[float, int, int]]) -> _Floats:
    """Return from what height on the pixels of a basin belong to a summit.

    The water sinks from saddle to saddle, the highest first. An island ends when the
    water is below its floor: it is a summit then, with all basins that have joined it.
    One that joins a higher island before is none.

    Parameters
    ----------
    floor : (M,) ndarray of float
        That of the top of each basin.
    saddles : iterator of (height, basin, basin)
        Descending.

    Returns
    -------
    (M,) ndarray of float
        Infinite for basins that belong to none.
    """
    least: list[float] = floor.tolist()
    above = list(range(len(least)))
    joined: list[list[int] | None] = [[basin] for basin in above]
    until = np.full(len(least), np.inf)

    def island(basin: int) -> int:
        while above[basin] != basin:
            above[basin] = basin = above[above[basin]]
        return basin

    def end(island: int) -> None:
        if joined[island] is not None:
            until[joined[island]] = least[island]
            joined[island] = None

    for height, one, two in saddles:
        low, high = sorted((island(one), island(two)), key=least.__getitem__)
        if low == high:
            continue
        for each in (low, high):
            if height < least[each]:
                end(each)
        members, more = joined[high], joined[low]
        if members is not None and more is not None:
            members += more
        joined[low] = None
        above[low] = high
    for basin in above:
        end(basin)
    return until
