"""Masks out of OME-Zarr: labels of an image, or the image itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_seg.errors import InputError, LabelsError
from napari_seg.exchange import ngff
from napari_seg.exchange.exchanged import (
    OURS,
    Exchanged,
    Hints,
    Kind,
    as_exchanged,
    check_shape,
    told_classes,
)
from napari_seg.exchange.objects import labelled
from napari_seg.folders import is_zarr

__all__ = ["read"]


def read(path: Path, hints: Hints) -> Exchanged:
    """Read the labels of an image, or one of them.

    Parameters
    ----------
    path : Path
        An OME-Zarr with one mask, or with the two that napari-seg writes; or the
        folder of one of them, ``image.zarr/labels/NAME``.
    hints : Hints
        What is known beside it.

    Raises
    ------
    InputError
        If there is no mask, or more than one.
    """
    if not path.exists():
        raise InputError(f"There is no folder {path}.")
    names = _label_names(path)
    if not names:
        return _read_one(path, hints)
    if set(names) == {"classes", "objects"} and hints.kind is None:
        first = _read_one(path / "labels" / "classes", hints, "classes")
        second = _read_one(path / "labels" / "objects", hints, "objects")
        return Exchanged(first.labels, second.ids, first.classes, first.calibration)
    if hints.kind in names:
        names = [hints.kind]
    if len(names) > 1:
        raise InputError(
            f"{path} has several labels ({', '.join(names)}); give the folder of one, "
            f"such as {path / 'labels' / names[0]}."
        )
    return _read_one(path / "labels" / names[0], hints)


def _label_names(path: Path) -> list[str]:
    if not is_zarr(path / "labels"):
        return []
    names = ngff.described(ngff.open_group(path / "labels")).get("labels")
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if known and isinstance(names, list) else []


def _read_one(path: Path, hints: Hints, kind: Kind | None = None) -> Exchanged:
    group = ngff.open_group(path)
    scale = ngff.first_multiscale(group, path)
    level = scale["datasets"][0]
    array = group[level["path"]]
    check_shape([n for n in array.shape if n > 1 or array.ndim <= 4])
    letters, units = ngff.axes_of(scale, array.ndim)
    place = tuple(
        _index(letter, n) for letter, n in zip(letters, array.shape, strict=True)
    )
    values = np.asarray(array[place])
    calibration = ngff.calibration_of(level, letters, units)
    ours = group.attrs.asdict().get(OURS)
    properties = _properties(ngff.described(group))
    kind = kind or hints.kind
    found = as_exchanged(
        values, Hints(hints.shape, hints.classes, kind), told_classes(ours), calibration
    )
    return _with_properties(found, properties)


def _index(letter: str, length: int) -> int | slice:
    if letter != "C":
        return slice(None)
    if length > 1:
        raise LabelsError(
            f"This is an image of {length} channels, no mask; give the folder of its "
            "labels."
        )
    return 0


def _properties(told: Mapping[str, Any]) -> dict[int, str]:
    """Return the class that each value of a mask stands for, where that is told."""
    label = told.get("image-label")
    entries = label.get("properties") if isinstance(label, dict) else None
    return {
        entry["label-value"]: entry["class"]
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
        and type(entry.get("label-value")) is int
        and isinstance(entry.get("class"), str)
    }


def _with_properties(found: Exchanged, properties: Mapping[int, str]) -> Exchanged:
    """Return masks with the classes that the properties tell."""
    if found.ids is None:
        told = [properties.get(number, "") for number in range(len(properties))]
        names = found.classes or (told_classes({"classes": told}) if all(told) else ())
        return Exchanged(found.labels, None, names, found.calibration)
    if not properties:
        return found
    used = list(dict.fromkeys(properties[number] for number in sorted(properties)))
    names = found.classes or told_classes({"classes": ["background", *used]})
    missing = [name for name in used if name not in names]
    if missing:
        raise InputError(
            f"The mask has objects of the class {missing[0]!r}, which is none of "
            f"{', '.join(names)}; name it among the classes."
        )
    of_object = {number: names.index(name) for number, name in properties.items()}
    labels = labelled(found.ids, of_object)
    return Exchanged(labels, found.ids, names, found.calibration)
