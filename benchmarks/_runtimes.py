"""One network in several runtimes: each takes a tile and returns its logits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_seg.inference.openvino_runtime import compile_network, is_installed
from napari_seg.inference.twin import fold_batch_norm, twin
from napari_seg.models.base import SegmentationModel

__all__ = ["INSTALL", "SHIPPED", "Missing", "Runtime", "runtimes"]

INSTALL = 'install it with `pip install -e ".[bench]"`'
SHIPPED = "as shipped"
#: (1, C, H, W) float32 → logits (1, K, H, W).
Runtime = Callable[[Tensor], Tensor]

_CPU = torch.device("cpu")
_PLANES, _LAST = torch.contiguous_format, torch.channels_last


class Missing(Exception):
    """What cannot be measured here; the message says why."""


def runtimes(
    model: SegmentationModel, example: Tensor, threads: int
) -> dict[str, Callable[[], Runtime]]:
    """Return what makes each runtime, or raises :class:`Missing`.

    Parameters
    ----------
    model : SegmentationModel
        In evaluation mode, on the CPU.
    example : Tensor
        A tile; those that are compiled take tiles of its shape only.
    threads : int
        Threads of the runtimes that have a pool of their own.
    """
    return {
        SHIPPED: lambda: _torch(twin(model, _CPU), _LAST),
        "contiguous": lambda: _torch(model, _PLANES),
        "channels last": lambda: _torch(model, _LAST),
        "batch norm folded": lambda: _torch(_folded(model), _PLANES),
        "batch norm folded, channels last": lambda: _torch(_folded(model), _LAST),
        "`torch.compile`, frozen weights": lambda: _compiled(model, example),
        "ONNX Runtime": lambda: _onnxruntime(model, example, threads),
        "OpenVINO": lambda: _openvino(model),
    }


def _torch(network: nn.Module, layout: torch.memory_format) -> Runtime:
    @torch.inference_mode()
    def forward(x: Tensor) -> Tensor:
        logits: Tensor = network(x.contiguous(memory_format=layout))
        return logits

    return forward


def _folded(model: SegmentationModel) -> nn.Module:
    folded = deepcopy(model)
    fold_batch_norm(folded)
    return folded


def _compiled(model: SegmentationModel, example: Tensor) -> Runtime:
    # Weights are frozen only where no gradient can be asked for.
    network = deepcopy(model).requires_grad_(False)
    compiled = torch.compile(network, dynamic=False, options={"freezing": True})

    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        logits: Tensor = compiled(x.contiguous(memory_format=_LAST))
        return logits

    try:
        forward(example)
    except (RuntimeError, OSError) as error:
        # Inductor's errors, of which "no C++ compiler" is the usual one.
        reason = str(error).strip().splitlines()[0]
        raise Missing(f"it does not work here: {reason}") from error
    return forward


def _onnxruntime(model: SegmentationModel, example: Tensor, threads: int) -> Runtime:
    try:
        import onnxruntime
    except ImportError as error:
        raise Missing(INSTALL) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    make = partial(onnxruntime.InferenceSession, sess_options=options)
    session = _from_onnx(
        model, example, lambda path: make(path, providers=["CPUExecutionProvider"])
    )
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _openvino(model: SegmentationModel) -> Runtime:
    if not is_installed():
        raise Missing(INSTALL)
    return compile_network(twin(model, _CPU))


def _from_onnx(
    model: SegmentationModel, example: Tensor, read: Callable[[str], Any]
) -> Any:
    """Return what `read` makes of the network's ONNX file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        try:
            with warnings.catch_warnings(), redirect_stdout(StringIO()):
                warnings.simplefilter("ignore")
                torch.onnx.export(model, (example,), path, external_data=False)
        except ImportError as error:
            raise Missing(f"onnx or onnxscript is missing: {INSTALL}") from error
        return read(str(path))
