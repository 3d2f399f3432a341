"""Sums over an object's pixels → its size, place and shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_seg.objects.outline import PERIMETER_WEIGHTS, convex_areas
from napari_seg.objects.sums import BlockSums, row_ends

__all__ = ["shape_columns"]

#: Objects whose hulls are in memory at once.
_OBJECTS = 4096

Columns = dict[str, NDArray[Any]]

#: Half axes of an ellipse and of an ellipsoid from the variance along them: a full
#: ellipse has a variance of a²/4, a full ellipsoid of a²/5.
_VARIANCE = {2: 4.0, 3: 5.0}


def shape_columns(
    total: BlockSums, axes: str, sizes: Sequence[float] | None
) -> Columns:
    """Return the columns of geometry, by name.

    Parameters
    ----------
    total : BlockSums
        Of whole objects.
    axes : str
        ``yx`` or ``zyx``.
    sizes : sequence of float or None
        Micrometres along each axis; None leaves out what is in micrometres.
    """
    sums, planar = total.sums, len(axes) == 2
    size, units = ("area", "um2") if planar else ("volume", "um3")
    area = sums["area"].to_numpy()
    found: Columns = {f"{size}_{'px' if planar else 'vox'}": area}
    if sizes is not None:
        found[f"{size}_{units}"] = area * float(np.prod(sizes))
    centres = {
        a: (sums[f"first_{a}"] + sums[f"sum_{a}"] / sums["area"]).to_numpy()
        for a in axes
    }
    found |= {f"{a}_px": centres[a] for a in axes}
    if sizes is not None:
        found |= {f"{a}_um": centres[a] * s for a, s in zip(axes, sizes, strict=True)}
    found |= {f"bbox_{a}0": sums[f"first_{a}"].to_numpy() for a in axes}
    found |= {f"bbox_{a}1": sums[f"stop_{a}"].to_numpy() for a in axes}
    if planar:
        found |= _perimeter(sums, sizes)
    found |= _ellipse(sums, axes, sizes)
    if planar:
        found["solidity"] = _solidity(total)
    return found


def _perimeter(sums: pd.DataFrame, sizes: Sequence[float] | None) -> Columns:
    length = sum(
        weight * sums[f"outline_{kind}"].to_numpy()
        for kind, weight in enumerate(PERIMETER_WEIGHTS, 1)
    )
    found: Columns = {"perimeter_px": np.asarray(length, np.float64)}
    if sizes is not None:
        # The estimate knows only square pixels.
        square = np.isclose(sizes[0], sizes[1])
        found["perimeter_um"] = found["perimeter_px"] * (sizes[0] if square else nan)
    return found


def _ellipse(sums: pd.DataFrame, axes: str, sizes: Sequence[float] | None) -> Columns:
    """Return the axes of the ellipse (ellipsoid) of the same second moments."""
    pixels = _variances(sums, axes, (1.0,) * len(axes))
    scale = 2 * np.sqrt(_VARIANCE[len(axes)])
    found: Columns = {
        "major_axis_px": scale * np.sqrt(pixels[:, -1]),
        "minor_axis_px": scale * np.sqrt(pixels[:, 0]),
    }
    shape = pixels
    if sizes is not None:
        shape = _variances(sums, axes, sizes)
        found["major_axis_um"] = scale * np.sqrt(shape[:, -1])
        found["minor_axis_um"] = scale * np.sqrt(shape[:, 0])
    if len(axes) == 2:
        ratio = np.ones(len(shape))
        np.divide(shape[:, 0], shape[:, 1], out=ratio, where=shape[:, 1] > 0)
        found["eccentricity"] = np.sqrt(1 - ratio)
    return found


def _variances(
    sums: pd.DataFrame, axes: str, sizes: Sequence[float]
) -> NDArray[np.float64]:
    """Return the variances along the principal axes, (N, ndim), rising."""
    area = sums["area"].to_numpy()
    matrix = np.zeros((len(sums), len(axes), len(axes)))
    for i, a in enumerate(axes):
        for j, b in enumerate(axes[i:], i):
            product = sums[f"sum_{a}"] / area * (sums[f"sum_{b}"] / area)
            moment = sums[f"sum_{a}{b}"] / area - product
            matrix[:, i, j] = matrix[:, j, i] = moment * sizes[i] * sizes[j]
    # A line has no width, and rounding shall not give it one, nor less than none.
    found = np.linalg.eigvalsh(matrix)
    tiny = 1e-12 * np.maximum(found[:, -1:], np.prod(sizes) ** (2 / len(sizes)))
    return np.where(found > tiny, found, 0.0)


def _solidity(total: BlockSums) -> NDArray[np.float64]:
    ids, area = total.sums["id"].to_numpy(), total.sums["area"].to_numpy()
    corners = total.corners.sort_values("id", kind="stable", ignore_index=True)
    ends = np.searchsorted(corners["id"].to_numpy(), ids, "right")
    found = np.ones(len(ids))
    for first in range(0, len(ids), _OBJECTS):
        some = slice(first, min(first + _OBJECTS, len(ids)))
        rows = row_ends(corners[ends[first - 1] if first else 0 : ends[some.stop - 1]])
        codes = np.searchsorted(ids[some], rows["id"].to_numpy())
        places = (rows[name].to_numpy(np.int64) for name in ("y", "left", "right"))
        found[some] = area[some] / convex_areas(codes, *places)
    return found
