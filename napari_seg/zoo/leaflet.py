"""What people read and see of a package: README and cover."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_seg.colors import class_colors
from napari_seg.models.base import SegmentationModel
from napari_seg.models.spec import Normalization
from napari_seg.zoo.described import Sizes

__all__ = ["cover", "readme"]

_COVER_SIDE = 256


def cover(plane: NDArray[Any], labels: NDArray[Any]) -> Image.Image:
    """Return a picture, twice as wide as high: an image, and the classes found in it.

    Parameters
    ----------
    plane : ndarray
        (C, Y, X), any real dtype.
    labels : ndarray
        (Y, X) class ids.
    """
    shown = plane[:3] if len(plane) >= 3 else plane[:1].repeat(3, axis=0)
    low, high = np.percentile(shown, (1, 99.8))
    scaled = (shown.astype(np.float64) - low) / max(high - low, 1e-12)
    image = (scaled.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    colors = ["#000000", *class_colors(int(labels.max()) + 1)[1:]]
    classes = np.array([list(bytes.fromhex(c[1:])) for c in colors], np.uint8)[labels]
    side = min(image.shape[:2])
    both = np.hstack([part[:side, :side] for part in (image, classes)])
    return Image.fromarray(both).resize((2 * _COVER_SIDE, _COVER_SIDE))


def readme(
    model: SegmentationModel, sizes: Sizes, dtype: np.dtype[Any], documentation: str
) -> str:
    """Return the README in Markdown, with what the specification cannot say."""
    spec = model.spec
    classes = "\n".join(f"- {i}: {name}" for i, name in enumerate(spec.classes))
    parts = [
        f"# {spec.name}",
        f"Semantic segmentation by {spec.label}, made with napari-seg. Each pixel has "
        f"one of these classes, the channels of the output:",
        classes,
        documentation,
        "## Intensities",
        _intensities(spec.normalization, dtype, spec.gray_as_rgb),
        "## Tiles",
        f"Sides are {sizes.least} pixels and multiples of {sizes.step} more. Cut "
        f"{sizes.halo} pixels from each side of a tile, but at the border of the image."
        + (_WHOLE if model.global_context else ""),
        "## Validation",
        "Compare predictions with labels of images that were not trained on, class by "
        "class: IoU and Dice, summed over all pixels before the ratio is taken. "
        "`napari-seg score` does.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_WHOLE = (
    " Something in this network is a mean over its whole input, so a tile does not get "
    "quite what the whole image would; napari-seg gives all tiles one mean."
)


def _intensities(scale: Normalization, dtype: np.dtype[Any], gray_as_rgb: bool) -> str:
    said = (
        f"Percentiles {scale.low:g} and {scale.high:g} of each channel of the whole "
        "image become 0 and 1. Where both are the same, as with a few spots on a black "
        "ground, napari-seg takes the smallest and the largest value instead, which "
        "the description of this package cannot say."
    )
    if scale.full_range:
        described = "8-bit" if dtype == np.uint8 else "other"
        said = (
            "An 8-bit image is divided by 255; any other one is scaled by percentiles "
            f"{scale.low:g} and {scale.high:g} of each channel. The steps in the "
            f"description are those of {described} images."
        )
    if gray_as_rgb:
        said += " A gray image is repeated over the three channels."
    return said
