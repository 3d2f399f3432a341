"""The colours of classes and curves, told apart also by colour-blind users."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND", "OKABE_ITO", "class_colors"]

OKABE_ITO = (
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#009E73",  # bluish green
    "#F0E442",  # yellow
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#CC79A7",  # reddish purple
)
"""The palette of Okabe and Ito (2008), "Color universal design", without black."""

BACKGROUND = "#808080"
"""Class 0 in lists; over the image it is transparent."""

_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)
_LIGHTNESS = (0.45, 0.92)


@cache
def class_colors(n_classes: int) -> tuple[str, ...]:
    """Return one colour per class, as "#rrggbb".

    The first is the background's, then come those of Okabe and Ito, then whatever
    lies farthest from all colours before it in OKLab.  A further class leaves the
    colours of the others as they are.
    """
    chosen = [BACKGROUND, *OKABE_ITO][:n_classes]
    candidates = _candidates()
    lab = _oklab(candidates)
    distance = np.full(len(candidates), np.inf)
    for color in chosen:
        distance = np.minimum(distance, _distance(lab, _oklab(_rgb(color))))
    while len(chosen) < n_classes:
        farthest = int(distance.argmax())
        chosen.append("#{:02X}{:02X}{:02X}".format(*candidates[farthest]))
        distance = np.minimum(distance, _distance(lab, lab[farthest]))
    return tuple(chosen)


def _candidates() -> NDArray[np.uint8]:
    """Return the colours of a lattice that show on black and on white, (N, 3)."""
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
    lightness = _oklab(grid)[:, 0]
    kept = (lightness > _LIGHTNESS[0]) & (lightness < _LIGHTNESS[1])
    return grid[kept].astype(np.uint8)


def _rgb(color: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8)


def _distance(
    lab: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(lab - other, axis=-1)
    return distance


def _oklab(rgb: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return sRGB values of 0 to 255, (..., 3), in OKLab (Ottosson, 2020)."""
    srgb = rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms: NDArray[np.float64] = np.cbrt(linear @ _LINEAR_TO_LMS.T)
    lab: NDArray[np.float64] = lms @ _LMS_TO_LAB.T
    return lab


_LINEAR_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
