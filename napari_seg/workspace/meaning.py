"""What the numbers of a mask from elsewhere mean: classes, or objects of one class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import LabelsError
from napari_seg.inference.axes import as_array
from napari_seg.scoring.regions import Box, as_box, box_shape, split
from napari_seg.scoring.tally import MAX_CLASSES, UNKNOWN
from napari_seg.workspace.foreign import names_before

__all__ = [
    "Meaning",
    "Survey",
    "looks_like_mask",
    "meanings",
    "misfit",
    "read_pieces",
    "survey",
]

#: Pixels read at once.
_PIECE = 1 << 20
#: Numbers up to which a table of those that occur takes little memory.
_TABLE = 1 << 24
_LARGEST_ID = 2**32 - 1
#: Of the neighbours where a mask is not background, at least so many have one number:
#: in discs of 8 pixels across 3 of 4, in an image with noise hardly any.
_ALIKE = 0.6
#: Side of the part that is looked at first, in pixels.
_LOOK = 512


@dataclass(frozen=True)
class Survey:
    """What numbers there are in a mask.

    Attributes
    ----------
    low, high : int
        The smallest and the largest number.
    values : tuple of int
        The numbers other than 0, in order.
    alike : float
        Share of the neighbours in a row, other than background beside background, that
        have the same number; 1 where there is nothing but background.
    """

    low: int
    high: int
    values: tuple[int, ...]
    alike: float

    @property
    def mask_like(self) -> bool:
        """Whether these are the numbers of a mask, and not intensities."""
        return bool(self.values) and self.alike >= _ALIKE

    @property
    def unknown(self) -> bool:
        """Whether 255 stands for unknown, and is not one object of many."""
        others = self.values[:-1]
        return self.high == UNKNOWN and bool(others) and others[-1] != UNKNOWN - 1

    @property
    def objects(self) -> int:
        """How many objects there are, if the numbers are those of objects."""
        return len(self.values) - self.unknown


@dataclass(frozen=True)
class Meaning:
    """One way to read the numbers.

    Attributes
    ----------
    text : str
        For a list to choose from.
    class_id : int or None
        The class of all that is not 0; None: the numbers are those of the classes.
    added : tuple of str
        Names of the classes that have to be added first.
    unknown : bool
        Whether 255 stands for unknown.
    objects : int
        How many objects the numbers tell apart; 0 where they tell none.
    """

    text: str
    class_id: int | None = None
    added: tuple[str, ...] = ()
    unknown: bool = True
    objects: int = 0

    def classes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class of each number, 255 where it is unknown.

        Raises
        ------
        LabelsError
            If a number is none of 0 to 255 and the numbers are classes.
        """
        if self.class_id is None:
            if values.size and not 0 <= values.min() <= values.max() <= UNKNOWN:
                raise LabelsError(
                    "There are other numbers in the mask than a moment ago; choose "
                    "anew what they mean."
                )
            return values.astype(np.uint8)
        found = np.where(values != 0, np.uint8(self.class_id), np.uint8(0))
        if self.unknown:
            found[values == UNKNOWN] = UNKNOWN
        return found

    def ids(self, values: NDArray[Any]) -> NDArray[np.uint32]:
        """Return the numbers of the objects."""
        ids: NDArray[np.uint32] = values.astype(np.uint32)
        if self.unknown:
            ids[ids == UNKNOWN] = 0
        return ids


def misfit(name: str, data: Any, rgb: bool, shape: tuple[int, ...]) -> str:
    """Return why pixels cannot be a mask of an image, or nothing.

    Parameters
    ----------
    name : str
        What the user calls them.
    data : array
        The pixels; they are not read.
    rgb : bool
        Whether they are colours.
    shape : tuple of int
        Shape of the image's mask.
    """
    if rgb:
        return (
            f"{name} is an image in colours (RGB), no mask: a mask has one whole "
            "number for each pixel, such as the class."
        )
    array = as_array(data)
    if array.dtype.kind not in "bui":
        return (
            f"{name} holds numbers of type {array.dtype}, and a mask whole ones: if "
            "they are ids, convert them with astype('uint8') or, of objects, 'uint32'."
        )
    given = tuple(map(int, array.shape))
    if _without_ones(given) != _without_ones(shape):
        return (
            f"{name} has the shape {given}, the image {shape}: a mask has as many "
            "pixels as its image along each axis."
        )
    return ""


def survey(data: Any) -> Survey:
    """Read a mask, piece by piece, and say what numbers are in it.

    Raises
    ------
    LabelsError
        If a number is negative, or none that an object can have.
    """
    array = as_array(data)
    found: set[int] = set()
    alike = neighbours = 0
    for values in _pieces(array):
        found.update(_distinct(values))
        left, right = values[..., :-1], values[..., 1:]
        relevant = (left != 0) | (right != 0)
        neighbours += int(np.count_nonzero(relevant))
        alike += int(np.count_nonzero(relevant & (left == right)))
    low, high = min(found, default=0), max(found, default=0)
    if low < 0 or high > _LARGEST_ID:
        raise LabelsError(
            f"The numbers run from {low} to {high}; those of a mask are from 0 (the "
            f"background) to {_LARGEST_ID}. Give what is unknown the number {UNKNOWN}."
        )
    share = alike / neighbours if neighbours else 1.0
    return Survey(low, high, tuple(sorted(found - {0})), share)


def looks_like_mask(data: Any) -> bool:
    """Whether the middle of an image has the numbers of a mask, not intensities."""
    array = as_array(data)
    *planes, height, width = array.shape
    box = (
        *(slice(n // 2, n // 2 + 1) for n in planes),
        *(slice(max(0, (n - _LOOK) // 2), (n + _LOOK) // 2) for n in (height, width)),
    )
    found = survey(array[box])
    return found.mask_like or not found.values


def meanings(found: Survey, classes: Sequence[str]) -> list[Meaning]:
    """Return how the numbers of a mask can be read, the likeliest way first.

    Parameters
    ----------
    found : Survey
        Of the mask.
    classes : sequence of str
        The classes of the image, the background first.
    """
    numbers = [value for value in found.values if value != UNKNOWN]
    highest = max(numbers, default=0)
    by_number = list(_by_number(highest, found, classes))
    of_class = [
        _of_class(found, class_id, name)
        for class_id, name in enumerate(classes)
        if class_id > 0
    ]
    # 0 and 255 alone is how ImageJ and others write what is and what is not.
    binary = found.values == (UNKNOWN,)
    if highest < len(classes) and not binary:
        return [*by_number, *of_class]
    return [*of_class, *by_number]


def read_pieces(
    data: Any, shape: tuple[int, ...], limit: int = _PIECE
) -> Iterator[tuple[Box, Any]]:
    """Yield a mask in pieces of `limit` pixels, each with its box in `shape`.

    Axes of length 1 may be missing in one of both.
    """
    array = as_array(data)
    for box in split(as_box(None, shape), limit):
        kept = iter([part for part, n in zip(box, shape, strict=True) if n != 1])
        place = tuple(slice(0, 1) if n == 1 else next(kept) for n in array.shape)
        yield box, np.asarray(array[place]).reshape(box_shape(box))


def _pieces(array: Any) -> Iterator[NDArray[Any]]:
    for box in split(as_box(None, tuple(array.shape)), _PIECE):
        yield np.asarray(array[box])


def _distinct(values: NDArray[Any]) -> Iterable[int]:
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if not values.size:
        return ()
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= _TABLE:
        found: list[int] = np.unique(values).tolist()
        return found
    # Sorting would take ten times as long.
    present = np.zeros(high + 1, np.bool_)
    present[values.ravel()] = True
    occurring: list[int] = np.flatnonzero(present).tolist()
    return occurring


def _by_number(
    highest: int, found: Survey, classes: Sequence[str]
) -> Iterator[Meaning]:
    if found.high > UNKNOWN or highest >= MAX_CLASSES:
        return
    added = names_before(classes, highest + 1)
    text = "classes, by their number"
    if added:
        more = added[0] if len(added) == 1 else f"{added[0]} to {added[-1]}"
        text = f"classes; adds {more}"
    yield Meaning(text, None, added)


def _of_class(found: Survey, class_id: int, name: str) -> Meaning:
    count = found.objects
    unknown = found.unknown
    if count > 1:
        return Meaning(f"{count} objects: {name}", class_id, (), unknown, count)
    return Meaning(f"{name}, where it is not 0", class_id, (), unknown)


def _without_ones(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
