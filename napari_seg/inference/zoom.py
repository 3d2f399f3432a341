"""The image at another size: objects as large as those that a model has learned."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_seg.errors import InputError
from napari_seg.models.spec import LARGEST_ZOOM, SMALLEST_ZOOM

__all__ = ["Zoom", "resize_image", "resize_labels"]

#: The finest step of the factor: at a tenth of it no network sees a difference.
_PARTS = 16


@dataclass(frozen=True)
class Zoom:
    """A ratio of small numbers by which an image is enlarged before a network sees it.

    Since the ratio is rational, tiles can begin where a pixel of the image and one of
    the network's grid of strides coincide, and the mask does not show where they were
    cut.

    Attributes
    ----------
    up, down : int
        `up` pixels take the place of `down`.
    """

    up: int = 1
    down: int = 1

    @classmethod
    def near(cls, factor: float) -> Zoom:
        """Return the ratio that is nearest to a factor, less than 6 % away.

        Raises
        ------
        InputError
            If the factor lies outside of 1/16 to 16.
        """
        low, high = SMALLEST_ZOOM, LARGEST_ZOOM
        if not low <= factor <= high:
            raise InputError(f"zoom is {factor}; it can be {low} to {high:g}.")
        if factor > 1:
            ratio = 1 / Fraction(1 / factor).limit_denominator(_PARTS)
        else:
            ratio = Fraction(factor).limit_denominator(_PARTS)
        return cls(ratio.numerator, ratio.denominator)

    @property
    def factor(self) -> float:
        """Above 1 the network sees the image enlarged."""
        return self.up / self.down

    def stride(self, stride: int) -> int:
        """Return the pixels of the image after which both grids coincide."""
        return self.down * stride // gcd(stride, self.up)

    def in_image(self, length: int) -> int:
        """Return how many pixels of an image, a multiple of `down`, hold a length."""
        return -(-length // self.up) * self.down

    def enlarge(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) as the network sees it.

        H and W are multiples of `down`. Shrinking averages over the pixels that become
        one.
        """
        return self._resize(x, Fraction(self.up, self.down))

    def shrink(self, x: Tensor) -> Tensor:
        """Return what the network says, (N, K, H, W), in the size of the image."""
        return self._resize(x, Fraction(self.down, self.up))

    def _resize(self, x: Tensor, ratio: Fraction) -> Tensor:
        if ratio == 1:
            return x
        size = [int(side * ratio) for side in x.shape[-2:]]
        return F.interpolate(x, size=size, mode="bilinear", antialias=ratio < 1)


def resize_image(image: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Return an image in another size, as a prediction with this zoom sees it.

    Parameters
    ----------
    image : ndarray, (Y, X, C)
        Any real dtype.
    factor : float
        Of height and width.
    """
    x = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)
    size, shrinks = _size(image.shape[:2], factor), factor < 1
    x = F.interpolate(x[None], size=size, mode="bilinear", antialias=shrinks)[0]
    resized: NDArray[np.float32] = x.permute(1, 2, 0).contiguous().numpy()
    return resized


def resize_labels(labels: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return labels (Y, X) in another size; each pixel has the label nearest to it."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(_size(labels.shape, factor), labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _size(shape: tuple[int, ...], factor: float) -> list[int]:
    return [max(ceil(side * factor), 1) for side in shape]
