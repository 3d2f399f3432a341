"""Networks small enough to be made anew in each test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model

CLASSES = ("background", "cytoplasm", "nucleus")


@pytest.fixture
def small_unet() -> Callable[..., SegmentationModel]:
    """Return a maker of U-Nets of 30 thousand parameters, in eval mode."""

    def make(**changes: object) -> SegmentationModel:
        torch.manual_seed(0)
        options = {"in_channels": 2, "classes": CLASSES, "width": 4, "depth": 3}
        return create_model("unet", **(options | changes)).eval()

    return make
