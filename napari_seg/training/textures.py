"""Procedural images with their truth.

They teach what the real images of a small collection cannot: that an object may differ
from its ground in brightness, in grain or in the direction of its grain alone, and that
a nucleus is what lies inside a cell, whatever else is dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate
from skimage.draw import ellipse, polygon
from skimage.segmentation import find_boundaries

__all__ = ["DrawnImage", "stained_cells", "textured_objects"]

#: Objects at most; how many find room follows from their sizes.
_OBJECTS = 60


@dataclass(frozen=True)
class DrawnImage:
    """An image and its truth.

    Attributes
    ----------
    image : ndarray of float32, (Y, X) or (Y, X, 3)
        About 0 to 1.
    mask : ndarray of uint8, (Y, X)
        Class ids.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]


def textured_objects(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw ellipses of one size class, filled with another texture than the ground.

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        Gray, with 0 ground, 1 object, 2 the rim where two objects touch or one ends.
    """
    instances = _ellipses(side, rng)
    inside = gaussian_filter((instances > 0).astype(np.float32), rng.uniform(0.3, 1.5))
    ground, filling = _texture(side, rng), _texture(side, rng)
    # Some pairs differ in brightness, some in their grain only.
    step = rng.choice([0, rng.uniform(0.15, 0.5)]) * rng.choice([-1, 1])
    image = ground * (1 - inside) + (filling + step) * inside
    rim = find_boundaries(instances, mode="inner")
    if rng.random() < 0.5:
        image -= rng.uniform(-0.4, 0.4) * gaussian_filter(rim.astype(np.float32), 0.7)
    image += rng.normal(0, rng.uniform(0, 0.08), image.shape)
    low, high = np.percentile(image, (1, 99.8))
    mask = (instances > 0).astype(np.uint8)
    mask[rim] = 2
    return DrawnImage(((image - low) / max(high - low, 1e-6)).astype(np.float32), mask)


def _ellipses(side: int, rng: np.random.Generator) -> NDArray[np.int32]:
    instances = np.zeros((side, side), np.int32)
    size = np.exp(rng.uniform(np.log(5), np.log(side / 6)))
    spread = rng.uniform(1, 1.6)
    for number in range(1, rng.integers(3, _OBJECTS) + 1):
        radius = size * spread ** rng.uniform(-1, 1)
        centre = rng.uniform(0, side, 2)
        rows, columns = ellipse(
            centre[0],
            centre[1],
            radius,
            radius * rng.uniform(0.5, 1),
            shape=instances.shape,
            rotation=rng.uniform(-np.pi, np.pi),
        )
        # An object never hides more than a corner of another.
        if len(rows) and (instances[rows, columns] > 0).mean() < 0.1:
            instances[rows, columns] = number
    return instances


def _texture(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of one grain and direction around 0.5."""
    grain = np.exp(rng.uniform(np.log(0.4), np.log(6)))
    stretch = rng.choice([1, rng.uniform(1, 6)])
    # Turned noise would have empty corners; twice the side has none inside.
    noise = rng.standard_normal((2 * side, 2 * side)).astype(np.float32)
    noise = gaussian_filter(noise, (grain, grain * stretch), mode="wrap")
    turned = rotate(noise, rng.uniform(0, 180), reshape=False, order=1)
    middle = turned[side // 2 : side // 2 + side, side // 2 : side // 2 + side]
    contrast = rng.uniform(0.02, 0.25)
    texture: NDArray[np.float32] = 0.5 + contrast * middle / max(middle.std(), 1e-6)
    return texture


def stained_cells(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw nuclei in cells that absorb light, as in a stained smear or section.

    Cells lie on each other, fold and end in rims, among debris, so that much that is no
    nucleus is as dark as one. What is absorbed adds up (Beer-Lambert law), in one gray
    or in the colours of two stains (Ruifrok & Johnston 2001, "Quantification of
    histochemical staining by color deconvolution").

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        Gray or RGB on a bright ground, with 0 anything else and 1 nucleus.
    """
    radius = np.exp(rng.uniform(np.log(3.5), np.log(side / 10)))
    crowded = rng.random() < 0.5
    most = 0.1 if crowded else 0.04
    count = 1 + rng.poisson((side / radius) ** 2 * rng.uniform(0.01, most))
    body, nucleus, mask = _overlaid_cells(side, radius, count, rng)
    for _ in range(rng.poisson(3)):
        size = radius * rng.choice([rng.uniform(0.1, 0.4), rng.uniform(2, 6)])
        debris = _blob(side, rng.uniform(0, side, 2), size, 0.6, rng)
        body += rng.uniform(0.05, 0.4) * debris
    if crowded:
        body += rng.uniform(0, 0.3)
    body *= 1 + rng.uniform(0.1, 0.6) * (2 * _texture(side, rng) - 1).clip(-1)
    nucleus *= 1 + rng.uniform(0, 0.6) * (2 * _texture(side, rng) - 1).clip(-1)
    blur = rng.uniform(0.4, 1.4)
    layers = gaussian_filter(body, blur), gaussian_filter(nucleus, blur)
    # Optical density of each stain in red, green and blue; gray where all are one.
    stains = rng.uniform(0.15, 1.0, (2, 3)) if rng.random() < 0.6 else np.ones((2, 1))
    density = np.stack(layers, axis=-1) @ stains
    image = np.exp(-density) + rng.normal(0, rng.uniform(0, 0.03), density.shape)
    if image.shape[2] == 1:
        image = image[..., 0]
    return DrawnImage(image.astype(np.float32), mask)


def _overlaid_cells(
    side: int, radius: float, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Return the density of bodies and of nuclei, and where the nuclei are."""
    body, nucleus = np.zeros((2, side, side), np.float32)
    mask = np.zeros((side, side), np.uint8)
    # Pale nuclei lie in paler cells.
    density = rng.uniform(0.03, 0.35)
    for _ in range(count):
        centre = rng.uniform(0, side, 2)
        own = radius * rng.uniform(0.7, 1.3)
        spread = own * rng.uniform(1.8, 6)
        cell = _blob(side, centre, spread, 0.25, rng)
        inner = gaussian_filter(cell, 0.12 * spread)
        # The rim of a cell, or where it folds, is denser than its middle.
        rim = (cell * (1 - inner)) ** 2 * rng.choice([0, rng.uniform(0, 6)])
        body += density * (rng.uniform(0.5, 1.5) * cell + 0.5 * rim)
        if rng.random() < 0.93:
            inside = _blob(side, centre + rng.normal(0, own, 2), own, 0.08, rng)
            dense = 0.1 + density * rng.uniform(1, 4)
            nucleus = np.maximum(nucleus, dense * inside)
            mask |= inside > 0.5
    return body, nucleus, mask


def _blob(
    side: int,
    centre: NDArray[np.float64],
    radius: float,
    roughness: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return 1 inside a rounded outline around `centre` (Y, X), else 0."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = np.ones_like(angles)
    for order in range(2, 7):
        height = roughness * rng.normal() / order**0.5
        reach += height * np.cos(order * (angles - rng.uniform(0, 2 * np.pi)))
    reach = radius * reach.clip(0.2)
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    along, across = reach * np.cos(angles), flat * reach * np.sin(angles)
    blob = np.zeros((side, side), np.float32)
    blob[
        polygon(
            centre[0] + along * np.cos(turn) - across * np.sin(turn),
            centre[1] + along * np.sin(turn) + across * np.cos(turn),
            blob.shape,
        )
    ] = 1
    return blob
