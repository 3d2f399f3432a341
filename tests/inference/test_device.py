from __future__ import annotations

import pytest
import torch

from napari_seg.errors import DeviceError
from napari_seg.inference.device import (
    describe_device,
    is_out_of_memory,
    mixed_precision,
    pick_device,
    twin,
)
from napari_seg.models.registry import create_model


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


def test_a_twin_shares_weights_but_not_mode_or_hooks() -> None:
    model = create_model("unet", width=4, norm="none").train()

    other = twin(model, torch.device("cpu"))
    other.head.register_forward_hook(lambda *_: None)

    assert model.training
    assert not other.training
    assert not model.head._forward_hooks
    assert all(p.requires_grad for p in model.parameters())
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)


def test_a_twin_folds_batch_norm_and_says_the_same() -> None:
    model = create_model("unet", width=4).train()
    image = torch.rand(2, 1, 48, 64)
    model(image)  # statistics that are not those of the start
    before = {key: value.clone() for key, value in model.state_dict().items()}

    other = twin(model, torch.device("cpu"))

    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in other.modules())
    torch.testing.assert_close(other(image), model.eval()(image), rtol=0, atol=1e-4)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


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
