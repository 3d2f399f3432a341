"""What is counted in each block of an image, and added up for each object.

Counts first, ratios after: counts of blocks add up to those of an object, however many
blocks it crosses, while means, axes and perimeters do not.  Positions and their
squares are summed as integers, so that the total does not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_seg.errors import InputError, LabelsError
from napari_seg.objects.outline import (
    HALO,
    PERIMETER_WEIGHTS,
    corner_pixels,
    perimeter_kinds,
)

__all__ = ["BlockSums", "add_up", "block_sums", "row_ends"]

_IDS = 256

Read = Callable[[tuple[slice, ...]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Sums over the objects of a block, or of many.

    Attributes
    ----------
    sums : DataFrame
        A row for each object, by ``id``: ``area``; ``first_y`` and ``stop_y`` for each
        axis of space; ``sum_y`` and ``sum_yx`` of positions from the object's first
        row, column and slice; ``outline_1`` … ``outline_3`` of planes; for each value
        ``v`` ``count_v``, ``sum_v``, ``min_v`` and ``max_v`` over what is finite.
    classes : DataFrame
        ``id``, ``class``, ``area``: pixels of each class in each object.
    corners : DataFrame
        ``id``, ``y``, ``left``, ``right``: outermost pixels of rows, block by block,
        among which are the corners of convex hulls; empty for stacks.
    """

    sums: pd.DataFrame
    classes: pd.DataFrame
    corners: pd.DataFrame


def block_sums(
    ids: NDArray[Any],
    span: tuple[slice, ...],
    axes: str,
    labels: Read | None,
    values: Mapping[tuple[str, ...], Read],
) -> BlockSums | None:
    """Count in one block.

    Parameters
    ----------
    ids : ndarray of int
        The block; of a plane with a frame of two pixels around it.
    span : tuple of slice
        Where the block, without the frame, lies.
    axes : str
        ``yx`` or ``zyx``.
    labels : function or None
        Reads the class ids of a box.
    values : mapping
        For the names of one or several channels a function that reads them in a box,
        with channels first where there are several axes more than in the box.

    Returns
    -------
    BlockSums or None
        None where there is no object.
    """
    planar = len(axes) == 2
    inner = ids[(slice(HALO, -HALO),) * 2] if planar else ids
    places = np.nonzero(inner)
    if not len(places[0]):
        return None
    codes, present = pd.factorize(inner[places])
    found = {"id": present.astype(np.int64), "area": _count(codes)}
    found |= _positions(places, codes, span, axes)
    if planar:
        kinds = perimeter_kinds(ids)[places]
        for kind in range(1, len(PERIMETER_WEIGHTS) + 1):
            found[f"outline_{kind}"] = _count(codes[kinds == kind], len(present))
    # Of an image that comes from a disk only what the objects need is read.
    starts = [int(place.min()) for place in places]
    box = tuple(
        slice(s.start + start, s.start + int(place.max()) + 1)
        for s, start, place in zip(span, starts, places, strict=True)
    )
    local = tuple(p - start for p, start in zip(places, starts, strict=True))
    for names, read in values.items():
        part = read(box)
        channels = part if part.ndim > len(axes) else part[np.newaxis]
        for name, channel in zip(names, channels, strict=True):
            found |= _values(name, channel[local], codes, len(present))
    classes = _no_rows("id", "class", "area")
    if labels is not None:
        classes = _classes(labels(box)[local], codes, present)
    corners = _corners(ids, span) if planar else _no_rows("id", "y", "left", "right")
    return BlockSums(pd.DataFrame(found), classes, corners)


def add_up(parts: Iterable[BlockSums | None]) -> BlockSums | None:
    """Add the sums of blocks for each object; None without any object."""
    blocks = [part for part in parts if part is not None]
    if not blocks:
        return None
    sums = pd.concat([block.sums for block in blocks], ignore_index=True)
    sums = _from_first(sums)
    how = {name: _JOINED[name.partition("_")[0]] for name in sums if name != "id"}
    classes = pd.concat([block.classes for block in blocks], ignore_index=True)
    classes = classes.groupby(["id", "class"], as_index=False).sum()
    corners = pd.concat([block.corners for block in blocks], ignore_index=True)
    joined = sums.groupby("id", as_index=False).agg(how)
    return BlockSums(joined, classes, corners)


_JOINED = {
    "area": "sum",
    "count": "sum",
    "sum": "sum",
    "outline": "sum",
    "first": "min",
    "min": "min",
    "stop": "max",
    "max": "max",
}


def _from_first(sums: pd.DataFrame) -> pd.DataFrame:
    """Move the positions of all parts of an object to one origin, its first pixels.

    With shift d: Σ(y + d) = Σy + n d, and Σ(y + d)(x + e) = Σyx + e Σy + d Σx + n d e.
    """
    axes = [name.removeprefix("first_") for name in sums if name.startswith("first_")]
    by_id = sums.groupby("id")
    area = sums["area"]
    shift = {a: sums[f"first_{a}"] - by_id[f"first_{a}"].transform("min") for a in axes}
    moved = sums.copy()
    for a in axes:
        moved[f"sum_{a}"] = sums[f"sum_{a}"] + area * shift[a]
    for a, b in combinations_with_replacement(axes, 2):
        moved[f"sum_{a}{b}"] = (
            sums[f"sum_{a}{b}"]
            + shift[b] * sums[f"sum_{a}"]
            + shift[a] * sums[f"sum_{b}"]
            + area * shift[a] * shift[b]
        )
    return moved


def _count(codes: NDArray[np.intp], length: int = 0) -> NDArray[np.int64]:
    return np.bincount(codes, minlength=length).astype(np.int64)


def _positions(
    places: tuple[NDArray[np.intp], ...],
    codes: NDArray[np.intp],
    span: tuple[slice, ...],
    axes: str,
) -> dict[str, NDArray[np.int64]]:
    """Return the ends of objects, and the sums of their positions from there."""
    length = int(codes.max()) + 1
    found, from_first = {}, {}
    for axis, side, place in zip(axes, span, places, strict=True):
        first = np.full(length, side.stop - side.start, np.int64)
        last = np.zeros(length, np.int64)
        np.minimum.at(first, codes, place)
        np.maximum.at(last, codes, place)
        from_first[axis] = place - first[codes]
        found[f"first_{axis}"] = first + side.start
        found[f"stop_{axis}"] = last + side.start + 1
        found[f"sum_{axis}"] = _sum(codes, from_first[axis])
    for a, b in combinations_with_replacement(axes, 2):
        found[f"sum_{a}{b}"] = _sum(codes, from_first[a] * from_first[b])
    return found


def _sum(codes: NDArray[np.intp], values: NDArray[Any]) -> NDArray[np.int64]:
    # Within a block these stay far below 2^53, where floating point is exact.
    return np.rint(np.bincount(codes, values)).astype(np.int64)


def _values(
    name: str, values: NDArray[Any], codes: NDArray[np.intp], length: int
) -> dict[str, NDArray[Any]]:
    """Return count, sum and range of what is finite in each object."""
    if values.dtype.kind not in "buif":
        raise InputError(
            f"The image has dtype {values.dtype}; bool, integers and floating-point "
            "numbers can be measured. Take its magnitude or its real part."
        )
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        values, codes = values[finite], codes[finite]
    low, high = np.full(length, np.inf), np.full(length, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    return {
        f"count_{name}": _count(codes, length),
        f"sum_{name}": np.bincount(codes, values, minlength=length),
        f"min_{name}": low,
        f"max_{name}": high,
    }


def _classes(
    labels: NDArray[Any], codes: NDArray[np.intp], present: NDArray[Any]
) -> pd.DataFrame:
    if labels.dtype.kind not in "bui":
        raise LabelsError(
            f"Values of type {labels.dtype} are no class ids; convert the mask to "
            "integers first."
        )
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < _IDS:
        raise LabelsError(
            f"The mask's class ids run from {low} to {high}; they can be 0 to 254, and "
            "255 for unknown. Are ids of objects given in the place of classes?"
        )
    pairs = _count(codes * _IDS + labels)
    found = np.flatnonzero(pairs)
    return pd.DataFrame(
        {
            "id": present[found // _IDS].astype(np.int64),
            "class": found % _IDS,
            "area": pairs[found],
        }
    )


def _corners(ids: NDArray[Any], span: tuple[slice, ...]) -> pd.DataFrame:
    rows, columns = np.nonzero(corner_pixels(ids[1:-1, 1:-1]))
    found = pd.DataFrame(
        {
            "id": ids[HALO + rows, HALO + columns].astype(np.int64),
            # There are many of them, and images have fewer rows than 2^31.
            "y": (rows + span[0].start).astype(np.int32),
            "left": (columns + span[1].start).astype(np.int32),
            "right": (columns + span[1].start).astype(np.int32),
        }
    )
    return row_ends(found)


def row_ends(corners: pd.DataFrame) -> pd.DataFrame:
    """Return the outermost pixels of each row of each object, sorted by both."""
    by_row = corners.groupby(["id", "y"], as_index=False)
    return by_row.agg({"left": "min", "right": "max"})


def _no_rows(*names: str) -> pd.DataFrame:
    return pd.DataFrame({name: np.zeros(0, np.int64) for name in names})
