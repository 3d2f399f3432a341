"""What goes between programs: a mask, its objects, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.colors import class_colors
from napari_seg.errors import InputError, LabelsError
from napari_seg.objects.connected import label_objects
from napari_seg.scoring.regions import as_box, split
from napari_seg.scoring.tally import MAX_CLASSES, UNKNOWN
from napari_seg.writer import Calibration

__all__ = [
    "OURS",
    "Exchanged",
    "Hints",
    "Kind",
    "as_exchanged",
    "check_shape",
    "class_list",
    "told_calibration",
    "told_classes",
]

Kind: TypeAlias = Literal["classes", "objects"]

#: Where a format has room for words of any program, ours stand under this key.
OURS = "napari-seg"

_AXES = {2: "YX", 3: "ZYX", 4: "TZYX"}
#: Both masks of this many pixels take 10 GB.
_MOST_PIXELS = 2**31
_LARGEST_ID = 2**32 - 1


@dataclass(frozen=True)
class Exchanged:
    """A class mask, objects, or both of the same image.

    Attributes
    ----------
    labels : ndarray of uint8, shape (..., Y, X), or None
        Class ids; 0 background, 255 unknown.  For OME-Zarr dask and zarr arrays do,
        too.
    ids : ndarray of uint32, shape (..., Y, X), or None
        Numbers of objects, in any order and with gaps; 0 no object.  Likewise.
    classes : tuple of str
        Names in the order of the ids, the background first; empty where unknown.
    calibration : Calibration
        Axes, steps and units.

    Raises
    ------
    LabelsError
        If there is neither, or they are no masks of the same two to four axes.
    """

    labels: NDArray[np.uint8] | None = None
    ids: NDArray[np.uint32] | None = None
    classes: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        shapes = {part.shape for part in (self.labels, self.ids) if part is not None}
        if len(shapes) != 1:
            raise LabelsError(
                "Give a class mask, objects, or both in the same shape; these have "
                f"{' and '.join(map(str, shapes)) or 'nothing'}."
            )
        check_shape(shapes.pop())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the masks."""
        part = self.labels if self.labels is not None else self.ids
        assert part is not None
        return part.shape

    @property
    def axes(self) -> str:
        """One letter for each axis; by their number where nothing is known."""
        told, ndim = self.calibration.axes, len(self.shape)
        return told if len(told) == ndim else _AXES[ndim]

    @property
    def pixel_size(self) -> float | None:
        """Width of a pixel in micrometres, where it is known."""
        return self.calibration.micrometres("X")

    def class_mask(self) -> NDArray[np.uint8]:
        """Return the class ids; without them, class 1 is where an object is."""
        if self.labels is not None:
            return self.labels
        assert self.ids is not None
        return (self.ids > 0).astype(np.uint8)

    def objects(self) -> NDArray[np.uint32]:
        """Return the objects; without them, the connected pixels of each class."""
        if self.ids is not None:
            return self.ids
        assert self.labels is not None
        known = np.where(self.labels == UNKNOWN, np.uint8(0), self.labels)
        return label_objects(known, self.axes[:-2])[0]

    def array(self, kind: Kind | None) -> tuple[Kind, NDArray[Any]]:
        """Return what a format with room for one array gets; None: classes if any."""
        if kind is None:
            kind = "classes" if self.labels is not None else "objects"
        return kind, self.class_mask() if kind == "classes" else self.objects()

    def names(self) -> tuple[str, ...]:
        """Return a name for each class id that there is, the background first."""
        labels = self.labels
        most = 1 if labels is None else _highest_class(labels)
        plain = [f"class {number}" for number in range(most + 1)]
        plain[0] = "background"
        if labels is None:
            plain[1] = "object"
        return (*self.classes, *plain[len(self.classes) :])

    def colors(self) -> tuple[str, ...]:
        """Return the colours of :meth:`names` in the dock, black for the background."""
        return ("#000000", *class_colors(len(self.names()))[1:])

    def said(self) -> dict[str, Any]:
        """Return what stands under :data:`OURS` in files with room for it."""
        told = self.calibration
        return {
            "classes": list(self.names()),
            "shape": list(self.shape),
            "axes": told.axes,
            "scale": list(told.scale),
            "units": list(told.units),
        }


@dataclass(frozen=True)
class Hints:
    """What the reader of a file is told beside it.

    Attributes
    ----------
    shape : tuple of int or None
        Shape of the image, (..., Y, X), for files that do not hold it.
    classes : tuple of str
        Names of the classes, the background first; empty believes the file.
    kind : "classes", "objects" or None
        What the numbers of an array mean; None: up to 8 bits classes, else objects.
    """

    shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    kind: Kind | None = None


def _highest_class(labels: NDArray[np.uint8]) -> int:
    """Return the highest id but that of unknown pixels, looking at pieces."""
    pieces = (np.asarray(labels[box]) for box in split(as_box(None, labels.shape)))
    return max(int(np.max(p, where=p < UNKNOWN, initial=0)) for p in pieces)


def as_exchanged(
    values: NDArray[Any],
    hints: Hints,
    classes: Sequence[str] = (),
    calibration: Calibration | None = None,
) -> Exchanged:
    """Return the array of a file as what it holds.

    Parameters
    ----------
    values : ndarray, shape (..., Y, X)
        Class ids or numbers of objects.
    hints : Hints
        What is known beside the file.
    classes : sequence of str
        What the file calls its classes.
    calibration : Calibration, optional
        What the file says of its axes.

    Raises
    ------
    LabelsError
        If the values are neither, or have another shape than the image.
    """
    if values.dtype.kind not in "bui":
        raise LabelsError(
            f"Values of type {values.dtype} are no ids; a mask of whole numbers can be "
            "read."
        )
    if hints.shape is not None and tuple(hints.shape) != values.shape:
        raise LabelsError(
            f"The mask has the shape {values.shape}, the image {hints.shape}; give the "
            "image that it belongs to."
        )
    kind = hints.kind or ("classes" if values.dtype.itemsize == 1 else "objects")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    most = UNKNOWN if kind == "classes" else _LARGEST_ID
    if low < 0 or high > most:
        known = "; numbers above 255 are objects" if kind == "classes" else ""
        raise LabelsError(
            f"The values run from {low} to {high}; {kind} have numbers from 0 to "
            f"{most}{known}."
        )
    names = class_list(hints.classes or classes)
    told = calibration or Calibration()
    if kind == "classes":
        return Exchanged(values.astype(np.uint8, copy=False), None, names, told)
    return Exchanged(None, values.astype(np.uint32, copy=False), names, told)


def check_shape(shape: Sequence[int]) -> None:
    """Raise LabelsError unless a mask of this shape can be held in memory."""
    sides = tuple(int(side) for side in shape)
    if len(sides) not in _AXES or min(sides) < 1:
        raise LabelsError(
            f"The shape {sides} is that of no mask; it has two to four axes, T, Z, Y "
            "and X, none of them empty."
        )
    if prod(sides) > _MOST_PIXELS:
        raise LabelsError(
            f"The shape {sides} has more than {_MOST_PIXELS:,} pixels; cut it into "
            "parts."
        )


def class_list(names: Iterable[Any]) -> tuple[str, ...]:
    """Return names of classes.

    Raises
    ------
    InputError
        If they are too many, no text, or not different from each other.
    """
    found = tuple(names)
    if len(found) > MAX_CLASSES:
        raise InputError(
            f"There are {len(found)} classes; a mask can hold {MAX_CLASSES} with the "
            "background: merge some."
        )
    if not all(isinstance(name, str) and name for name in found):
        raise InputError("A class has no name; give each one a text.")
    if len(set(found)) < len(found):
        raise InputError(f"Two of the classes {found} are the same; rename one.")
    return found


def told_classes(said: Any) -> tuple[str, ...]:
    """Return the classes that a file has under :data:`OURS`, if any."""
    names = said.get("classes") if isinstance(said, Mapping) else None
    return class_list(names) if isinstance(names, list) else ()


def told_calibration(said: Any) -> Calibration:
    """Return the calibration that a file has under :data:`OURS`, if any."""
    told = said if isinstance(said, Mapping) else {}
    axes, scale, units = (told.get(key) for key in ("axes", "scale", "units"))
    if (
        isinstance(axes, str)
        and isinstance(scale, list)
        and isinstance(units, list)
        and all(type(step) in (int, float) for step in scale)
    ):
        return Calibration(axes, tuple(map(float, scale)), tuple(map(str, units)))
    return Calibration()
