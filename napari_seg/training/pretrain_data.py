"""What the bundled models are trained on: folders of images with masks, and shapes.

A data folder holds one folder for each *kind* of image, with ``images/NNN.tif`` and
``masks/NNN.tif`` (class ids, 0 the background).  ``dsb2018/index.csv`` tells modality
and size of its images, by which its *experiments* are told apart.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.models.spec import ModelSpec
from napari_seg.training.examples import prepare_image
from napari_seg.training.sampling import Example
from napari_seg.training.textures import stained_cells, textured_objects

__all__ = [
    "Kind",
    "NucleiSplit",
    "cells",
    "held_out_nuclei",
    "read_kinds",
    "shapes",
    "split_nuclei",
    "training_objects",
]

_HELD_OUT_EVERY = 8
#: Planes of a stack look alike; so do the many images of a large kind.
_PLANES = 12
_IMAGES = 60
#: What images of an experiment weigh is the number of them to this power. Since the
#: sampler takes the root, 0 would draw an experiment by its number, -1 by the root of
#: it, and -2 all alike.
_RARITY = -1.25
#: Of procedural cells beside an experiment of as many images.
_CELLS_WEIGHT = 0.5


@dataclass(frozen=True)
class NucleiSplit:
    """Examples to train on, and those that are only scored, by experiment."""

    training: list[Example]
    held_out: dict[str, list[Example]]
    left_out: dict[str, list[Example]]


def split_nuclei(
    folder: Path, spec: ModelSpec, leave_out: Sequence[str]
) -> NucleiSplit:
    """Divide the images of each experiment, but for those left out altogether.

    Raises
    ------
    InputError
        If an experiment to leave out is not there.
    """
    split = NucleiSplit([], {}, {})
    experiments = _experiments(folder)
    _check_known("experiment", leave_out, experiments)
    for experiment, files in experiments.items():
        if experiment in leave_out:
            split.left_out[experiment] = [_read(folder, f, spec) for f in files]
            continue
        # Rare experiments are drawn more often than their share, common ones less.
        weight = len(files) ** _RARITY
        kept = _held_out(files)
        if kept:
            split.held_out[experiment] = [_read(folder, f, spec) for f in kept]
        split.training.extend(
            _read(folder, f, spec, weight) for f in files if f not in kept
        )
    return split


def _experiments(folder: Path) -> dict[str, list[str]]:
    """Return file names by experiment: modality and image size."""
    experiments = defaultdict(list)
    with (folder / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            experiments[f"{row['modality']} {row['h']}x{row['w']}"].append(row["file"])
    return {name: sorted(files) for name, files in sorted(experiments.items())}


def held_out_nuclei(folder: Path) -> dict[str, list[str]]:
    """Return the files that no bundled model learned from, by experiment."""
    return {name: _held_out(files) for name, files in _experiments(folder).items()}


def _held_out(files: list[str]) -> list[str]:
    return files[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]


def training_objects(
    folder: Path, spec: ModelSpec, rarity: float = _RARITY
) -> Iterator[tuple[Example, NDArray[np.integer]]]:
    """Yield the images that bundled models learn from, each with its object ids.

    An image weighs the number of those of its experiment to the power `rarity`, by
    default as in :func:`split_nuclei`.
    """
    held_out = held_out_nuclei(folder)
    for experiment, files in _experiments(folder).items():
        for name in files:
            if name not in held_out[experiment]:
                ids = tifffile.imread(folder / "instances" / name)
                yield _read(folder, name, spec, len(files) ** rarity), ids


def _read(folder: Path, name: str, spec: ModelSpec, weight: float = 1.0) -> Example:
    image = tifffile.imread(folder / "images" / name)
    labels = tifffile.imread(folder / "masks" / name).astype(np.uint8)
    return Example(prepare_image(image, spec), labels, weight)


def _check_known(what: str, names: Sequence[str], known: Iterable[str]) -> None:
    there = list(known)
    if unknown := [name for name in names if name not in there]:
        raise InputError(f"No {what} {unknown[0]!r}; there are {', '.join(there)}.")


@dataclass(frozen=True)
class Kind:
    """Images of one origin.

    Attributes
    ----------
    name : str
        Its folder.
    classes : int
        Number of class ids, the background included.
    examples : list of Example
        All weigh the same together as those of any other kind.
    """

    name: str
    classes: int
    examples: list[Example]


def read_kinds(
    data: Path, spec: ModelSpec, leave_out: Sequence[str] = ()
) -> list[Kind]:
    """Return every kind of image below `data` that has masks, but those left out.

    Raises
    ------
    InputError
        If there is none, or one to leave out is not there.
    """
    folders = sorted(path.parent for path in data.glob("*/masks"))
    names = [folder.name for folder in folders]
    if not names:
        raise InputError(f"{data} holds no folder with images/ and masks/.")
    _check_known("kind", leave_out, names)
    return [
        _kind(folder.name, list(_planes(folder, spec)))
        for folder in folders
        if folder.name not in leave_out
    ]


def shapes(count: int, side: int, spec: ModelSpec, seed: int) -> Kind:
    """Return procedural images as a kind of their own."""
    rng = np.random.default_rng(seed)
    drawn = (textured_objects(side, rng) for _ in range(count))
    return _kind(
        "shapes", [Example(prepare_image(d.image, spec), d.mask) for d in drawn]
    )


def cells(
    count: int, side: int, spec: ModelSpec, seed: int, rarity: float = _RARITY
) -> list[Example]:
    """Return procedural nuclei in stained cells, to train on beside experiments."""
    rng = np.random.default_rng(seed)
    drawn = [stained_cells(side, rng) for _ in range(count)]
    weight = _CELLS_WEIGHT * count**rarity
    return [Example(prepare_image(d.image, spec), d.mask, weight) for d in drawn]


def _kind(name: str, examples: list[Example]) -> Kind:
    pixels = sum(example.labels.size for example in examples)
    classes = 1 + max(int(example.labels.max()) for example in examples)
    weighted = [Example(e.image, e.labels, 1e6 / pixels) for e in examples]
    return Kind(name, classes, weighted)


def _planes(folder: Path, spec: ModelSpec) -> Iterator[Example]:
    files = sorted((folder / "masks").glob("*.tif"))
    for path in files[:: -(-len(files) // _IMAGES)]:
        image = tifffile.imread(folder / "images" / path.name)
        labels = tifffile.imread(path).astype(np.uint8)
        if labels.ndim == 2:
            yield Example(prepare_image(image, spec), labels)
            continue
        for z in range(0, len(labels), -(-len(labels) // _PLANES)):
            yield Example(prepare_image(image[z], spec), labels[z])
