"""A package as a model that predicts."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_seg.errors import ModelFileError
from napari_seg.models.base import MIN_SIDE, SegmentationModel
from napari_seg.zoo.graph import Graph
from napari_seg.zoo.reading import Description, as_form, planes

__all__ = ["PackageModel"]


class PackageModel(SegmentationModel):
    """The network of a package, between what comes before and after it.

    It computes on the CPU, whatever the device, and cannot be trained.

    Parameters
    ----------
    description : Description
        Of the package.
    graph : Graph
        Its network.
    """

    trainable: ClassVar[bool] = False

    def __init__(self, description: Description, graph: Graph) -> None:
        super().__init__(description.spec)
        self.description, self._graph = description, graph
        self.stride, self.halo = description.stride, description.halo

    def standardize(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) as the network wants them."""
        x = super().standardize(x)
        for step in self.description.steps:
            x = step(x)
        return x

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, K, H, W) of classes.

        Raises
        ------
        ModelFileError
            If the network fails, or answers in another form than it should.
        """
        height, width = x.shape[-2:]
        bottom, right = (
            self._padding(side, i) for i, side in enumerate((height, width))
        )
        padded = F.pad(x, (0, right, 0, bottom), mode="replicate")
        given, returned = self.description.given, self.description.returned
        answers = []
        # One by one: many graphs take a batch of one only.
        for image in padded.float().cpu().numpy():
            answer = self._graph(as_form(image[np.newaxis], given))
            expected = (1, returned.channels, *padded.shape[-2:])
            if answer.ndim != len(returned.axes) or (
                planes(answer, returned).shape != expected
            ):
                raise ModelFileError(
                    f"The network of {self.spec.name} answers with shape "
                    f"{answer.shape} where its description says {expected} (batch, "
                    "channel, y, x); the package does not keep to it."
                )
            answers.append(torch.tensor(planes(answer, returned)[0]))
        raw = torch.stack(answers)[..., :height, :width].to(x.device)
        return self.description.answer.logits(raw), None

    def _padding(self, length: int, axis: int) -> int:
        """Return by how much an axis, 0 for y, has to grow for the network."""
        side = self.description.given.sides[axis]
        more = max(length - side.least, 0)
        return side.least + -(-more // side.step) * side.step - length

    @cached_property
    def per_pixel(self) -> tuple[float, float]:  # type: ignore[override]
        """Multiply-accumulates, and numbers in the largest map, for each pixel."""
        sides = [side.least for side in self.description.given.sides]
        shape = [
            side + self._padding(side, i)
            for i, side in enumerate(max(2 * MIN_SIDE, side) for side in sides)
        ]
        x = np.zeros((1, self.spec.in_channels, *shape), np.float32)
        macs, largest = self._graph.cost(as_form(x, self.description.given))
        pixels = shape[0] * shape[1]
        return macs / pixels, largest / pixels
