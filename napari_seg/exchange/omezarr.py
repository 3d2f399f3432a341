"""Masks in OME-Zarr: as labels of an image, or with an image made of themselves."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_seg.errors import InputError, StorageError
from napari_seg.exchange import ngff
from napari_seg.exchange.exchanged import (
    OURS,
    Exchanged,
    Kind,
)
from napari_seg.exchange.objects import classes_of
from napari_seg.exchange.omezarr_reading import read
from napari_seg.folders import is_zarr
from napari_seg.scoring.regions import Box
from napari_seg.writer import Calibration

__all__ = ["read", "write"]

_LARGEST_SIDE = 512
_CHUNK = (512, 512)
#: Pixels of a mask that are read at once.
_AT_ONCE = 1 << 22

Levels = dict[str, tuple[int, ...]]


def write(
    path: Path,
    content: Exchanged,
    kind: Kind | None = None,
    version: Literal[2, 3] = 2,
) -> list[Path]:
    """Write labels: with a pyramid, names and colours of classes.

    Parameters
    ----------
    path : Path
        An OME-Zarr image that is there gets the labels ``labels/classes`` and
        ``labels/objects``; of those with a name that is there already, the old ones
        are replaced.  ``image.zarr/labels/NAME`` chooses the name.  Where there is
        nothing, an OME-Zarr is made whose image is the mask itself.
    content : Exchanged
        What to write.  Its masks are read and written by rows of chunks, so dask and
        zarr arrays may be larger than the memory.
    kind : str, optional
        Which of both; by default what there is.
    version : int
        Version of zarr's format for what is made anew: 2 for OME-Zarr 0.4, 3 for 0.5.

    Returns
    -------
    list of Path
        The folders of the labels.

    Raises
    ------
    InputError
        If the image has another shape.
    StorageError
        If they cannot be written.
    """
    inside = path.parent.name == "labels" and is_zarr(path.parent.parent)
    image = path.parent.parent if inside else path
    arrays = _arrays(content, kind)
    if inside and len(arrays) > 1:
        arrays = {"classes": arrays["classes"]}
    names: dict[str, Kind] = {path.name if inside else each: each for each in arrays}
    if image.exists():
        if not is_zarr(image):
            raise InputError(f"{image} is no OME-Zarr; choose another name.")
        _add(image, content, arrays, names)
    else:
        with _in_place(image) as part:
            _make(part, content, arrays, version)
    return [image / "labels" / name for name in names]


def _arrays(content: Exchanged, kind: Kind | None) -> dict[Kind, NDArray[Any]]:
    if kind is not None:
        return dict([content.array(kind)])
    arrays: dict[Kind, NDArray[Any]] = {}
    if content.labels is not None:
        arrays["classes"] = content.labels
    if content.ids is not None:
        arrays["objects"] = content.ids
    return arrays


def _make(
    folder: Path,
    content: Exchanged,
    arrays: Mapping[Kind, NDArray[Any]],
    version: Literal[2, 3],
) -> None:
    """Make an OME-Zarr of masks alone; its image is the first of them."""
    root: Any = zarr.open_group(str(folder), mode="w", zarr_format=version)
    levels = _halved(content.shape)
    first = next(iter(arrays))
    shown = {f"labels/{first}/{each}": shape for each, shape in levels.items()}
    ngff.describe(root, {"multiscales": [_scale(content, shown, folder.name)]})
    group = root.create_group("labels")
    ngff.describe(group, {"labels": list(arrays)})
    for name, values in arrays.items():
        scale = _scale(content, levels, name)
        _fill(group.create_group(name), content, name, values, scale, levels)


def _add(
    folder: Path,
    content: Exchanged,
    arrays: Mapping[Kind, NDArray[Any]],
    names: Mapping[str, Kind],
) -> None:
    """Add labels to an image; nothing but its list of labels changes."""
    try:
        image = ngff.open_group(folder)
        scale = ngff.first_multiscale(image, folder)
        levels = _levels_of(image, scale, content, folder)
    except InputError:
        raise
    except Exception as error:
        # Damaged metadata makes zarr raise whatever it comes across.
        raise InputError(
            f"{folder} is there already and holds no image of OME-Zarr ({error}); "
            "choose another name."
        ) from error
    group: Any = zarr.open_group(
        str(folder / "labels"), mode="a", zarr_format=image.metadata.zarr_format
    )
    for name, kind in names.items():
        with _in_place(folder / "labels" / name) as part:
            made: Any = zarr.open_group(
                str(part), mode="w", zarr_format=image.metadata.zarr_format
            )
            own = {**_without_channels(scale, content), "name": name}
            _fill(made, content, kind, arrays[kind], own, levels)
    listed = ngff.described(group).get("labels", [])
    ngff.describe(group, {"labels": list(dict.fromkeys([*listed, *names]))})
    _renew_summary(folder, image)


def _levels_of(
    image: Any, scale: Mapping[str, Any], content: Exchanged, folder: Path
) -> Levels:
    """Return the shapes of an image's levels without its channels, as labels have."""
    levels: Levels = {}
    letters = ""
    for level in scale["datasets"]:
        shape = image[level["path"]].shape
        letters, _ = ngff.axes_of(scale, len(shape))
        kept = [n for n, axis in zip(shape, letters, strict=True) if axis != "C"]
        levels[str(len(levels))] = tuple(kept)
    if levels.get("0") != content.shape:
        raise InputError(
            f"The image {folder} has the shape {levels.get('0')} (axes "
            f"{letters.replace('C', '')}), the mask {content.shape}; give the image "
            "that it belongs to."
        )
    return levels


def _without_channels(scale: Mapping[str, Any], content: Exchanged) -> dict[str, Any]:
    """Return the description of an image's levels for its labels."""
    ndim = len(content.shape)
    letters, units = ngff.axes_of(scale, len(scale.get("axes") or ()) or ndim)
    kept = [i for i, letter in enumerate(letters) if letter != "C"]
    own = ngff.multiscale(
        ndim,
        Calibration(
            "".join(letters[i] for i in kept),
            (1.0,) * ndim,
            tuple(units.get(letters[i], "") for i in kept),
        ),
    )
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                _picked(change, kept)
                for change in level.get("coordinateTransformations", ())
            ]
            or [{"type": "scale", "scale": [1.0] * ndim}],
        }
        for number, level in enumerate(scale["datasets"])
    ]
    common = [
        _picked(change, kept) for change in scale.get("coordinateTransformations", ())
    ]
    more = {"coordinateTransformations": common} if common else {}
    return {"axes": own["axes"], "datasets": datasets, **more}


def _picked(change: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return a transformation for some of its axes."""
    return {
        key: [value[i] for i in kept] if isinstance(value, list) else value
        for key, value in change.items()
    }


def _halved(shape: tuple[int, ...]) -> Levels:
    """Return the shapes of a pyramid, each half of the one before in Y and X."""
    levels = {"0": shape}
    while max(shape[-2:]) > _LARGEST_SIDE:
        shape = (*shape[:-2], -(-shape[-2] // 2), -(-shape[-1] // 2))
        levels[str(len(levels))] = shape
    return levels


def _scale(content: Exchanged, levels: Levels, name: str) -> dict[str, Any]:
    given = content.calibration
    if len(given.axes) != len(content.shape):
        given = Calibration(content.axes)
    factors = {
        path: [whole / n for whole, n in zip(content.shape, shape, strict=True)]
        for path, shape in levels.items()
    }
    scale = ngff.multiscale(len(content.shape), given, factors)
    return {"name": name, "type": "nearest", **scale}


def _fill(
    group: Any,
    content: Exchanged,
    kind: Kind,
    values: NDArray[Any],
    scale: Mapping[str, Any],
    levels: Levels,
) -> None:
    """Write one mask with its description into a new group."""
    told = {"multiscales": [dict(scale)], "image-label": _image_label(content, kind)}
    ngff.describe(group, told)
    group.attrs.update({OURS: {"classes": list(content.names())}})
    for name, shape in levels.items():
        array = ngff.create_level(
            group, name, shape, values.dtype, scale["axes"], _CHUNK
        )
        for box in _strips(shape):
            array[box] = _nearest(values, shape, box)


def _strips(shape: tuple[int, ...]) -> Iterator[Box]:
    """Yield rows of chunks, plane by plane."""
    *leading, height, width = shape
    for index in np.ndindex(*leading):
        for top in range(0, height, _CHUNK[0]):
            rows = slice(top, min(top + _CHUNK[0], height))
            yield (*(slice(i, i + 1) for i in index), rows, slice(0, width))


def _nearest(values: Any, shape: tuple[int, ...], box: Box) -> NDArray[Any]:
    """Return a box of a smaller array: each pixel is that of its middle.

    Of a mask that is not in memory some rows are read at a time.
    """
    middles = [
        (np.arange(part.start, part.stop) * 2 + 1) * whole // (2 * length)
        for part, whole, length in zip(box, values.shape, shape, strict=True)
    ]
    *planes, rows, columns = middles
    found = np.empty([len(at) for at in middles], values.dtype)
    span = max(1, _AT_ONCE // values.shape[-1])
    groups = (rows - rows[0]) // span
    for group in np.unique(groups):
        chosen = groups == group
        parts = [*planes, rows[chosen], columns]
        needed = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in parts)
        read = np.asarray(values[needed])
        if read.shape != tuple(len(at) for at in parts):
            read = read[np.ix_(*(at - at[0] for at in parts))]
        found[..., chosen, :] = read
    return found


def _image_label(content: Exchanged, kind: Kind) -> dict[str, Any]:
    names, source = content.names(), {"image": "../../"}
    if kind == "classes":
        colors = [
            {
                "label-value": number,
                "rgba": [*bytes.fromhex(color[1:]), 255 * (number > 0)],
            }
            for number, color in enumerate(content.colors())
        ]
        properties = [
            {"label-value": number, "class": name} for number, name in enumerate(names)
        ]
        return {"colors": colors, "properties": properties, "source": source}
    classes = classes_of(content.objects(), content.labels)
    # Without colours, programs give each object one of its own.
    properties = [
        {"label-value": number, "class": names[class_id]}
        for number, class_id in sorted(classes.items())
        if class_id is not None
    ]
    return (
        {"properties": properties, "source": source}
        if properties
        else {"source": source}
    )


def _renew_summary(folder: Path, image: Any) -> None:
    """Renew the metadata of all levels in one place, if the image has that."""
    found = (folder / ".zmetadata").exists()
    if image.metadata.zarr_format == 3:
        plain: Any = zarr.open_group(str(folder), mode="r")
        found = plain.metadata.consolidated_metadata is not None
    if found:
        with warnings.catch_warnings():
            # That no version of zarr 3 has agreed on it yet.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(str(folder))


@contextmanager
def _in_place(target: Path) -> Iterator[Path]:
    """Give a folder to fill; it takes the place of `target` when it is complete."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        # Zarr would make the folders above, too.
        target.parent.stat()
        yield part
        if target.exists():
            os.replace(target, old)
        os.replace(part, target)
    except OSError as error:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}): free some "
            "space, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
