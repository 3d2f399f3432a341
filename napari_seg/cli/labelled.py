"""Labelled images in folders → what training takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.cli.files import read_picture
from napari_seg.cli.report import note
from napari_seg.cli.selection import Files
from napari_seg.corrections.manifest import FILE as MANIFEST
from napari_seg.corrections.manifest import Manifest
from napari_seg.corrections.windows import (
    AS_IT_IS,
    PixelSize,
    read_origin,
    read_pixel_size,
    read_ranges,
)
from napari_seg.errors import ChannelError, ImageError, InputError, LabelsError
from napari_seg.folders import bare_name, images_in
from napari_seg.inference.axes import AxesReading, read_axes
from napari_seg.inference.normalization import channel_ranges
from napari_seg.inference.zoom import Zoom, resize_image, resize_labels
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.examples import planes_of
from napari_seg.writer import Calibration

__all__ = [
    "Labelled",
    "Planes",
    "anisotropy",
    "channel_counts",
    "class_ids",
    "labelled_files",
    "pair_by_name",
    "pixel_size",
    "read_labelled",
    "read_replay",
    "training_folders",
]


@dataclass(frozen=True)
class Labelled:
    """One image and its labels, as their files hold them.

    Attributes
    ----------
    name : str
        For messages.
    image : array
        Of any axes.
    labels : ndarray of int
        The image's shape without its channels; 255 is unknown.
    axes : str
        One letter for each axis of the image.
    ranges : ndarray of shape (C, 2) or None
        Intensities that become 0 and 1, where the image is a window of a larger one.
    origin : tuple of (str, int, int) or None
        Which one, and the row and column of its corner there.
    size : PixelSize
        In which size to learn from it.
    anisotropy : float or None
        Step between slices in pixels, where the file tells.
    objects : ndarray of int or None
        Ids of objects, of the shape of the labels, where they are known.
    """

    name: str
    image: Any
    labels: NDArray[Any]
    axes: str
    ranges: NDArray[np.float64] | None = None
    origin: tuple[str, int, int] | None = None
    size: PixelSize = AS_IT_IS
    anisotropy: float | None = None
    objects: NDArray[Any] | None = None

    @property
    def channels(self) -> int:
        """Channels of the image, as its axes say."""
        return self.image.shape[self.axes.index("C")] if "C" in self.axes else 1


@dataclass(frozen=True)
class Planes:
    """What :func:`napari_seg.finetune` takes: planes, their labels and ranges.

    For a model of volumes these take the place of planes, (Z, Y, X, C) and (Z, Y, X).

    Attributes
    ----------
    images : list of ndarray
        (Y, X, C) each.
    labels : list of ndarray
        (Y, X) each.
    ranges : list of ndarray
        (C, 2) each: intensities of the whole image that become 0 and 1.
    origins : list of (tuple of (str, int, int) or None)
        Where a window lies in a larger image.
    objects : list of (ndarray or None)
        (Y, X) each: ids of objects, where they are known.
    """

    images: list[NDArray[Any]] = field(default_factory=list)
    labels: list[NDArray[Any]] = field(default_factory=list)
    ranges: list[NDArray[np.float64]] = field(default_factory=list)
    origins: list[tuple[str, int, int] | None] = field(default_factory=list)
    objects: list[NDArray[Any] | None] = field(default_factory=list)

    @classmethod
    def of(cls, pairs: list[Labelled], spec: ModelSpec) -> Planes:
        """Cut images into planes, for a model.

        Raises
        ------
        ChannelError, ImageError
            If an image does not fit the model.
        """
        planes = cls()
        for pair in pairs:
            planes._add(pair, spec)
        return planes

    def _add(self, pair: Labelled, spec: ModelSpec) -> None:
        shape, dtype = pair.image.shape, pair.image.dtype
        try:
            alone = planes_of(spec, shape) if pair.axes == "YXC" else spec
            reading = read_axes(shape, dtype, alone, pair.axes)
        except ImageError as error:
            raise type(error)(f"{pair.name}: {error}") from error
        ranges = pair.ranges
        if ranges is None:
            ranges = channel_ranges(pair.image, reading, spec.normalization)
        if spec.ndim == 3:
            self._add_volumes(pair, reading, ranges)
            return
        # The nearest ratio, as in prediction.
        zoom = Zoom.near(pair.size.zoom).factor
        for index in reading.indices():
            if index and pair.origin and (pair.labels[index] == UNKNOWN).all():
                # Context along Z, in a window of a volume.
                continue
            plane = np.moveaxis(reading.plane(pair.image, index), 0, -1)
            labels, origin = pair.labels[index], pair.origin
            objects = None if pair.objects is None else pair.objects[index]
            if zoom != 1:
                plane, labels = resize_image(plane, zoom), resize_labels(labels, zoom)
                origin = origin and _enlarged(origin, zoom)
                if objects is not None:
                    objects = resize_labels(objects, zoom)
            self.images.append(plane)
            self.labels.append(labels)
            self.ranges.append(ranges)
            self.origins.append(origin)
            self.objects.append(objects)

    def _add_volumes(
        self, pair: Labelled, reading: AxesReading, ranges: NDArray[np.float64]
    ) -> None:
        if "Z" not in pair.axes:
            raise ImageError(
                f"{pair.name} is a plane (axes {pair.axes}), and the model learns from "
                "volumes (Z, Y, X); take a model of planes, such as unet."
            )
        for volume in reading.volumes():
            voxels = reading.volume(pair.image, volume)
            self.images.append(np.moveaxis(voxels, 0, -1))
            # Z is the last but two of their axes.
            self.labels.append(pair.labels[volume])
            self.ranges.append(ranges)
            self.origins.append(pair.origin)
            self.objects.append(None)


def _enlarged(origin: tuple[str, int, int], zoom: float) -> tuple[str, int, int]:
    plane, top, left = origin
    return plane, round(top * zoom), round(left * zoom)


def pixel_size(pairs: Sequence[Labelled]) -> float | None:
    """Return the side of a pixel in micrometres as a network sees it, if all agree."""
    sizes = {
        round(pair.size.micrometres / pair.size.zoom, 6)
        for pair in pairs
        if pair.size.micrometres is not None
    }
    return sizes.pop() if len(sizes) == 1 else None


def anisotropy(pairs: Sequence[Labelled]) -> float | None:
    """Return the step between slices in pixels, if those that tell it agree."""
    steps = {round(p.anisotropy, 2) for p in pairs if p.anisotropy is not None}
    return steps.pop() if len(steps) == 1 else None


def class_ids(pairs: list[Labelled]) -> list[int]:
    """Return the class ids in all labels, in order, without unknown."""
    found = {int(i) for pair in pairs for i in np.unique(pair.labels)}
    return sorted(found - {UNKNOWN})


def channel_counts(pairs: list[Labelled]) -> set[int]:
    """Return how many channels the images have: one number, or 1 and 3.

    Raises
    ------
    ChannelError
        If the images differ in another way than gray and RGB do.
    """
    names = {pair.channels: pair.name for pair in pairs}
    if len(names) > 1 and set(names) != {1, 3}:
        which = " and ".join(f"{name} has {count}" for count, name in names.items())
        raise ChannelError(
            f"The images have different numbers of channels ({which}); those that "
            "train one model must have the same, or be gray and RGB."
        )
    return set(names)


def training_folders(folder: Path) -> tuple[Path, Path]:
    """Return the folders of images and of labels of a project, or of a data set.

    Raises
    ------
    InputError
        If there are no such folders.
    """
    for top in (folder / "windows", folder):
        for labels in (top / "labels", top / "masks"):
            if (top / "images").is_dir() and labels.is_dir():
                return top / "images", labels
    raise InputError(
        f"{folder} holds no training set; it needs the folders windows/images and "
        "windows/labels, as a project has them, or images and labels."
    )


def labelled_files(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Return the images of one folder with labels of the same name in another.

    Raises
    ------
    InputError
        If no image has labels.
    """
    return pair_by_name(images_in(images), images_in(labels), "labels")


def read_labelled(files: Files, objects: Path | None = None) -> list[Labelled]:
    """Read images and their labels.

    `objects` is a folder with ids of objects, for those that have a file there.

    Raises
    ------
    InputError
        If a pair does not fit together.
    """
    read = [_read_pair(image, mask) for image, mask in files]
    if objects is None:
        return read
    numbered = _by_name(images_in(objects), ("_instances", "_objects"))
    names = [bare_name(image) for image, _ in files]
    if not numbered.keys() & set(names):
        raise InputError(
            f"No image has its objects in {objects}; files pair by name, such as a.tif "
            "with a.tif or a_instances.tif."
        )
    return [
        replace(each, objects=_read_objects(numbered[name], each.labels.shape))
        if name in numbered
        else each
        for each, name in zip(read, names, strict=True)
    ]


def _read_objects(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    ids = np.asarray(read_picture(path, colours=False).data)
    if ids.dtype.kind not in "biu" or ids.shape != shape:
        raise LabelsError(
            f"{path} holds {ids.dtype} of shape {ids.shape}; objects need an integer "
            f"id for each pixel of their labels, {shape}, and 0 for none."
        )
    return ids


def read_replay(
    folder: Path, classes: Sequence[str], choose: Callable[[Files], Files] | None = None
) -> list[Labelled]:
    """Read what must not be forgotten, for a model of these classes.

    The ids of a project count by the names of its classes, of which some may have
    other ids in the model; what the model lacks becomes unknown. Ids of other folders
    stay as they are. Of the files those are read that `choose` returns.

    Raises
    ------
    InputError
        If there is no training set, or a pair does not fit together.
    """
    files: Files = labelled_files(*training_folders(folder))
    pairs = read_labelled(files if choose is None else choose(files))
    if not (folder / MANIFEST).is_file():
        return pairs
    new_ids = np.full(256, UNKNOWN, np.uint8)
    for number, own in enumerate(Manifest.read(folder).classes):
        for name in (own.name, *own.earlier):
            if name in classes:
                new_ids[number] = classes.index(name)
                break
    return [replace(pair, labels=new_ids[pair.labels]) for pair in pairs]


def pair_by_name(
    ones: list[Path],
    others: list[Path],
    what: str,
    endings: tuple[str, ...] = ("_mask",),
) -> list[tuple[Path, Path]]:
    """Pair files by name, without these endings; ``a_mask.tif`` goes with ``a.png``.

    Raises
    ------
    InputError
        If two files of one side have one name, or no name is on both sides.
    """
    left, right = _by_name(ones, endings), _by_name(others, endings)
    both = sorted(left.keys() & right.keys())
    if not both:
        raise InputError(
            f"No file in {ones[0].parent} has its {what} in {others[0].parent}; files "
            f"pair by name, such as a.tif with a.tif or a{endings[-1]}.tif. The first "
            f"ones found are {ones[0].name} and {others[0].name}."
        )
    alone = sorted(left.keys() ^ right.keys())
    if alone:
        more = ", ..." if len(alone) > 5 else ""
        note(f"{len(alone)} without a partner left out: {', '.join(alone[:5])}{more}.")
    return [(left[name], right[name]) for name in both]


def _by_name(paths: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = bare_name(path)
        for ending in endings:
            name = name.removesuffix(ending)
        if name in found:
            raise InputError(
                f"{found[name].name} and {path.name} in {path.parent} have the same "
                "name; keep one of them there."
            )
        found[name] = path
    return found


def _read_pair(image_path: Path, labels_path: Path) -> Labelled:
    picture = read_picture(image_path)
    tiff = image_path.suffix.lower() in (".tif", ".tiff")
    origin = read_origin(image_path) if tiff else None
    image = picture.data
    # A window holds what a model takes, others may be RGBA.
    if picture.rgb and image.shape[-1] == 4 and origin is None:
        image = image[..., :3]
    labels = np.asarray(read_picture(labels_path, colours=False).data)
    if labels.dtype.kind not in "biu":
        raise LabelsError(
            f"{labels_path} has dtype {labels.dtype}; labels must be integers: class "
            f"ids, and {UNKNOWN} where the class is unknown."
        )
    axes = _axes(image.shape, labels.shape)
    if axes is None:
        raise LabelsError(
            f"{labels_path} has shape {labels.shape}, which does not fit the image's "
            f"{image.shape}; labels have one value for each pixel, and no channels."
        )
    ranges = read_ranges(image_path) if tiff else None
    size = read_pixel_size(image_path) if tiff else AS_IT_IS
    step = _anisotropy(picture.calibration)
    return Labelled(image_path.name, image, labels, axes, ranges, origin, size, step)


def _anisotropy(calibration: Calibration) -> float | None:
    """Return the step along Z in steps along Y, where the file tells both."""
    axes, scale = calibration.axes, calibration.scale
    if "Z" not in axes or not scale:
        return None
    z, y = (float(scale[axes.index(letter)]) for letter in "ZY")
    return z / y if z > 0 and y > 0 else None


def _axes(image: tuple[int, ...], labels: tuple[int, ...]) -> str | None:
    """Return the image's axes: the one that its labels lack holds the channels."""
    if not 2 <= len(labels) <= 6:
        return None
    letters = ("IQTZ" + "YX")[-len(labels) :]
    if image == labels:
        return letters
    for axis in reversed(range(len(image))):
        if image[:axis] + image[axis + 1 :] == labels:
            return letters[:axis] + "C" + letters[axis:]
    return None
