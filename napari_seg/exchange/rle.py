"""Run lengths of COCO: the pixels of an object, column by column.

The format is that of the COCO data set (Lin et al., "Microsoft COCO: common objects
in context", ECCV 2014; mask API of its tools): numbers of pixels outside and inside,
in turn, down the columns of the whole image.  As text, each number (from the third
on, its difference from the one before the last) is cut into groups of 5 bits, the
lowest first, a sixth bit tells that more follow, and 48 is added to make a character.

pycocotools decodes into the memory of the whole image for each object; here the cost
follows the object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError

__all__ = ["as_counts", "counts_of", "from_text", "pixels_of", "to_text"]

_DAMAGED = "The run lengths of an object are damaged; save the file anew."
_MOST_BITS = 40
#: Pixels of an object that are painted at once.
_PIECE = 2**20


def counts_of(
    pixels: NDArray[np.bool_], box: tuple[slice, slice], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the run lengths of an object.

    Parameters
    ----------
    pixels : ndarray of bool, shape (rows, columns) of the box
        Its pixels.
    box : tuple of slice
        Where they lie.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    ndarray of int64
        Outside and inside in turn, beginning with outside.
    """
    height, width = shape
    padded = np.pad(pixels.T.astype(np.int8), ((0, 0), (1, 1)))
    column, row = np.nonzero(np.diff(padded, axis=1))
    flat = (box[1].start + column) * height + box[0].start + row
    # A run that goes on at the top of the next column is one.
    start, stop = flat[::2], flat[1::2]
    apart = start[1:] != stop[:-1]
    start = start[np.concatenate([[True], apart])] if len(start) else start
    stop = stop[np.concatenate([apart, [True]])] if len(stop) else stop
    ends = np.stack([start, stop], axis=1).ravel()
    if not len(ends) or ends[-1] < height * width:
        ends = np.append(ends, height * width)
    return np.diff(ends, prepend=0)


def pixels_of(
    counts: NDArray[np.int64], shape: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of the pixels that run lengths mean, some at a time.

    Raises
    ------
    InputError
        If they are not those of an image of this shape.
    """
    height, width = shape
    if int(counts.sum()) != height * width:
        raise InputError(
            f"The run lengths of an object do not add up to {height} × {width} pixels; "
            "save the file anew."
        )
    # In how many pixels of the object each run ends, and what lies outside before it.
    ends = np.cumsum(counts[1::2])
    outside = np.cumsum(counts[::2])
    for start in range(0, int(ends[-1]) if len(ends) else 0, _PIECE):
        pixel = np.arange(start, min(start + _PIECE, int(ends[-1])))
        flat = pixel + outside[np.searchsorted(ends, pixel, side="right")]
        yield flat % height, flat // height


def to_text(counts: NDArray[np.int64]) -> str:
    """Return run lengths as text."""
    told = counts.copy()
    told[3:] -= counts[1:-2]
    text = []
    for number in told.tolist():
        while True:
            low = number & 31
            number >>= 5
            # The highest bit of the last group is the sign.
            done = number == (-1 if low & 16 else 0)
            text.append(chr(48 + low + (0 if done else 32)))
            if done:
                break
    return "".join(text)


def from_text(text: str) -> NDArray[np.int64]:
    """Return the run lengths of a text.

    Raises
    ------
    InputError
        If it is none.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > _MOST_BITS:
            raise InputError(_DAMAGED)
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift:
        raise InputError(_DAMAGED)
    return _checked(counts)


def as_counts(told: Any) -> NDArray[np.int64]:
    """Return run lengths that a file has as text or as a list.

    Raises
    ------
    InputError
        If these are none.
    """
    if isinstance(told, str):
        return from_text(told)
    if not isinstance(told, list) or not all(type(each) is int for each in told):
        raise InputError(_DAMAGED)
    return _checked(told)


def _checked(counts: Sequence[int]) -> NDArray[np.int64]:
    if not counts or min(counts) < 0 or max(counts) > 2**40:
        raise InputError(_DAMAGED)
    return np.array(counts, np.int64)
