"""A network of the user's own, with what the rest of the program needs around it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.layers import pad_to_multiple
from napari_seg.models.registrations import Registration
from napari_seg.models.spec import ModelSpec

__all__ = ["CustomModel"]


class CustomModel(SegmentationModel):
    """A network that was registered.

    Parameters
    ----------
    spec : ModelSpec
        ``spec.arch`` is the name under which the network is registered.
    registration : Registration
        How it is made.

    Attributes
    ----------
    network : nn.Module
        What the factory has made.
    """

    def __init__(self, spec: ModelSpec, registration: Registration) -> None:
        super().__init__(spec)
        self._registration = registration
        self.stride, self.halo = registration.stride, registration.halo
        network = registration.factory(spec.in_channels, spec.n_classes)
        if not isinstance(network, nn.Module):
            raise InputError(
                f"The factory of {spec.arch!r} returned a {type(network).__name__}; it "
                "has to return a torch.nn.Module."
            )
        self.network = network

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, K, H, W).

        Raises
        ------
        InputError
            If the network answers in another form.
        """
        height, width = x.shape[-2:]
        answer = self.network(pad_to_multiple(x, self.stride))
        self._check_answer(x, answer)
        return answer[..., :height, :width], None

    def _check_answer(self, x: Tensor, answer: object) -> None:
        shape = getattr(answer, "shape", None)
        expected = (len(x), self.spec.n_classes)
        size = tuple(-(-side // self.stride) * self.stride for side in x.shape[-2:])
        if not isinstance(answer, Tensor) or tuple(answer.shape) != (*expected, *size):
            got = type(answer).__name__ if shape is None else f"shape {tuple(shape)}"
            raise InputError(
                f"The network {self.spec.arch!r} answered an input of shape "
                f"{(*x.shape[:2], *size)} with {got}; it has to return one tensor of "
                f"shape {(*expected, *size)}: logits, a channel for each class."
            )

    def name_layers(self) -> None:
        """Find out which layers depend on the channels and on the classes.

        The network is made twice more, with one channel and one class more, and its
        shapes are compared.

        Raises
        ------
        InputError
            If the factory ignores them.
        """
        spec, make = self.spec, self._registration.factory
        mine = _shapes(self.network)
        wider = _shapes(make(spec.in_channels + 1, spec.n_classes))
        more = _shapes(make(spec.in_channels, spec.n_classes + 1))
        first = [*_changed(mine, wider, axis=1)]
        last = dict.fromkeys(_changed(mine, more, axis=0))
        if not (first and last):
            raise InputError(
                f"The factory of {spec.arch!r} makes the same network whatever the "
                "number of channels and classes, which therefore cannot be changed."
            )
        self.first_layer, self.class_layers = first[0], tuple(last)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def _changed(
    before: dict[str, torch.Size], after: dict[str, torch.Size], axis: int
) -> Iterator[str]:
    """Yield the layers of which a tensor has one more along an axis."""
    for key, shape in before.items():
        other = after.get(key, shape)
        if len(shape) > axis and len(other) == len(shape) and shape != other:
            grown = [b - a for a, b in zip(shape, other, strict=True)]
            if grown[axis] == 1:
                yield f"network.{key}".rpartition(".")[0]
