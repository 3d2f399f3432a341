"""Networks as ONNX and TorchScript, for other programs.

Either holds :meth:`~napari_seg.models.base.SegmentationModel.forward`: scaled
intensities → logits. How intensities are scaled is described inside the file, since no
program can tell it from the graph.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_seg.errors import InputError
from napari_seg.inference.twin import fold_batch_norm
from napari_seg.models.base import MIN_SIDE, SegmentationModel
from napari_seg.models.spec import ModelSpec
from napari_seg.writer import replacing
from napari_seg.zoo.extra import need

__all__ = [
    "INPUT",
    "KEY",
    "OPSET",
    "OUTPUT",
    "export_onnx",
    "export_torchscript",
    "shared_spec",
    "whole_file",
]

#: Version of the ONNX operators: the first in which resizing is antialiased, too, and
#: one that ONNX Runtime has known since 1.14 (2023).
OPSET = 18
#: Names of input and output.
INPUT, OUTPUT = "image", "logits"
#: Under which the description of the model stands in the file.
KEY = "napari_seg"
#: An example whose sides are no multiples of any stride.
_ODD = (5, 11)
#: Slices of an example for a model that sees volumes.
_DEPTH = 9


def export_torchscript(model: SegmentationModel, path: str | os.PathLike[str]) -> Path:
    """Write a model as TorchScript, for PyTorch without napari-seg.

    Parameters
    ----------
    model : SegmentationModel
        Any device, any mode; left as it is.
    path : path-like
        ``.pt`` is added where there is no suffix. ``torch.jit.load`` opens the file:
        (N, C, H, W) float32 on the scale of ``model.standardize`` → logits
        (N, K, H, W), H and W of at least 32, with D before them for a model that sees
        volumes. Its extra file ``napari_seg`` describes the model in JSON.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If a network of the user's own cannot be traced.
    NotTrainableError
        If the model is a graph of another program.
    StorageError
        If the file cannot be written.
    """
    network, example = _ready(model)
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing is on its way out of PyTorch, and the checks of an input's size are
        # traced as passed.
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace(network, example, check_trace=False)
        except RuntimeError as error:
            raise _untraceable(model, error) from error
        extra = {KEY: _described(model)}
        return whole_file(
            path, ".pt", lambda file: torch.jit.save(traced, file, _extra_files=extra)
        )


def export_onnx(model: SegmentationModel, path: str | os.PathLike[str]) -> Path:
    """Write a model as ONNX, opset 18, for ONNX Runtime, OpenVINO and others.

    Parameters
    ----------
    model : SegmentationModel
        Any device, any mode; left as it is.
    path : path-like
        ``.onnx`` is added where there is no suffix. Input ``image`` (N, C, H, W)
        float32 on the scale of ``model.standardize``, output ``logits``
        (N, K, H, W); N, H and W are free, H and W of at least 32. A model that sees
        volumes has D, as free, before them. The metadata property ``napari_seg``
        describes the model in JSON.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the extra ``zoo`` is not installed, or a network of the user's own cannot
        be traced.
    NotTrainableError
        If the model is a graph of another program.
    StorageError
        If the file cannot be written.
    """
    need("Export to ONNX", "onnx")
    # Imported late: few have it.
    import onnx

    network, example = _ready(model)

    def write(file: str) -> None:
        _export_graph(model, network, example, file)
        graph = onnx.load(file)
        onnx.helper.set_model_props(graph, {KEY: _described(model)})
        onnx.save(graph, file)

    return whole_file(path, ".onnx", write)


def _export_graph(
    model: SegmentationModel, network: nn.Module, example: torch.Tensor, file: str
) -> None:
    sides = "DHW" if model.spec.ndim == 3 else "HW"
    free = {0: "N", **dict(enumerate(sides, start=2))}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # By tracing. The newer exporter took 20 times as long for the same graph,
            # and names the sides of its output by formulas (torch 2.13).
            torch.onnx.export(
                network,
                (example,),
                file,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_axes={INPUT: free, OUTPUT: free},
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise _untraceable(model, error) from error


def _ready(model: SegmentationModel) -> tuple[SegmentationModel, torch.Tensor]:
    """Return a copy that computes on the CPU as in prediction, and an example for it.

    Raises
    ------
    NotTrainableError
        If the model is a graph already.
    """
    model.check_trainable()
    network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    fold_batch_norm(network)
    side = max(2 * MIN_SIDE, 2 * network.stride)
    sides = [side + odd for odd in _ODD]
    if network.spec.ndim == 3:
        sides.insert(0, _DEPTH)
    return network, torch.rand(2, network.spec.in_channels, *sides)


def shared_spec(spec: ModelSpec) -> dict[str, Any]:
    """Return a description for others: without the history, which names images."""
    return replace(spec, history=()).to_dict()


def _described(model: SegmentationModel) -> str:
    return json.dumps(
        {
            "spec": shared_spec(model.spec),
            "stride": model.stride,
            "halo": model.halo,
            "input": "Percentiles of each channel of the whole image, normalization."
            "low and .high, become 0 and 1 (an 8-bit image is divided by 255 instead "
            "where full_range is true); clipped to normalization.clip; then "
            "normalization.mean is subtracted, and the rest divided by .std, if any.",
        }
    )


def _untraceable(model: SegmentationModel, error: Exception) -> InputError:
    return InputError(
        f"{model.spec.label} cannot be written as a graph: "
        f"{str(error).strip().splitlines()[0]} A network of your own has to consist "
        "of operations that PyTorch can trace."
    )


def whole_file(
    path: str | os.PathLike[str], suffix: str, write: Callable[[str], None]
) -> Path:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file.
    suffix : str
        What is added where there is none.
    write : callable
        Called with the name of a file that takes its place in the end.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    target = Path(path).expanduser()
    if not target.suffix:
        target = target.with_name(target.name + suffix)
    with replacing(target) as part:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(str(part))
    return target
