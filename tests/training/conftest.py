"""A tiny network and a task that it can learn in a second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model
from napari_seg.training.sampling import Example

Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture
def tiny_unet() -> Callable[..., SegmentationModel]:
    """Return a maker of U-Nets of 7 thousand parameters."""

    def make(**changes: object) -> SegmentationModel:
        torch.manual_seed(0)
        options = {"in_channels": 1, "width": 4, "depth": 2}
        return create_model("unet", **(options | changes))

    return make


def squares(seed: int, shape: tuple[int, int] = (96, 96)) -> Pair:
    """Return bright squares on noise, (Y, X), and where they are."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for top, left in rng.integers(0, np.subtract(shape, 14), (8, 2)):
        labels[top : top + 14, left : left + 14] = 1
    image = 0.2 + 0.5 * labels + rng.normal(0, 0.1, shape)
    return image.astype(np.float32), labels


@pytest.fixture
def make_squares() -> Callable[..., Pair]:
    return squares


@pytest.fixture
def toy_examples() -> list[Example]:
    """Three images of bright squares."""
    pairs = (squares(seed) for seed in range(3))
    return [Example(image[None], labels) for image, labels in pairs]
