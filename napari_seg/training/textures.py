"""Procedural images: textured objects on a textured ground, with their truth.

They teach what the real images of a small collection cannot: that an object may differ
from its ground in brightness, in grain or in the direction of its grain alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate
from skimage.draw import ellipse
from skimage.segmentation import find_boundaries

__all__ = ["TexturedObjects", "textured_objects"]

#: Objects at most; how many find room follows from their sizes.
_OBJECTS = 60


@dataclass(frozen=True)
class TexturedObjects:
    """An image and its truth.

    Attributes
    ----------
    image : ndarray of float32, (Y, X)
        About 0 to 1.
    mask : ndarray of uint8, (Y, X)
        0 ground, 1 object, 2 the rim where two objects touch or one ends.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]


def textured_objects(side: int, rng: np.random.Generator) -> TexturedObjects:
    """Draw ellipses of one size class, filled with another texture than the ground.

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    TexturedObjects
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
    return TexturedObjects(
        ((image - low) / max(high - low, 1e-6)).astype(np.float32), mask
    )


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
