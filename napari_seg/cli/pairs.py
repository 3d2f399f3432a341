"""Files of a prediction and of the truth that are compared, pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.cli.files import Picture

__all__ = ["Pair", "mask_pairs", "shown", "spatial_parts"]

Pair: TypeAlias = tuple[Path, Path]

_OBJECTS = "_instances"


def mask_pairs(prediction: Path, truth: Path, objects: bool = False) -> list[Pair]:
    """Pair two files, or the files of two folders by name.

    Parameters
    ----------
    prediction, truth : Path
        Two files or two folders.
    objects : bool
        Whether ids of objects are meant: those of a folder are in files such as
        ``a_instances.tif`` if there are any, which otherwise are left out.

    Raises
    ------
    InputError
        If there is no such file or pair.
    """
    from napari_seg.cli.labelled import pair_by_name
    from napari_seg.folders import bare_name, images_in, is_zarr

    for path in (prediction, truth):
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.")
    folders = [path.is_dir() and not is_zarr(path) for path in (prediction, truth)]
    if folders[0] != folders[1]:
        raise InputError("Give two files or two folders, the prediction first.")
    if not folders[0]:
        return [(prediction, truth)]
    if objects:
        ones, others = (_objects_in(folder) for folder in (prediction, truth))
        return pair_by_name(ones, others, "truth", endings=("_mask", _OBJECTS))
    made = ("_confidence", _OBJECTS)
    masks = [
        path for path in images_in(prediction) if not bare_name(path).endswith(made)
    ]
    return pair_by_name(masks, images_in(truth), "truth")


def _objects_in(folder: Path) -> list[Path]:
    from napari_seg.folders import bare_name, images_in

    files = images_in(folder, made_here=True)
    objects = [path for path in files if bare_name(path).endswith(_OBJECTS)]
    return objects or images_in(folder)


def spatial_parts(found: Picture, expected: Picture) -> Iterator[tuple[Any, Any]]:
    """Yield the planes, or stacks along Z, that two masks of one shape consist of."""
    ndim = len(expected.data.shape)
    axes = expected.axes or found.axes or "TZYX".rjust(ndim, "Q")[-ndim:]
    steps: list[Iterable[Any]] = [
        (slice(None),) if letter in "ZYX" else range(length)
        for letter, length in zip(axes, expected.data.shape, strict=True)
    ]
    for place in product(*steps):
        yield np.asarray(found.data[place]), np.asarray(expected.data[place])


def shown(value: float) -> str:
    """Return a score for a table; – where there is none."""
    return "–" if np.isnan(value) else f"{value:.4f}"
