"""Intensities → the range that networks are trained on.

One range for each channel of the whole image, never of a tile: the same tissue gets the
same values wherever the tiles are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.inference.axes import AxesReading, Box, is_lazy
from napari_seg.models.spec import Normalization

__all__ = ["CLIP", "channel_ranges", "lattice_of_boxes", "normalize"]

#: Bounds of normalised values, of all models of napari-seg.
CLIP = (-0.5, 2.0)

_MAX_SAMPLES = 4_000_000
_MAX_PLANES = 64
_LAZY_BOX = 256
_LAZY_PLANES = 16
_LAZY_BOXES = 64


def channel_ranges(
    image: Any, reading: AxesReading, normalization: Normalization
) -> NDArray[np.float64]:
    """Return the intensities that are mapped to 0 and 1 in each channel.

    Above four million pixels, an array in memory is sampled on a regular lattice, and
    a lazy one (dask, zarr, memory map) in boxes of 256 × 256 on a regular lattice, so
    that few chunks are read. The samples are the same at each call.

    Parameters
    ----------
    image : array
        Of the shape that was read.
    reading : AxesReading
        Meaning of its axes.
    normalization : Normalization
        Percentiles.

    Returns
    -------
    ndarray
        (C, 2) float64, low and high; high > low always. Where the percentiles
        coincide, as with a few spots on a black ground, minimum and maximum stand in;
        a flat channel, or one without a finite value, gets a width of 1. A bool image
        has the range 0 to 1, and an 8-bit one 0 to 255 for a network that was trained
        on photographs (``full_range``). Networks of other programs may want mean and
        mean plus standard deviation (``moments``), or fixed values.
    """
    if reading.slices > 1:
        # The slices of a channel are of one kind.
        alone = replace(reading, slices=1)
        ranges = channel_ranges(image, alone, normalization)
        return np.tile(ranges, (reading.slices, 1))
    if normalization.fixed is not None:
        return np.tile(normalization.fixed, (reading.channels, 1))
    if image.dtype.kind == "b" and not normalization.moments:
        return np.tile([0.0, 1.0], (reading.channels, 1))
    if normalization.full_range and image.dtype == np.uint8:
        return np.tile([0.0, 255.0], (reading.channels, 1))
    parts = list(_samples(image, reading))
    groups: list[Any] = list(range(reading.channels))
    if normalization.together:
        groups = [slice(None)]
    found = np.array(
        [
            _range(
                np.concatenate([part[group].ravel() for part in parts]), normalization
            )
            for group in groups
        ]
    )
    found[:, 1] += normalization.margin
    return (
        found if len(found) == reading.channels else found.repeat(reading.channels, 0)
    )


def normalize(
    plane: NDArray[Any],
    ranges: NDArray[np.float64],
    clip: tuple[float, float] | None = CLIP,
) -> NDArray[np.float32]:
    """Scale each channel's range to 0…1 and clip to -0.5…2.

    Where the network's training images had another mean, that is taken off last, by
    :meth:`~napari_seg.models.base.SegmentationModel.standardize`: augmentation and CRF
    work on the scale that is returned here.

    Parameters
    ----------
    plane : ndarray
        (C, Y, X) or (C, Z, Y, X) of any real dtype. NaN and -inf count as low, +inf as
        high.
    ranges : ndarray
        (C, 2) float64 of :func:`channel_ranges`.
    clip : tuple of float or None
        Other bounds, or none.

    Returns
    -------
    ndarray
        Of that shape, float32, a new array.
    """
    # float32 holds 16-bit integers exactly; anything wider would lose the digits that
    # a narrow range on a high offset needs.
    small = plane.dtype.kind in "bui" and plane.dtype.itemsize <= 2
    dtype = np.float32 if small else np.float64
    shift_and_width = np.stack([ranges[:, 0], ranges[:, 1] - ranges[:, 0]])
    ones = (1,) * (plane.ndim - 1)
    low, width = shift_and_width.astype(dtype).reshape(2, -1, *ones)
    scaled: NDArray[np.floating] = plane.astype(dtype)
    with np.errstate(over="ignore"):
        np.subtract(scaled, low, out=scaled)
        np.divide(scaled, width, out=scaled)
    if plane.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=0.0, neginf=0.0, posinf=1.0)
    if clip is not None:
        np.clip(scaled, *clip, out=scaled)
    return scaled.astype(np.float32, copy=False)


def _samples(image: Any, reading: AxesReading) -> Iterator[NDArray[Any]]:
    """Yield (C, Y, X) parts of the image, at most about four million pixels in all."""
    everything = prod(reading.spatial_shape) <= _MAX_SAMPLES
    if everything:
        indices, boxes = list(reading.indices()), [(slice(None), slice(None))]
    elif is_lazy(image):
        indices = _spread(list(reading.indices()), _LAZY_PLANES)
        wanted = _LAZY_BOXES / len(indices)
        boxes = lattice_of_boxes(reading.plane_shape, wanted, (_LAZY_BOX, _LAZY_BOX))
    else:
        indices = _spread(list(reading.indices()), _MAX_PLANES)
        step = ceil(sqrt(len(indices) * prod(reading.plane_shape) / _MAX_SAMPLES))
        boxes = [(slice(None, None, step), slice(None, None, step))]
    for index, box in product(indices, boxes):
        yield reading.plane(image, index, box)


def _spread(indices: list[tuple[int, ...]], at_most: int) -> list[tuple[int, ...]]:
    """Return evenly spaced planes, the first and the last among them."""
    chosen = np.linspace(0, len(indices) - 1, min(at_most, len(indices)))
    return [indices[i] for i in chosen.round().astype(int)]


def lattice_of_boxes(
    plane_shape: tuple[int, int], wanted: float, sides: tuple[int, int]
) -> list[Box]:
    """Return boxes on a regular lattice from border to border, at least `wanted`.

    Parameters
    ----------
    plane_shape : tuple of int
        Height and width of the plane.
    wanted : float
        Number of boxes; there are fewer where they would fall together.
    sides : tuple of int
        Height and width of a box.
    """
    count = ceil(sqrt(wanted))
    rows, columns = (
        [
            slice(start, start + side)
            for start in np.unique(
                np.linspace(0, max(0, length - side), count).astype(int)
            ).tolist()
        ]
        for length, side in zip(plane_shape, sides, strict=True)
    )
    return list(product(rows, columns))


def _range(values: NDArray[Any], normalization: Normalization) -> tuple[float, float]:
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    if normalization.moments:
        low = float(values.mean(dtype=np.float64))
        high = low + float(values.std(dtype=np.float64))
        return (low, low + 1.0) if _is_flat(low, high) else (low, high)
    low, high = _percentiles(values, (normalization.low, normalization.high))
    if _is_flat(low, high):
        low, high = float(values.min()), float(values.max())
    return (low, low + 1.0) if _is_flat(low, high) else (low, high)


def _percentiles(
    values: NDArray[Any], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Return what ``np.percentile`` does, from a histogram where values are few."""
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        low, high = np.percentile(values.astype(np.float64), percentiles)
        return float(low), float(high)
    below = np.bincount(values).cumsum()
    low, high = (_at_rank(below, (values.size - 1) * q / 100) for q in percentiles)
    return low, high


def _at_rank(below: NDArray[np.intp], rank: float) -> float:
    """Return the value of a fractional rank, interpolated between its neighbours."""
    first, second = np.searchsorted(below, [int(rank), ceil(rank)], side="right")
    return float(first + (second - first) * (rank - int(rank)))


def _is_flat(low: float, high: float) -> bool:
    # Below this width, what is left between the two is rounding, not signal.
    return bool(high - low <= 4 * np.spacing(max(abs(low), abs(high))))
