from __future__ import annotations

import pytest
import torch

from napari_seg.errors import DeviceError
from napari_seg.inference.device import (
    describe_device,
    is_out_of_memory,
    mixed_precision,
    pick_device,
    trains_in_bfloat16,
)


def test_the_cpu_is_always_there() -> None:
    cpu = pick_device("cpu")

    assert cpu == pick_device(torch.device("cpu")) == torch.device("cpu")
    assert describe_device(cpu).startswith("CPU, ")
    assert mixed_precision(cpu) is None


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert pick_device("auto") == torch.device("cuda:0")
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"'cuda:2'.*cuda:0, cuda:1"):
        pick_device("cuda:2")


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"no device 'cuda' here.*choose auto, cpu"):
        pick_device("cuda")
    with pytest.raises(DeviceError, match="no device 'mps' here"):
        pick_device("mps")
    with pytest.raises(DeviceError, match="'gpu' is unknown; choose auto, cpu"):
        pick_device("gpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"neon": True}, False),
    ],
)
def test_processors_that_know_bfloat16_train_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    assert trains_in_bfloat16(torch.device("cpu")) is expected
    assert not trains_in_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(("major", "expected"), [(7, False), (8, True), (9, True)])
def test_gpus_train_in_it_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, major: int, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 0))
    assert trains_in_bfloat16(torch.device("cuda")) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(
    error: BaseException, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected
