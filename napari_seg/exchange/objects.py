"""Objects with borders and classes: out of masks, and back into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.exchange.borders import Outline, trace
from napari_seg.exchange.exchanged import Exchanged, Hints, check_shape, class_list
from napari_seg.exchange.filling import fill
from napari_seg.scoring.regions import as_box, split
from napari_seg.scoring.tally import UNKNOWN
from napari_seg.writer import Calibration

__all__ = [
    "Area",
    "Found",
    "classes_of",
    "labelled",
    "number_in",
    "objects_in",
    "polygons_area",
    "put_together",
]

#: Paints its pixels of each of some planes, (Y, X), with a value.
Area: TypeAlias = Callable[[Sequence[tuple[NDArray[Any], int]]], None]
_LARGEST_ID = 2**32 - 1


@dataclass(frozen=True)
class Found:
    """One object in one plane, as a file has it.

    Attributes
    ----------
    area : callable
        Paints it.
    number : int or None
        Its number; objects of several planes share one.
    name : str or None
        Its class.
    plane : tuple of int
        Index along each axis before Y and X.
    """

    area: Area
    number: int | None = None
    name: str | None = None
    plane: tuple[int, ...] = ()


def polygons_area(polygons: Sequence[Sequence[NDArray[Any]]], name: str) -> Area:
    """Return the area of polygons, each a shell and holes; `name` is for messages."""

    def paint(targets: Sequence[tuple[NDArray[Any], int]]) -> None:
        height, width = targets[0][0].shape
        for rings in polygons:
            filled = fill(rings, (height, width), name)
            if filled is not None:
                rows, columns, inside = filled
                for plane, value in targets:
                    plane[rows, columns][inside] = value

    return paint


def objects_in(
    content: Exchanged,
) -> Iterator[tuple[tuple[int, ...], Outline, int | None, NDArray[np.bool_]]]:
    """Yield the objects of each plane.

    Yields
    ------
    plane : tuple of int
        Index along each axis before Y and X.
    outline : Outline
        Number and border.
    class_id : int or None
        Its class; None where the class mask does not tell.
    pixels : ndarray of bool
        The pixels of ``outline.box`` that it has.
    """
    ids = content.objects()
    classes = classes_of(ids, content.labels)
    if content.labels is None and len(content.names()) == 2:
        classes = dict.fromkeys(classes, 1)
    for plane in np.ndindex(ids.shape[:-2]):
        for outline in trace(ids[plane]):
            pixels = ids[plane][outline.box] == outline.number
            yield plane, outline, classes[outline.number], pixels


def number_in(text: str) -> int | None:
    """Return the number of an object that a text is, or None: names are free."""
    plain = text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if plain and 0 < int(text) <= _LARGEST_ID else None


def classes_of(
    ids: NDArray[np.uint32], labels: NDArray[np.uint8] | None
) -> dict[int, int | None]:
    """Return the class of each object: the one that most of its pixels have.

    Parameters
    ----------
    ids, labels : ndarray, shape (..., Y, X)
        Objects, and class ids, or None.

    Returns
    -------
    dict
        None for objects that lie in background and unknown pixels alone.
    """
    votes: dict[int, dict[int, int]] = {}
    for box in split(as_box(None, ids.shape)):
        piece = np.asarray(ids[box])
        there = piece > 0
        numbers = piece[there].astype(np.int64)
        found = 0 if labels is None else np.asarray(labels[box])[there]
        pairs, counts = np.unique(numbers * 256 + found, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            number, class_id = divmod(pair, 256)
            of_object = votes.setdefault(number, {})
            if class_id not in (0, UNKNOWN):
                of_object[class_id] = of_object.get(class_id, 0) + count
    return {
        number: max(of_object, key=lambda each: of_object[each]) if of_object else None
        for number, of_object in votes.items()
    }


def put_together(
    found: Sequence[Found],
    hints: Hints,
    shape: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    calibration: Calibration | None = None,
) -> Exchanged:
    """Return the masks of objects; later ones lie on top of earlier ones.

    Parameters
    ----------
    found : sequence of Found
        The objects.
    hints : Hints
        What is known beside the file.
    shape : sequence of int, optional
        Shape of the image where the file tells it.
    classes : sequence of str, optional
        What the file calls its classes, the background first.
    calibration : Calibration, optional
        What the file says of the axes.

    Returns
    -------
    Exchanged
        With the numbers of the file where all objects have one, else from 1 in the
        order of the file.  Where only some objects have a class, the others are
        unknown.

    Raises
    ------
    InputError
        If they do not fit the image, or `hints.classes`.
    """
    sides = _shape(shape, hints)
    numbers = [each.number for each in found]
    if any(number is None for number in numbers):
        numbers = list(range(1, len(found) + 1))
    names, class_ids = _class_ids(found, hints.classes, classes)
    ids, labels = np.zeros(sides, np.uint32), np.zeros(sides, np.uint8)
    for each, number in zip(found, numbers, strict=True):
        if number is None or not 0 < number <= _LARGEST_ID:
            raise InputError(
                f"An object has the number {number}; numbers from 1 to {_LARGEST_ID} "
                "can be read."
            )
        plane = _plane(each, sides)
        each.area([(ids[plane], number), (labels[plane], class_ids[each.name])])
    return Exchanged(labels, ids, names, calibration or Calibration())


def _shape(told: Sequence[int] | None, hints: Hints) -> tuple[int, ...]:
    known = told if hints.shape is None else hints.shape
    if known is None:
        raise InputError(
            "The file does not tell how large the image is; give the image, too "
            "(--image on the command line)."
        )
    sides = tuple(int(side) for side in known)
    if told is not None and tuple(told) != sides:
        raise InputError(
            f"The file is of an image of shape {tuple(told)}, the image given has "
            f"{sides}; give the one that it belongs to."
        )
    check_shape(sides)
    return sides


def _plane(found: Found, shape: tuple[int, ...]) -> tuple[int, ...]:
    leading = shape[:-2]
    # What another program says of planes means nothing for an image of one.
    plane = found.plane or (0,) * len(leading)
    if len(plane) != len(leading) or not all(
        0 <= index < length for index, length in zip(plane, leading, strict=False)
    ):
        raise InputError(
            f"An object is in plane {found.plane}, of an image of shape {shape}; give "
            "the image that the file belongs to."
        )
    return plane


def _class_ids(
    found: Sequence[Found], given: Sequence[str], told: Sequence[str]
) -> tuple[tuple[str, ...], dict[str | None, int]]:
    """Return the names of the classes, and the id of each; None is no class."""
    used = list(dict.fromkeys(each.name for each in found if each.name is not None))
    names = class_list(given or told or ("background", *used))
    if not used and len(names) < 2:
        names = (*names, "object") if names else ("background", "object")
    missing = [name for name in used if name not in names]
    if missing:
        raise InputError(
            f"The file has objects of the class {missing[0]!r}, which is none of "
            f"{', '.join(names)}; name it among the classes."
        )
    ids: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    ids[None] = UNKNOWN if used or len(names) > 2 else 1
    return names, ids


def labelled(ids: NDArray[np.uint32], class_of: dict[int, int]) -> NDArray[np.uint8]:
    """Return the class mask of objects whose classes are known.

    Parameters
    ----------
    ids : ndarray of uint32, shape (..., Y, X)
        Objects.
    class_of : dict
        Class of each; one that is missing becomes unknown.

    Returns
    -------
    ndarray of uint8, shape (..., Y, X)
    """
    numbers = np.array(sorted(class_of), np.int64)
    classes = np.array([class_of[int(number)] for number in numbers], np.uint8)
    labels = np.zeros(ids.shape, np.uint8)
    for plane in np.ndindex(ids.shape[:-2]):
        at = np.searchsorted(numbers, ids[plane]).clip(max=max(len(numbers) - 1, 0))
        known = numbers[at] == ids[plane] if len(numbers) else np.zeros(at.shape, bool)
        found = classes[at] if len(numbers) else np.zeros(at.shape, np.uint8)
        labels[plane] = np.where(known, found, UNKNOWN)
        labels[plane][ids[plane] == 0] = 0
    return labels
