"""Sums per class, of which one may know fewer classes, and what they divide to."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_sum", "ratio"]


def class_sum(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Add sums per class; one may know fewer classes."""
    short, long = sorted((one, other), key=len)
    return np.asarray(long + np.pad(short, (0, len(long) - len(short))))


def ratio(parts: NDArray[Any], wholes: NDArray[Any]) -> NDArray[np.float64]:
    """Return parts / wholes per class, NaN where there is no whole."""
    ratios = np.full(len(wholes), nan)
    np.divide(parts, wholes, out=ratios, where=wholes > 0)
    return ratios
