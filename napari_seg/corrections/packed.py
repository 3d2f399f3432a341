"""Label and flags of each pixel, packed into one number.

The ledger remembers what it last saw of the mask, to know what an edit changed, and
whether the pixel is vouched for.  Both fit one byte per pixel while labels are 0 to
62 or unknown; the first larger label makes it two bytes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Pixels
from napari_seg.scoring.regions import as_box, split
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["ACCEPTED", "CORRECTED", "UNTOUCHED", "PackedPixels", "PixelsToUnpack"]

UNTOUCHED = 0
CORRECTED = 1
"""Flag: the user gave this pixel another label than the model did."""
ACCEPTED = 2
"""Flag: the pixel lies in a region that the user accepted."""

_NARROW_BITS = 6
_WIDE_BITS = 8

Packed: TypeAlias = NDArray[Any]
"""uint8 or uint16: ``flags << bits | code``."""


class PackedPixels:
    """Label and flags per pixel.

    The code of a label is the label itself; the largest code stands for `UNKNOWN`.

    Parameters
    ----------
    shape : tuple of int
        Shape of the mask.

    Attributes
    ----------
    bits : int
        6 while it is one byte per pixel, else 8.
    data : ndarray of uint8 or uint16
        The packed pixels.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.bits = _NARROW_BITS
        self.data: Packed = np.zeros(shape, np.uint8)

    @property
    def unknown(self) -> int:
        """The code of the label `UNKNOWN`."""
        return (1 << self.bits) - 1

    @property
    def rows(self) -> int:
        """Number of values that a packed pixel can have."""
        return 4 << self.bits

    def fits(self, labels: NDArray[np.uint8]) -> bool:
        """Return whether every label has a code of its own."""
        if self.bits == _WIDE_BITS or not labels.size or labels.max() < self.unknown:
            return True
        return not ((labels >= self.unknown) & (labels != UNKNOWN)).any()

    def widen(self) -> None:
        """Make room for labels up to 254: two bytes per pixel from now on."""
        wide = np.empty(self.data.shape, np.uint16)
        for piece in split(as_box(None, wide.shape)):
            narrow = self.data[piece]
            flags = self.flags(narrow).astype(np.uint16)
            wide[piece] = flags << _WIDE_BITS | self.labels(narrow)
        self.bits, self.data = _WIDE_BITS, wide

    def codes(self, labels: NDArray[np.uint8]) -> Packed:
        """Return the codes of labels that :meth:`fits` holds for."""
        return np.minimum(labels, self.unknown).astype(self.data.dtype, copy=False)

    def pack(self, labels: NDArray[np.uint8], flags: NDArray[Any]) -> Packed:
        """Return packed pixels."""
        return flags.astype(self.data.dtype) << self.bits | self.codes(labels)

    def labels(self, packed: Packed) -> NDArray[np.uint8]:
        """Return the labels of packed pixels."""
        return _labels(packed, self.bits)

    def flags(self, packed: Packed) -> NDArray[np.uint8]:
        """Return the flags of packed pixels: 0, or CORRECTED and ACCEPTED added."""
        return _flags(packed, self.bits)

    def changed(self, labels: NDArray[np.uint8], packed: Packed) -> NDArray[np.bool_]:
        """Return where labels differ from those of packed pixels."""
        changed: NDArray[np.bool_] = self.codes(labels) != packed & self.unknown
        return changed


class PixelsToUnpack(Pixels):
    """Pixels that are unpacked by whoever needs them, which is another thread.

    Parameters
    ----------
    packed : ndarray
        Labels and flags; it must stay as it is.
    bits : int
        :attr:`PackedPixels.bits` at the time.
    reference : ndarray of uint8 or None
        What the model said.
    """

    _packed: Packed
    _bits: int

    def __init__(
        self, packed: Packed, bits: int, reference: NDArray[np.uint8] | None
    ) -> None:
        # Its attributes are frozen, as those of all pixels.
        vars(self).update(_packed=packed, _bits=bits, reference=reference)

    def packed_again(self) -> Pixels:
        """Return the same pixels, of which nothing has been unpacked."""
        return PixelsToUnpack(self._packed, self._bits, self.reference)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """The mask."""
        return _labels(self._packed, self._bits)

    @cached_property
    def state(self) -> NDArray[np.uint8]:
        """The flags."""
        return _flags(self._packed, self._bits)


def _labels(packed: Packed, bits: int) -> NDArray[np.uint8]:
    unknown = (1 << bits) - 1
    codes = (packed & unknown).astype(np.uint8, copy=False)
    # Arithmetic, since assigning through a mask takes ten times as long.
    rest = np.uint8(UNKNOWN - unknown)
    labels: NDArray[np.uint8] = codes + (codes == unknown) * rest
    return labels


def _flags(packed: Packed, bits: int) -> NDArray[np.uint8]:
    return (packed >> bits).astype(np.uint8, copy=False)
