"""Objects of a class mask: connected pixels of one class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_objects", "volumes"]


def label_objects(labels: NDArray[Any], leading: str) -> tuple[NDArray[np.uint32], int]:
    """Give each set of connected pixels of a class a number; the background has 0.

    Parameters
    ----------
    labels : ndarray of int, shape (..., Y, X)
        Class ids; pixels of different classes are never one object.
    leading : str
        Letters of the axes before Y and X. Objects reach through Z, not through
        others, such as time; diagonal neighbours are connected.

    Returns
    -------
    objects : ndarray of uint32
        0 background, then one number for each object of the whole image.
    count : int
        Objects.
    """
    # Imported late: few predictions need it.
    from skimage import measure

    label: Any = measure.label
    objects = np.zeros(labels.shape, np.uint32)
    count = 0
    for place in volumes(labels.shape, leading):
        found, here = label(labels[place], background=0, return_num=True)
        objects[place] = np.where(found > 0, found + count, 0)
        count += here
    return objects, count


def volumes(shape: Sequence[int], leading: str) -> Iterator[Any]:
    """Yield the places of the planes of an array, or of its stacks along Z."""
    steps: list[Iterable[Any]] = [
        (slice(None),) if letter == "Z" else range(length)
        for letter, length in zip(leading, shape, strict=False)
    ]
    return product(*steps)
