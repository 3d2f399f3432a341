"""How many feature maps are in memory at once: most of what a prediction takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from napari_seg.inference.runner import TileRunner
from napari_seg.models.registry import create_model

#: Channels of the largest maps.
WIDTH = 16


class Watch(TorchDispatchMode):
    """Adds up the memory of all tensors that are alive after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[weakref.ref[torch.Tensor]] = []
        self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self._seen += [weakref.ref(t) for t in tree_leaves(made) if torch.is_tensor(t)]
        alive = [t for t in (ref() for ref in self._seen) if t is not None]
        self._seen = [weakref.ref(tensor) for tensor in alive]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in alive}
        self.peak = max(self.peak, sum(each.nbytes() for each in storages.values()))
        return made


@pytest.mark.parametrize(
    ("architecture", "options", "most"),
    [
        # In maps as large as the largest: what is joined, twice as wide, input and
        # output of the last convolution, and the small input of the network.
        ("unet", {"width": 16}, 4.2),
        ("unet3d", {"width": 16}, 4.2),
        ("unet", {"encoder": "resnet18"}, 4.7),
        # The decoder of the objects waits for the skips, which come to two.
        ("unet", {"width": 16, "object_head": True}, 6.2),
    ],
)
def test_a_map_is_let_go_once_it_was_used(
    architecture: str, options: dict[str, Any], most: float
) -> None:
    model = create_model(architecture, **options).eval()
    objects = model.spec.object_head
    runner = TileRunner(model, torch.device("cpu"), objects=objects)
    shape = (1, 8, 64, 64) if model.ndim == 3 else (1, 192, 192)
    plane = np.zeros(shape, np.float32)
    largest = 4 * WIDTH * plane.size

    for _ in range(2):
        with torch.inference_mode(), Watch() as watch:
            runner([plane])
        assert 2 * largest < watch.peak <= most * largest
