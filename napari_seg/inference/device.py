"""Computing devices: which there are, and their memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from napari_seg.errors import DeviceError

__all__ = [
    "describe_device",
    "is_out_of_memory",
    "mixed_precision",
    "pick_device",
    "release_memory",
    "trains_in_bfloat16",
]


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of that name.

    Parameters
    ----------
    name : str or torch.device
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``: an NVIDIA GPU (or an AMD
        one under ROCm), else Apple's MPS, else the CPU.

    Raises
    ------
    DeviceError
        If the name is unknown or there is no such device here.
    """
    available = _available()
    choices = f"choose auto, {', '.join(available)}"
    if name == "auto":
        # The CPU stands last.
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"Device {name!r} is unknown; {choices}.") from error
    # "cuda" stands for the current one, "cpu:0" for the only one.
    first = {text.partition(":")[0] for text in available}
    if str(device).removesuffix(":0") not in first and str(device) not in available:
        raise DeviceError(
            f"There is no device {str(device)!r} here that PyTorch {torch.__version__} "
            f"can use; {choices}."
        )
    return device


def describe_device(device: torch.device) -> str:
    """Return ``CPU, 8 threads`` or ``GPU: NVIDIA RTX A5000, 24 GB``."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"GPU: {properties.name}, {properties.total_memory / 2**30:.0f} GB"
    if device.type == "mps":
        return "GPU: Apple Metal (MPS)"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"


def mixed_precision(device: torch.device) -> torch.dtype | None:
    """Return the dtype for autocast, or None where float32 is the better choice.

    bfloat16 has the range of float32 and is preferred. On the CPU it pays only with
    matrix instructions (AMX), and made a U-Net slower on the one that we measured.
    """
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        # Before Ampere (compute capability 8), bfloat16 is emulated.
        return torch.bfloat16 if major >= 8 or torch.version.hip else torch.float16
    return torch.float16 if device.type == "mps" else None


def trains_in_bfloat16(device: torch.device) -> bool:
    """Return whether a training step with bfloat16 convolutions is the faster one.

    So it is on NVIDIA GPUs from Ampere on, AMD's, and processors with instructions
    for it: there the step of a small U-Net takes about half the time.
    """
    if device.type == "cuda":
        return mixed_precision(device) is torch.bfloat16
    # Earlier versions of PyTorch do not tell what the processor can do.
    tell: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = tell()
    return device.type == "cpu" and any(
        capabilities.get(name) for name in ("avx512_bf16", "amx_bf16")
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device or the machine lacks memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    # MPS and the CPU's allocator raise a plain RuntimeError.
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in message
        for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def release_memory(device: torch.device) -> None:
    """Hand memory that PyTorch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _available() -> list[str]:
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if not torch.cuda.is_available():
        names = []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]
