"""One tile through the network, on any device."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_seg.inference.device import mixed_precision, release_memory
from napari_seg.inference.openvino_runtime import compile_network
from napari_seg.inference.twin import twin
from napari_seg.inference.zoom import Zoom
from napari_seg.models.base import MIN_SIDE, SegmentationModel
from napari_seg.models.deeplab import ImagePooling
from napari_seg.models.layers import pad_to_multiple
from napari_seg.models.objects import WithObjects

__all__ = ["Cancelled", "Context", "Cost", "TileRunner"]

#: Multiply-accumulates a second that a common device reaches in such networks. A
#: constant instead of a timing: the same image is cut the same way each time.
_RATES = {"cpu": 3.5e10, "mps": 5e11, "cuda": 5e12}
_SECONDS = 0.4
_CPU_BYTES = 800e6
#: What autocast computes with; None is float32.
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
#: Axes that are mirrored, in each of the passes whose mean is taken.
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
#: Smallest probability that has a logarithm to compute with.
_LEAST = 1e-12

#: For each pooling over the whole input, the mean that stands for it: (C,) float32.
Context: TypeAlias = list[Tensor]


class Cancelled(Exception):
    """Raised inside a forward pass that is no longer wanted."""


@dataclass(frozen=True)
class Cost:
    """What a network takes for each pixel of an image.

    Attributes
    ----------
    macs : float
        Multiply-accumulates of the convolutions.
    bytes : float
        Memory at the peak, as eight times the largest feature map in float32. Joined
        skips, input and output of a U-Net's last level come to four, the upsampling
        before them to five; the gaps that the system's allocator leaves between
        blocks of many sizes can be as much again.
    """

    macs: float
    bytes: float

    def budget(self, device: torch.device, cores: int | None = None) -> float:
        """Return the pixels that take about 0.4 s.

        Parameters
        ----------
        device : torch.device
            Where.
        cores : int or None
            Cores of a CPU; None is those that compute here.
        """
        cores = (cores or torch.get_num_threads()) if device.type == "cpu" else 1
        rate = _RATES.get(device.type, _RATES["cpu"]) * cores
        return min(_SECONDS * rate / max(self.macs, 1.0), self.limit(device))

    def limit(self, device: torch.device) -> float:
        """Return the pixels that fit into memory."""
        memory = _CPU_BYTES
        if device.type == "cuda":
            memory = torch.cuda.mem_get_info(device)[0] / 2
        return memory / max(self.bytes, 1.0)


class TileRunner:
    """A model that is ready to run on single tiles.

    Tensors are laid out channels last: with contiguous ones a U-Net of width 16 took
    1.5 times as long on the CPU (torch 2.13), and on GPUs with tensor cores it
    is the native layout. ResNet encoders gained nothing and lost nothing. The weights
    keep their layout: converting them as well was no faster.

    Parameters
    ----------
    model : SegmentationModel
        Left as it is.
    device : torch.device
        Where to run.
    cancelled : callable or None
        Asked before each layer; once it returns True, the pass ends with
        :class:`Cancelled`. A large network on a small machine can so be stopped
        sooner than a tile is done.
    flips : bool
        Average the tile and its mirror images, four passes.
    zoom : Zoom or None
        In which size the network sees the tile.
    precision : str
        ``float32``, ``bfloat16``, or ``auto``, what is faster on the device.
    objects : bool
        Whether the maps of the model's object head follow the classes.

    Attributes
    ----------
    n_classes : int
        Channels of the classes.
    tells_objects : bool
        Whether three channels for objects come behind them.
    lock : RLock
        Whoever shares a runner among threads holds it during a pass and until the
        logits were copied: the memory of the passes is shared.
    """

    def __init__(
        self,
        model: SegmentationModel,
        device: torch.device,
        cancelled: Callable[[], bool] | None = None,
        *,
        flips: bool = False,
        zoom: Zoom | None = None,
        precision: str = "auto",
        objects: bool = False,
    ) -> None:
        self._precision = precision
        self.lock = threading.RLock()
        self.tells_objects = objects
        self.n_classes = model.spec.n_classes
        self.model = WithObjects(model) if objects else model
        self._cancelled = cancelled
        self._flips = flips
        self.zoom = zoom or Zoom()
        self.stride = model.stride
        self.temperature = model.spec.temperature
        self.move(device)

    def move(self, device: torch.device) -> None:
        """Go on with another device."""
        with self.lock:
            self._move(device)

    def _move(self, device: torch.device) -> None:
        self.device = device
        self._dtype = _DTYPES.get(self._precision, mixed_precision(device))
        self._network = twin(self.model, device)
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._poolings = [
            module
            for module in self._network.modules()
            if isinstance(module, ImagePooling)
        ]
        if self._cancelled is not None:
            for module in self._network.modules():
                if next(module.children(), None) is None:
                    module.register_forward_pre_hook(self._check)

    def _check(self, *_: Any) -> None:
        if self._cancelled is not None and self._cancelled():
            raise Cancelled

    def compile(self) -> None:
        """Compute with OpenVINO from now on; on another device with PyTorch again."""
        with self.lock:
            if self._compiled is None:
                self._compiled = compile_network(twin(self.model, self.device))

    def release(self) -> None:
        """Hand the device's memory back."""
        release_memory(self.device)

    @property
    def pools(self) -> bool:
        """Whether something in the network is a mean over its whole input."""
        return bool(self._poolings)

    def context(self, planes: Sequence[NDArray[np.float32]]) -> Context:
        """Return what these tiles of one plane have in common, for :meth:`__call__`."""
        seen: list[list[Tensor]] = [[] for _ in self._poolings]
        handles = [
            pooling.register_forward_pre_hook(
                lambda _, inputs, into=into: into.append(inputs[0].mean((0, 2, 3)))
            )
            for pooling, into in zip(self._poolings, seen, strict=True)
        ]
        try:
            for plane in planes:
                self([plane])
        finally:
            for handle in handles:
                handle.remove()
        return [torch.stack(each).float().mean(0).cpu() for each in seen]

    def __call__(
        self,
        planes: Sequence[NDArray[np.float32]],
        contexts: Sequence[Context | None] = (),
    ) -> Tensor:
        """Return logits of tiles of one shape.

        Parameters
        ----------
        planes : sequence of ndarray
            (C, Y, X) float32 each, of a volume (C, Z, Y, X), scaled to about 0 to 1; C
            is 1 or the model's channels. Y and X are multiples of ``zoom.down``.
        contexts : sequence of (list of Tensor or None)
            What each tile has in common with the others of its plane; without, a tile
            is taken for the whole plane.

        Returns
        -------
        Tensor
            (N, K, [Z,] Y, X) float32 on :attr:`device`, or K + 3 channels with
            objects; with flips the logarithm of the mean probability.
        """
        shape = (len(planes), self.model.spec.in_channels, *planes[0].shape[1:])
        x = torch.empty(
            shape,
            memory_format=self.model.memory_format,
            # From such memory a GPU copies by itself, while the next tile is read.
            pin_memory=self.device.type == "cuda",
        )
        for part, plane in zip(x, planes, strict=True):
            # One gray channel is repeated over all that the model takes.
            part.copy_(torch.from_numpy(plane))
        x = self._network.standardize(x.to(self.device, non_blocking=True))
        x = self.zoom.enlarge(x)
        known = [each for each in contexts if each is not None]
        for i, pooling in enumerate(self._poolings):
            means = [each[i][:, None, None] for each in known]
            pooling.mean = torch.stack(means).to(x.device) if means else None
        return self.zoom.shrink(self._averaged(x) if self._flips else self._checked(x))

    def _averaged(self, x: Tensor) -> Tensor:
        """Return the answer to which the tile and its mirror images agree."""
        height, width = x.shape[-2:]
        # Padded here, so that a mirror image has the grid of strides of its original.
        x = pad_to_multiple(x, self.stride)
        mean = torch.zeros((), device=x.device)
        for axes in _MIRRORS:
            logits = self._checked(x.flip(axes) if axes else x)
            mean = mean + logits.softmax(1).flip(axes) / len(_MIRRORS)
        return mean.clamp(min=_LEAST)[..., :height, :width].log()

    def _checked(self, x: Tensor) -> Tensor:
        logits = self._forward(x)
        if self._dtype is torch.float16 and not bool(logits.isfinite().all()):
            # The range of float16 ends at 65504; this network needs more.
            self._dtype = None
            logits = self._forward(x)
        return logits

    def _forward(self, x: Tensor) -> Tensor:
        if self._compiled is not None:
            self._check()
            return self._compiled(x)
        mixed = self._dtype is not None
        with torch.autocast(self.device.type, dtype=self._dtype, enabled=mixed):
            logits: Tensor = self._network(x)
        return logits.float()

    @cached_property
    def cost(self) -> Cost:
        """What the network takes, told by a pass over the smallest tile."""
        if self.model.per_pixel is not None:
            macs, largest = self.model.per_pixel
            pixels = 1 / self.zoom.factor**2
            return Cost(macs / pixels, 8 * 4 * largest / pixels)
        # On the "meta" device nothing would be computed, but PyTorch imports its
        # compiler for that: a second before the first tile is there.
        network = twin(self.model, next(self.model.parameters()).device)
        side = max(2 * MIN_SIDE, network.stride)
        macs, largest = 0.0, 0.0

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            nonlocal macs, largest
            if not isinstance(output, Tensor):
                # Such as attention in a network of the user's own.
                return
            largest = max(largest, float(output.numel()))
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                macs += module.weight.numel() * output[0, 0].numel()
            elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
                macs += module.weight.numel() * inputs[0][0, 0].numel()

        for module in network.modules():
            if next(module.children(), None) is None:
                module.register_forward_hook(count)
        deep = (network.slice_stride,) * (network.ndim - 2)
        shape = (1, network.spec.in_channels, *deep, side, side)
        with torch.inference_mode():
            network(next(self.model.parameters()).new_zeros(shape))
        pixels = (side / self.zoom.factor) ** 2 * math.prod(deep)
        return Cost(macs / pixels, 8 * 4 * largest / pixels)
