"""Objects as COCO JSON: run lengths, or polygons along the borders of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.exchange import jsonfile, rle
from napari_seg.exchange.borders import Outline
from napari_seg.exchange.exchanged import (
    OURS,
    Exchanged,
    Hints,
    Kind,
    check_shape,
    class_list,
    told_calibration,
    told_classes,
)
from napari_seg.exchange.filling import as_ring
from napari_seg.exchange.objects import (
    Area,
    Found,
    objects_in,
    polygons_area,
    put_together,
)

__all__ = ["read", "write"]

#: The category of objects whose class is not known; the format wants one.
_NO_CLASS = "unclassified"
_WHAT = "a file of COCO instances (images, annotations, categories)"


def write(
    path: Path, content: Exchanged, kind: Kind | None = None, polygons: bool = False
) -> list[Path]:
    """Write the objects of an image; each plane of a stack is an image of the file.

    All have ``iscrowd`` 0: tools leave those with 1 out of training and scores.

    Parameters
    ----------
    path : Path
        File to write.
    content : Exchanged
        What to write.
    kind : str, optional
        The format holds objects, with their classes.
    polygons : bool
        Write objects of one part without holes as a polygon.  pycocotools makes the
        same pixels of it; the others are run lengths in any case.
    """
    height, width = content.shape[-2:]
    planes = list(np.ndindex(content.shape[:-2]))
    images = [
        {
            "id": number,
            "file_name": path.stem + "".join(f"_{index:04d}" for index in plane),
            "width": width,
            "height": height,
            "plane": list(plane),
        }
        for number, plane in enumerate(planes, 1)
    ]
    image_ids = {plane: number for number, plane in enumerate(planes, 1)}
    names = list(content.names())
    annotations: list[dict[str, Any]] = []
    for plane, outline, class_id, pixels in objects_in(content):
        if class_id is None and names[-1] != _NO_CLASS:
            names.append(_NO_CLASS)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_ids[plane],
                "category_id": len(names) - 1 if class_id is None else class_id,
                "segmentation": _segmentation(
                    outline, pixels, (height, width), polygons
                ),
                "area": int(pixels.sum()),
                "bbox": _bbox(outline),
                "iscrowd": 0,
                "object_id": outline.number,
            }
        )
    categories = [
        {"id": number, "name": names[number]} for number in range(1, len(names))
    ]
    return jsonfile.save(
        path,
        {
            "info": {"description": "made by napari-seg", OURS: content.said()},
            "images": images,
            "categories": categories,
            "annotations": annotations,
        },
    )


def _segmentation(
    outline: Outline, pixels: NDArray[np.bool_], shape: tuple[int, int], polygons: bool
) -> Any:
    if polygons and len(outline.polygons) == 1 and len(outline.polygons[0]) == 1:
        return [outline.polygons[0][0].ravel().tolist()]
    counts = rle.counts_of(pixels, outline.box, shape)
    return {"size": list(shape), "counts": rle.to_text(counts)}


def _bbox(outline: Outline) -> list[int]:
    rows, columns = outline.box
    width, height = columns.stop - columns.start, rows.stop - rows.start
    return [columns.start, rows.start, width, height]


def read(path: Path, hints: Hints) -> Exchanged:
    """Read the objects of the one image, or stack, that a file is about.

    Parameters
    ----------
    path : Path
        The file.
    hints : Hints
        What is known beside it.

    Raises
    ------
    InputError
        If it is damaged, or about several images.
    """
    told = jsonfile.load(path, _WHAT)
    if not isinstance(told, dict) or told.get("type") == "FeatureCollection":
        raise InputError(
            f"The file is no COCO; give {_WHAT}, or let the name of GeoJSON end in "
            ".geojson."
        )
    images, annotations, categories = (
        _entries(told, key) for key in ("images", "annotations", "categories")
    )
    planes, shape = _planes(images)
    names = _categories(categories)
    found = [_found(each, planes, shape[-2:], names) for each in annotations]
    info = told.get("info")
    ours = info.get(OURS) if isinstance(info, dict) else None
    listed = (names[number] for number in sorted(names))
    named = dict.fromkeys(["background", *(name for name in listed if name)])
    classes = told_classes(ours) or class_list(named)
    return put_together(found, hints, shape, classes, told_calibration(ours))


def _entries(told: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = told.get(key)
    if not isinstance(entries, list) or not all(
        isinstance(each, dict) for each in entries
    ):
        raise InputError(f"The file has no list of {key}; give {_WHAT}.")
    return entries


def _planes(
    images: Sequence[dict[str, Any]],
) -> tuple[dict[Any, tuple[int, ...]], tuple[int, ...]]:
    """Return the plane of each image of the file, and the shape of all together."""
    sides = {(_whole(each, "height"), _whole(each, "width")) for each in images}
    planes = {_whole(each, "id"): _plane(each) for each in images}
    axes = {len(plane) for plane in planes.values()}
    if len(sides) != 1 or len(axes) != 1 or len(set(planes.values())) < len(images):
        raise InputError(
            f"The file is about {len(images)} images; one about a single image, or "
            "about the planes of one stack as napari-seg writes it, can be read."
        )
    shape = tuple(max(index) + 1 for index in zip(*planes.values(), strict=True))
    return planes, (*shape, *sides.pop())


def _plane(image: dict[str, Any]) -> tuple[int, ...]:
    plane = image.get("plane", [])
    if not isinstance(plane, list) or not all(
        type(index) is int and index >= 0 for index in plane
    ):
        raise InputError(f"{plane!r} is no plane of a stack; leave it out.")
    return tuple(plane)


def _whole(entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise InputError(
            f"{value!r} is no {key}; whole numbers can be read: save the file anew."
        )
    return value


def _categories(categories: Sequence[dict[str, Any]]) -> dict[int, str | None]:
    """Return the name of each category; None for that of no class."""
    names: dict[int, str | None] = {}
    for each in categories:
        name = each.get("name")
        if not isinstance(name, str) or not name:
            raise InputError("A category has no name; give each one a text.")
        names[_whole(each, "id")] = None if name == _NO_CLASS else name
    return names


def _found(
    annotation: dict[str, Any],
    planes: dict[Any, tuple[int, ...]],
    shape: tuple[int, ...],
    names: dict[int, str | None],
) -> Found:
    image, category = _whole(annotation, "image_id"), _whole(annotation, "category_id")
    if image not in planes or category not in names:
        raise InputError(
            f"An object is of image {image} and category {category}, which the file "
            "does not have; save it anew."
        )
    check_shape(shape)
    height, width = shape
    number = _whole(annotation, "object_id") if "object_id" in annotation else None
    area = _area(annotation.get("segmentation"), (height, width))
    return Found(area, number, names[category], planes[image])


def _area(segmentation: Any, shape: tuple[int, int]) -> Area:
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(shape):
            raise InputError(
                f"The run lengths of an object are of an image of "
                f"{segmentation.get('size')}, not {list(shape)}; save the file anew."
            )
        return _Runs(rle.as_counts(segmentation.get("counts")), shape)
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(
            "An object has no segmentation, only a box perhaps; save it with masks or "
            "polygons."
        )
    parts = [[as_ring(_pairs(each))] for each in segmentation]
    return polygons_area(parts, "A polygon")


def _pairs(flat: Any) -> Any:
    """Return [x, y, x, y, ...] as a list of points; what is none of it as it is."""
    if not isinstance(flat, list) or len(flat) % 2:
        return None
    return list(zip(flat[::2], flat[1::2], strict=True))


class _Runs:
    """The area of run lengths.

    Parameters
    ----------
    counts : ndarray of int64
        The run lengths.
    shape : tuple of int
        Height and width of the image.
    """

    def __init__(self, counts: NDArray[np.int64], shape: tuple[int, int]) -> None:
        self._counts, self._shape = counts, shape

    def __call__(self, targets: Sequence[tuple[NDArray[Any], int]]) -> None:
        """Paint it."""
        for pixels in rle.pixels_of(self._counts, self._shape):
            for plane, value in targets:
                plane[pixels] = value
