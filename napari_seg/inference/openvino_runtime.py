"""The network in OpenVINO, which an extra installs; for large images on a CPU.

On two AVX2 cores it took the bundled networks' tiles 1.3 to 1.5 times as fast as
PyTorch (``benchmarks/runtimes.py``), with logits that agree to 2e-5. It fuses what
follows a convolution into it, and plans its memory for the whole network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from napari_seg.errors import InputError
from napari_seg.models.base import MIN_SIDE, SegmentationModel

__all__ = ["can_compute", "check_usable", "compile_network", "is_installed"]


def is_installed() -> bool:
    """Return whether OpenVINO is here; it is not loaded for that."""
    return find_spec("openvino") is not None


def can_compute(model: SegmentationModel, device: torch.device) -> bool:
    """Return whether OpenVINO would give the same logits, were it here.

    It computes on a CPU, and cannot be told the mean that tiles of one plane share.
    What comes as a graph has a runtime already.
    """
    return device.type == "cpu" and model.trainable and not model.global_context


def check_usable(model: SegmentationModel, device: torch.device) -> None:
    """Check that a model can be computed with OpenVINO.

    Raises
    ------
    InputError
        If it is not installed, or not for this model or device.
    """
    if not is_installed():
        raise InputError(
            "The runtime is 'openvino', which is not installed: pip install "
            "'napari-seg[openvino]', or choose 'torch'."
        )
    if not can_compute(model, device):
        raise InputError(
            f"OpenVINO cannot compute {model.spec.label} on {device}: only models "
            "of napari-seg without image pooling and group normalisation, on a CPU. "
            "Choose the runtime 'auto' or 'torch'."
        )


def compile_network(network: SegmentationModel) -> Callable[[Tensor], Tensor]:
    """Return what computes the same logits, after about two seconds.

    Parameters
    ----------
    network : SegmentationModel
        In evaluation mode, on the CPU. Its weights are copied.

    Returns
    -------
    callable
        (N, C, H, W) float32 → logits (N, K, H, W), for any H and W that are multiples
        of the stride. The logits are valid until the next call.
    """
    # Imported late: few have it.
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # Some processors would get bfloat16 by default.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(_converted(network), "CPU", settings)
    request = compiled.create_infer_request()

    def forward(x: Tensor) -> Tensor:
        # Neither input nor output is copied.
        answer = request.infer(
            [x.contiguous().numpy()], share_inputs=True, share_outputs=True
        )
        return torch.from_numpy(answer[0])

    return forward


def _converted(network: SegmentationModel) -> Any:
    """Return OpenVINO's graph of a network, for tiles of any size.

    Straight through the frontend: ``openvino.convert_model`` counts its uses online.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    side = max(2 * MIN_SIDE, network.stride)
    example = torch.zeros(1, network.spec.in_channels, side, side)
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing is on its way out of PyTorch, and the checks of an input's size are
        # traced as passed.
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(network, example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))
