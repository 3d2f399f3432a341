"""What can be a mask: an array of class ids, one byte each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import LabelsError
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["as_mask"]


def as_mask(data: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return `data` itself if it can be the mask, else converted without loss.

    Parameters
    ----------
    data : array of int
        NumPy, dask, zarr or alike; class ids, 255 where unknown.
    shape : tuple of int
        Shape of the mask.

    Returns
    -------
    ndarray of uint8
        Writable.

    Raises
    ------
    LabelsError
        If the shape is another, or a value is no class id.
    """
    if tuple(data.shape) != shape:
        raise LabelsError(
            f"The mask has shape {shape}, the new data {tuple(data.shape)}; only an "
            "array of the same shape can take its place. Add other masks as layers "
            "of their own."
        )
    array = np.asarray(data)
    if array.dtype == np.uint8 and array.flags.writeable:
        return array
    if array.size and not (array.min() >= 0 and array.max() <= UNKNOWN):
        raise LabelsError(
            f"The labels run from {array.min()} to {array.max()}; a mask holds class "
            f"ids from 0 to {UNKNOWN - 1}, and {UNKNOWN} where unknown. Numbered "
            "objects become a mask with (labels > 0)."
        )
    return array.astype(np.uint8)
