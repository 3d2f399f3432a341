"""Components that are several objects, split: by shape, or as a model sees them.

All look for the summits of a surface, and what becomes of a component does not depend
on which others are there: so blocks of an image leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

from napari_seg.objects.summits import summits

__all__ = ["MARGIN", "split_by_centres", "split_by_probability", "split_by_shape"]

#: By how much a bump must rise above the saddle to the next one to be an object of its
#: own: in pixels of distance to the border, the same where the distance is weighted
#: with the map of centres, and as a share of its height.
_RISE, _WEIGHTED_RISE, _SHARE = 0.75, 0.3, 0.1
#: Smoothing of what a model says in pixels, and what it is at least.
_SMOOTH, _LEAST = 1.0, 0.01
#: Pixels around a component on which its objects depend.
MARGIN = int(4 * _SMOOTH + 0.5) + 1

_Surface = Callable[[NDArray[np.bool_]], NDArray[np.float64]]


def split_by_shape(components: NDArray[Any], labels: NDArray[np.uint8]) -> NDArray[Any]:
    """Split components at their waists: watershed of the distance to the border.

    A seed is a maximum of the distance that rises above the saddle to any higher one by
    0.75 pixels and by a tenth of itself (its dynamic: Grimaud 1992), so that neither
    small objects vanish nor large ones break at a ragged border.

    Parameters
    ----------
    components : (Y, X) ndarray of int
        Numbers of connected pixels of one class, 0 elsewhere.
    labels : (Y, X) ndarray of uint8
        Their classes.

    Returns
    -------
    (Y, X) ndarray of int32
        1 ... n in no particular order, 0 where `components` is.
    """
    return _split(components, labels, _distance, _RISE)


def split_by_centres(
    components: NDArray[Any],
    labels: NDArray[np.uint8],
    maps: NDArray[np.floating],
    inner: tuple[slice, slice],
) -> NDArray[Any]:
    """Split components as an object head says, and where they are thin.

    As :func:`split_by_shape`, but each pixel's distance to the border is weighted with
    how close the head says that it is to a centre: a centre counts more where there is
    room for an object around it. A component without any centre stays one object: the
    user may have painted it.

    Parameters
    ----------
    components, labels
        As :func:`split_by_shape` takes them.
    maps : (3, Y + more, X + more) ndarray of float
        As :mod:`napari_seg.models.objects` describes them, with up to `MARGIN` pixels
        around.
    inner : tuple of slice
        Where `components` lies on the maps.

    Returns
    -------
    (Y, X) ndarray of int32
        1 ... n in no particular order, 0 where `components` is.

    Notes
    -----
    Panoptic-DeepLab lets each pixel point to its centre instead (Cheng et al. 2020,
    arXiv:1911.10194, Eq. 1); that broke large nuclei, see ``docs/models.md``.
    """
    return _split(components, labels, _weighted(maps[0], inner), _WEIGHTED_RISE)


def split_by_probability(
    components: NDArray[Any],
    labels: NDArray[np.uint8],
    probability: NDArray[np.floating],
    inner: tuple[slice, slice],
) -> NDArray[Any]:
    """Split components where they are thin, or where the model is less sure of them.

    As :func:`split_by_shape`, but each pixel's distance to the border is weighted with
    the probability of its class: a seam between two cells, which the model sees but
    not clearly enough to leave it out of the mask, is a valley.

    Parameters
    ----------
    components, labels
        As :func:`split_by_shape` takes them.
    probability : (Y + more, X + more) ndarray of float
        Of the classes in `labels`, with up to `MARGIN` pixels around.
    inner : tuple of slice
        Where `components` lies on it.

    Returns
    -------
    (Y, X) ndarray of int32
        1 ... n in no particular order, 0 where `components` is.
    """
    return _split(components, labels, _weighted(probability, inner), _RISE)


def _weighted(said: NDArray[np.floating], inner: tuple[slice, slice]) -> _Surface:
    """Return the distance to the border, weighted with what a model says, 0 to 1."""
    smooth = ndimage.gaussian_filter(said.astype(np.float32), _SMOOTH)[inner]
    weight = np.maximum(smooth, _LEAST).astype(np.float64)

    def surface(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        weighted: NDArray[np.float64] = (weight * _distance(inside)).round(6)
        return weighted

    return surface


def _split(
    components: NDArray[Any],
    labels: NDArray[np.uint8],
    surface: _Surface,
    rise: float,
) -> NDArray[Any]:
    objects = np.zeros(components.shape, np.int32)
    # Components of one class never touch, those of different ones do.
    for each in np.unique(labels[components > 0]):
        found = _split_class((components > 0) & (labels == each), surface, rise)
        objects += np.where(found > 0, found + objects.max(), 0)
    return objects


def _split_class(
    inside: NDArray[np.bool_], surface: _Surface, rise: float
) -> NDArray[np.int32]:
    height = surface(inside)
    components = label(inside, connectivity=2)
    seeds, count = label(
        summits(height, partial(_floor, rise), components),
        connectivity=2,
        return_num=True,
    )
    pixels = np.flatnonzero(seeds)
    owner = np.zeros(count + 1, np.intp)
    owner[seeds.ravel()[pixels]] = components.ravel()[pixels]
    several = np.bincount(owner[1:], minlength=components.max(initial=0) + 1) > 1
    only = np.zeros(len(several), np.int32)
    only[owner[1:]] = np.arange(1, count + 1)
    objects: NDArray[np.int32] = only[components]
    waisted = several[components]
    if waisted.any():
        first = _first_seeds_first(height, seeds)
        flooded = watershed(first, seeds, mask=waisted, connectivity=2)
        objects[waisted] = flooded[waisted]
    return objects


def _distance(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    # As scipy computes it, but only where it is not 0; rounded, since a height is to be
    # exactly that of a saddle or not.
    border = ndimage.distance_transform_edt(
        inside, return_distances=False, return_indices=True
    )
    pixels = np.flatnonzero(inside)
    place = np.divmod(pixels, inside.shape[1])
    down, right = (border[i].ravel()[pixels] - place[i] for i in (0, 1))
    distance: NDArray[np.float64] = np.zeros(inside.shape)
    distance.ravel()[pixels] = np.round(np.sqrt(down * down + right * right), 6)
    return distance


def _floor(rise: float, height: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.minimum(height - rise, height * (1 - _SHARE))
    return below.round(6)


def _first_seeds_first(
    surface: NDArray[np.float64], seeds: NDArray[np.integer]
) -> NDArray[np.float64]:
    # Of equally high pixels of seeds skimage takes any, and which one depends on what
    # else is there. Here it is the first one; they stay before all that is lower.
    height = -surface
    seed = seeds > 0
    height[seed] -= np.linspace(1e-6, 5e-7, np.count_nonzero(seed))
    return height
