"""MONAI's sliding window on one image, in all settings that are worth a try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from benchmarks._runtimes import INSTALL, Missing
from napari_seg.models.base import SegmentationModel

__all__ = ["Sliding", "sliding_windows"]

OVERLAP = 0.125
_TILES, _BATCHES = (256, 512, 1024), (1, 4)


@dataclass(frozen=True)
class Sliding:
    """One setting of ``sliding_window_inference``, with Gaussian weights."""

    tile: int
    batch: int
    channels_last: bool

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "planes"
        return f"tiles of {self.tile}² px, {self.batch} at once, {layout}"

    def on(self, model: SegmentationModel, x: Tensor) -> Callable[[], Tensor]:
        """Return what computes the logits (1, K, H, W) of an image.

        Raises
        ------
        Missing
            Without MONAI.
        """
        try:
            from monai.inferers import sliding_window_inference
        except ImportError as error:
            raise Missing(INSTALL) from error
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        image = x.contiguous(memory_format=layout)

        def network(windows: Tensor) -> Tensor:
            logits: Tensor = model(windows.contiguous(memory_format=layout))
            return logits

        @torch.inference_mode()
        def slide() -> Tensor:
            logits: Tensor = sliding_window_inference(
                image, self.tile, self.batch, network, overlap=OVERLAP, mode="gaussian"
            )
            return logits

        return slide


def sliding_windows() -> list[Sliding]:
    """Return the settings, of which the fastest is compared."""
    return [Sliding(*each) for each in product(_TILES, _BATCHES, (False, True))]
