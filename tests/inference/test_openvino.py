"""OpenVINO computes what PyTorch does, and is asked for only where it can."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_seg.errors import InputError
from napari_seg.inference import openvino_runtime, predict
from napari_seg.inference.openvino_runtime import compile_network, is_installed
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.registry import create_model

needs_openvino = pytest.mark.skipif(not is_installed(), reason="needs OpenVINO")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("unet", 1, width=4, depth=2).eval()


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (200, 300), np.uint8)


@needs_openvino
@pytest.mark.parametrize("arch", ["unet", "fcn8s", "deeplabv3plus"])
def test_logits_are_those_of_pytorch_in_any_size(arch):
    torch.manual_seed(0)
    network = create_model(arch, 3).eval()
    compiled = compile_network(network)
    for size in ((64, 96), (128, 64)):
        x = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected = network(x)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)


@needs_openvino
def test_masks_agree(model, image):
    masks = [
        [each.labels for each in stream(model, image, options=options)]
        for options in (
            PredictOptions(tile=64, runtime=runtime)
            for runtime in ("torch", "openvino")
        )
    ]
    differing = sum((a != b).sum() for a, b in zip(*masks, strict=True))
    assert differing <= 1e-4 * image.size


def test_what_lacks_is_said_before_anything_starts(model, image, monkeypatch):
    monkeypatch.setattr(openvino_runtime, "is_installed", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'napari-seg\[openvino\]'"):
        stream(model, image, options=PredictOptions(runtime="openvino"))


@needs_openvino
@pytest.mark.parametrize(
    ("arch", "device"), [("deeplabv3plus", "cpu"), ("unet", "meta")]
)
def test_what_it_cannot_compute_is_said(arch, device, image, monkeypatch):
    monkeypatch.setattr(predict, "pick_device", torch.device)
    model = create_model(arch, 1, encoder="resnet18").eval()
    with pytest.raises(InputError, match="the runtime 'auto' or 'torch'"):
        stream(model, image, device=device, options=PredictOptions(runtime="openvino"))


def test_small_images_are_left_to_pytorch(model, image, monkeypatch):
    monkeypatch.setattr(predict, "is_installed", lambda: True)
    monkeypatch.setattr(
        "napari_seg.inference.runner.compile_network",
        lambda network: pytest.fail("OpenVINO was prepared"),
    )
    assert predict.predict(model, image).labels.shape == image.shape
