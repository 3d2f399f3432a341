"""Objects as GeoJSON, as QuPath writes and reads it.

A FeatureCollection with one Polygon or MultiPolygon for each object and plane, in
pixels from the upper left corner of the image (RFC 7946 for the geometry; QuPath's
``objectType``, ``classification`` and ``plane`` beside it).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.exchange import jsonfile
from napari_seg.exchange.borders import Outline, Ring
from napari_seg.exchange.exchanged import (
    OURS,
    Exchanged,
    Hints,
    Kind,
    told_calibration,
    told_classes,
)
from napari_seg.exchange.filling import as_ring
from napari_seg.exchange.objects import (
    Found,
    number_in,
    objects_in,
    polygons_area,
    put_together,
)

__all__ = ["read", "write"]

_WHAT = "GeoJSON as QuPath exports it"


def write(
    path: Path,
    content: Exchanged,
    kind: Kind | None = None,
    kind_of_object: str = "annotation",
) -> list[Path]:
    """Write the objects of an image; their numbers are their names.

    Parameters
    ----------
    path : Path
        File to write.
    content : Exchanged
        What to write.
    kind : str, optional
        The format holds objects, with their classes.
    kind_of_object : "annotation" or "detection"
        What QuPath takes them for.
    """
    looks = [
        {"name": name, "color": list(bytes.fromhex(color[1:]))}
        for name, color in zip(content.names(), content.colors(), strict=True)
    ]
    axes = content.axes[:-2].lower()
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(outline, dict(zip(axes, plane, strict=True))),
            "properties": {
                "objectType": kind_of_object,
                "name": str(outline.number),
                **({} if class_id is None else {"classification": looks[class_id]}),
            },
        }
        for plane, outline, class_id, _ in objects_in(content)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    return jsonfile.save(path, collection | {OURS: content.said()})


def _geometry(outline: Outline, plane: dict[str, int]) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in rings] for rings in outline.polygons]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    if plane:
        geometry["plane"] = {"c": -1, "z": plane.get("z", 0), "t": plane.get("t", 0)}
    return geometry


def _closed(ring: Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]


def read(path: Path, hints: Hints) -> Exchanged:
    """Read objects; all need to be areas.

    Parameters
    ----------
    path : Path
        The file: a FeatureCollection, a list of features, or one feature.
    hints : Hints
        What is known beside it; the shape is needed unless napari-seg wrote the file.

    Raises
    ------
    InputError
        If it is damaged, or does not fit the image.
    """
    told = jsonfile.load(path, _WHAT)
    ours = told.get(OURS) if isinstance(told, dict) else None
    shape = ours.get("shape") if isinstance(ours, dict) else None
    if shape is not None and not _are_indices(shape):
        raise InputError(f"{shape!r} is no shape; take it out of the file.")
    leading = len(hints.shape or shape or ()) - 2
    found = [
        _found(feature, number, leading)
        for number, feature in enumerate(_features(told), 1)
    ]
    classes, calibration = told_classes(ours), told_calibration(ours)
    return put_together(found, hints, shape, classes, calibration)


def _features(told: Any) -> list[Any]:
    if isinstance(told, dict) and told.get("type") == "FeatureCollection":
        told = told.get("features")
    elif isinstance(told, dict) and told.get("type") == "Feature":
        told = [told]
    if not isinstance(told, list):
        raise InputError(f"The file is no GeoJSON of features; give {_WHAT}.")
    return told


def _found(feature: Any, number: int, leading: int) -> Found:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    said = feature.get("properties") if isinstance(feature, dict) else None
    said = said if isinstance(said, dict) else {}
    look = said.get("classification")
    name = look.get("name") if isinstance(look, dict) else None
    if name is not None and (not isinstance(name, str) or not name):
        raise InputError(f"Object {number} has a class without a name; give it one.")
    return Found(
        polygons_area(_polygons(geometry, number), f"Object {number}"),
        number_in(str(said.get("name"))),
        name,
        _plane(geometry, leading),
    )


def _polygons(geometry: Any, number: int) -> list[list[NDArray[np.float64]]]:
    what = geometry.get("type") if isinstance(geometry, dict) else None
    told = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if what == "Polygon":
        told = [told]
    elif what != "MultiPolygon":
        raise InputError(
            f"Object {number} is a {what}, which has no pixels; Polygon and "
            "MultiPolygon can be read: export areas only."
        )
    if not isinstance(told, list) or not all(map(_filled, [told, *told])):
        raise InputError(f"Object {number} has no rings of points; export it anew.")
    return [[as_ring(ring) for ring in rings] for rings in told]


def _filled(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _plane(geometry: Any, leading: int) -> tuple[int, ...]:
    plane = geometry.get("plane")
    if not isinstance(plane, dict) or leading < 1:
        return ()
    index = [plane.get(axis, 0) for axis in ("t", "z")]
    if not _are_indices(index):
        raise InputError(f"{plane!r} is no plane of a stack; export the file anew.")
    return tuple(index) if leading == 2 else (max(index),)


def _are_indices(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each < 2**31 for each in value
    )
