"""Objects of neighbouring slices → objects of a volume.

Slice by slice, each object goes on with the one of the slice before with which it
overlaps best, if that one overlaps best with it, too; so two objects of one slice never
become one. What is found in one slice alone stays an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError, LabelsError

__all__ = ["stitch_iter", "stitch_slices"]

_Places: TypeAlias = NDArray[np.int64]


def stitch_slices(
    ids: Any,
    *,
    iou: float = 0.25,
    inside: float | None = 0.75,
    gap: int = 0,
    out: Any = None,
) -> Any:
    """Join the objects of a stack's slices to objects of the volume.

    Parameters
    ----------
    ids : array of int, shape (Z, Y, X)
        Object ids of each slice on its own, 0 is no object; ids of different slices
        have nothing to do with each other. A lazy array is read slice by slice.
    iou : float
        Objects whose overlap, by their union, reaches this are one, 0 to 1.
    inside : float or None
        Of what is left, objects are one, too, if this share of the smaller one lies
        inside the larger: nuclei begin and end small. None leaves these apart.
    gap : int
        Slices in which an object may be missing, 0 or 1; they stay without it.
    out : array, optional
        Of the same shape, to be filled slice by slice, such as a zarr array; by
        default a new NumPy array. The slices of two or three positions are in memory.

    Returns
    -------
    array of uint32, shape (Z, Y, X)
        `out`. Ids count from 1, in the order of the first slices, and of one slice by
        the ids that it had.

    Raises
    ------
    LabelsError
        If `ids` are not integers of three axes.
    InputError
        If a threshold is out of range.
    """
    if len(ids.shape) != 3:
        raise LabelsError(
            f"Objects of shape {tuple(ids.shape)} cannot be stitched; give one stack "
            "(Z, Y, X) at a time."
        )
    joined = np.zeros(ids.shape, np.uint32) if out is None else out
    slices = (np.asarray(ids[z]) for z in range(ids.shape[0]))
    for z, each in enumerate(stitch_iter(slices, iou=iou, inside=inside, gap=gap)):
        joined[z] = each
    return joined


def stitch_iter(
    slices: Iterable[NDArray[Any]],
    *,
    iou: float = 0.25,
    inside: float | None = 0.75,
    gap: int = 0,
) -> Iterator[NDArray[np.uint32]]:
    """Yield each slice, (Y, X) uint32, with the ids of the volume.

    Nothing of a later slice is needed, and of earlier ones the last, with a gap the
    last two. For parameters and errors see :func:`stitch_slices`.
    """
    rules = _Rules(iou, inside)
    if gap not in (0, 1):
        raise InputError(f"gap is {gap}; it can be 0 or 1 slices.")
    return _stitched(slices, rules, gap)


@dataclass(frozen=True)
class _Rules:
    """From which overlap on two objects are one."""

    iou: float
    inside: float | None

    def __post_init__(self) -> None:
        for name in ("iou", "inside"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} is {value}; it must be above 0, at most 1.")

    def pairs(self, before: _Places, after: _Places) -> dict[int, int]:
        """Return for objects of a slice those of one before which they go on."""
        overlap = _Overlap.of(before, after)
        found = overlap.matched(overlap.iou, self.iou)
        if self.inside is not None:
            rest = overlap.without(found)
            found |= rest.matched(rest.inside, self.inside)
        return found


@dataclass(frozen=True)
class _Overlap:
    """Every pair of objects, of two slices, that share a pixel; sorted by both."""

    before: _Places
    after: _Places
    shared: _Places
    areas: tuple[_Places, _Places]

    @classmethod
    def of(cls, before: _Places, after: _Places) -> _Overlap:
        both = (before > 0) & (after > 0)
        base = int(after.max(initial=0)) + 1
        pairs, shared = np.unique(before[both] * base + after[both], return_counts=True)
        firsts, seconds = pairs // base, pairs % base
        areas = np.bincount(before.ravel()), np.bincount(after.ravel())
        return cls(firsts, seconds, shared, (areas[0][firsts], areas[1][seconds]))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Shared pixels by those of either."""
        return self.shared / (self.areas[0] + self.areas[1] - self.shared)

    @property
    def inside(self) -> NDArray[np.float64]:
        """Shared pixels by those of the smaller one."""
        return self.shared / np.minimum(*self.areas)

    def without(self, found: dict[int, int]) -> _Overlap:
        """Return the pairs of which neither has been matched."""
        left = ~np.isin(self.after, list(found))
        left &= ~np.isin(self.before, list(found.values()))
        areas = self.areas[0][left], self.areas[1][left]
        return _Overlap(self.before[left], self.after[left], self.shared[left], areas)

    def matched(self, scores: NDArray[np.float64], least: float) -> dict[int, int]:
        """Return the pairs that are best for both, and good enough: after → before."""
        best = self._best(self.before, scores) & self._best(self.after, scores)
        best &= scores >= least
        return dict(
            zip(self.after[best].tolist(), self.before[best].tolist(), strict=True)
        )

    def _best(self, names: _Places, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark the best pair of each name; of equal ones that which shares most.

        Of what is equal still, the first one.
        """
        first = -np.arange(len(names))
        order = np.lexsort((first, self.shared, scores, names))
        best = np.zeros(len(names), bool)
        # Of each name the last one in this order.
        last = np.append(np.diff(names[order]) > 0, True)[: len(order)]
        best[order[last]] = True
        return best


@dataclass(frozen=True)
class _Slice:
    """A slice whose objects are numbered from 1, and their ids in the volume."""

    places: _Places
    ids: NDArray[np.uint32]

    def without(self, gone: Iterable[int]) -> _Slice:
        """Return it without some of its objects."""
        kept = ~np.isin(self.places, list(gone))
        return _Slice(np.where(kept, self.places, 0), self.ids)


def _stitched(
    slices: Iterable[NDArray[Any]], rules: _Rules, gap: int
) -> Iterator[NDArray[np.uint32]]:
    last: _Slice | None = None
    ended: _Slice | None = None
    count = 0
    for z, raw in enumerate(slices):
        places, number = _numbered(_checked(raw, z, last))
        ids = np.zeros(number + 1, np.uint32)
        follows = {} if last is None else rules.pairs(last.places, places)
        for after, before in follows.items():
            assert last is not None
            ids[after] = last.ids[before]
        if ended is not None:
            rest = np.where(ids[places] > 0, 0, places)
            for after, before in rules.pairs(ended.places, rest).items():
                ids[after] = ended.ids[before]
        new = np.flatnonzero(ids[1:] == 0) + 1
        ids[new] = np.arange(count + 1, count + 1 + len(new))
        count += len(new)
        if gap and last is not None:
            # What ended in the slice before may go on in the next one.
            ended = last.without(follows.values())
        last = _Slice(places, ids)
        yield ids[places]


def _numbered(ids: NDArray[Any]) -> tuple[_Places, int]:
    """Return the objects of a slice numbered from 1 by their ids, and how many."""
    names, places = np.unique(ids, return_inverse=True)
    background = bool(names.size and names[0] == 0)
    numbers = places.reshape(ids.shape).astype(np.int64) + (not background)
    return numbers, len(names) - background


def _checked(raw: NDArray[Any], z: int, last: _Slice | None) -> NDArray[Any]:
    if raw.dtype.kind not in "uib" or raw.ndim != 2:
        raise LabelsError(
            f"Slice {z} has shape {raw.shape} and dtype {raw.dtype}; object ids are "
            "(Y, X) integers."
        )
    if last is not None and raw.shape != last.places.shape:
        raise LabelsError(
            f"Slice {z} has shape {raw.shape}, the one before {last.places.shape}; all "
            "slices of a stack have one size."
        )
    if raw.size and raw.min() < 0:
        raise LabelsError(f"Slice {z} has the id {raw.min()}; ids start at 0.")
    return raw
