"""From images and labels as files hold them to what training draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.errors import ImageError, LabelsError
from napari_seg.inference.axes import read_axes
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.models.spec import ModelSpec
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.sampling import Example, Origin

__all__ = ["check_objects", "planes_of", "prepare_examples", "prepare_image"]


def prepare_image(
    image: ArrayLike, spec: ModelSpec, ranges: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Return an image as augmentation and then the network take it.

    What :meth:`~napari_seg.models.base.SegmentationModel.standardize` does is left to
    the batch, since augmentation works on the scale 0 to 1.

    Parameters
    ----------
    image : array
        (Y, X) or (Y, X, C), any real dtype. For a 2.5-D model C holds the neighbouring
        slices, too; a plane alone is taken for its own neighbours. For a model of
        volumes (Z, Y, X) or (Z, Y, X, C).
    spec : ModelSpec
        Channels and normalisation.
    ranges : array of shape (C, 2), optional
        Intensities that become 0 and 1; by default percentiles of this image.

    Returns
    -------
    ndarray of float32, shape (C, Y, X) or (C, Z, Y, X)
        C is ``spec.in_channels``.

    Raises
    ------
    ImageError, ChannelError
        If the image does not fit the model.
    """
    pixels = np.asarray(image)
    axes = "ZYXC"[3 - spec.ndim :][: max(pixels.ndim, spec.ndim)]
    if pixels.ndim < spec.ndim == 3:
        raise ImageError(
            f"An image of shape {pixels.shape} is a plane, and the model learns from "
            "volumes, (Z, Y, X) or (Z, Y, X, C); give it some, or take a model of "
            "planes."
        )
    reading = read_axes(pixels.shape, pixels.dtype, planes_of(spec, pixels.shape), axes)
    if ranges is None:
        ranges = channel_ranges(pixels, reading, spec.normalization)
    read = reading.plane(pixels) if spec.ndim == 2 else reading.volume(pixels)
    scaled = normalize(read, np.asarray(ranges, np.float64))
    if len(scaled) == 1 and spec.gray_as_rgb:
        scaled = np.repeat(scaled, spec.in_channels, axis=0)
    return np.ascontiguousarray(scaled)


def planes_of(spec: ModelSpec, shape: Sequence[int]) -> ModelSpec:
    """Return the spec by which to read (Y, X) or (Y, X, C).

    Where the channels are all that a 2.5-D model takes, the neighbouring slices are
    among them, and nothing is to be added.
    """
    with_neighbours = len(shape) == 3 and shape[2] == spec.in_channels
    return replace(spec, slices=1) if with_neighbours else spec


def prepare_examples(
    images: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    spec: ModelSpec,
    ranges: Sequence[ArrayLike | None] | None = None,
    origins: Sequence[Origin | None] | None = None,
) -> list[Example]:
    """Return examples for a model from images and their partial labels.

    Parameters
    ----------
    images : sequence of array
        (Y, X) or (Y, X, C) each, of volumes (Z, Y, X) or (Z, Y, X, C).
    labels : sequence of array of int
        (Y, X) or (Z, Y, X) each: class ids, 255 where unknown.
    spec : ModelSpec
        Channels, classes and normalisation.
    ranges : sequence of (array of shape (C, 2) or None), optional
        See :func:`prepare_image`.
    origins : sequence of (tuple or None), optional
        Where windows of larger images lie; see :class:`Example`.

    Raises
    ------
    LabelsError
        If there are not as many labels as images, or shapes, dtypes or ids do not
        fit.
    ImageError, ChannelError
        If an image does not fit the model.
    """
    if len(images) != len(labels):
        raise LabelsError(
            f"{len(images)} images and {len(labels)} label images were given; each "
            "image needs its own."
        )
    each_range = ranges if ranges is not None else [None] * len(images)
    each_origin = origins if origins is not None else [None] * len(images)
    return [
        Example(
            prepare_image(image, spec, limits),
            _checked(ids, image, spec),
            origin=origin,
        )
        for image, ids, limits, origin in zip(
            images, labels, each_range, each_origin, strict=True
        )
    ]


def check_objects(
    objects: Sequence[ArrayLike | None] | None, examples: Sequence[Example]
) -> list[NDArray[np.integer] | None]:
    """Return the objects of each example, or None where they are not known.

    Raises
    ------
    LabelsError
        If there are not as many as examples, or shapes or dtypes do not fit.
    """
    if objects is None:
        return [None] * len(examples)
    if len(objects) != len(examples):
        raise LabelsError(
            f"{len(objects)} images of objects were given for {len(examples)} images; "
            "each needs its own, or None."
        )
    checked: list[NDArray[np.integer] | None] = []
    for given, example in zip(objects, examples, strict=True):
        ids = None if given is None else np.asarray(given)
        if ids is not None and ids.shape != example.labels.shape:
            raise LabelsError(
                f"Objects of shape {ids.shape} do not fit labels of shape "
                f"{example.labels.shape}; each pixel needs the id of its object, or 0."
            )
        if ids is not None and (ids.dtype.kind not in "iub" or ids.min(initial=0) < 0):
            raise LabelsError(
                f"Ids of objects are {ids.dtype}; they must be integers from 0."
            )
        checked.append(ids)
    return checked


def _checked(labels: ArrayLike, image: Any, spec: ModelSpec) -> NDArray[np.uint8]:
    ids, shape = np.asarray(labels), np.shape(image)[: spec.ndim]
    if ids.shape != shape:
        sides = " × ".join(map(str, shape))
        raise LabelsError(
            f"Labels of shape {ids.shape} do not fit an image of {sides} pixels; they "
            "must have one value for each pixel."
        )
    if ids.dtype.kind not in "iub":
        raise LabelsError(
            f"Labels have dtype {ids.dtype}; they must be integers (class ids, and "
            f"{UNKNOWN} where the class is unknown)."
        )
    foreign = np.unique(ids[(ids >= spec.n_classes) & (ids != UNKNOWN)])
    if foreign.size or (ids.size and ids.min() < 0):
        found = foreign[0] if foreign.size else ids.min()
        raise LabelsError(
            f"Labels hold class {found}, but the model has the classes 0 to "
            f"{spec.n_classes - 1} ({', '.join(spec.classes)}). Use "
            "adapt_model(model, classes=[...]) to add classes, or "
            f"{UNKNOWN} for unknown pixels."
        )
    return ids.astype(np.uint8)
