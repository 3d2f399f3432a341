"""The model that predicts, beside the one that trains."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from napari_seg.inference.twin import twin
from napari_seg.models.registry import create_model


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
    ("architecture", "options"),
    [
        ("unet", {}),
        ("deeplabv3plus", {}),
        ("deeplabv3plus", {"encoder": "resnet18", "separable": True}),
        ("deeplabv3", {"encoder": "resnet18", "output_stride": 16}),
    ],
)
def test_a_twin_gives_the_same_for_tiles_of_any_sequence_of_sizes(
    architecture: str, options: dict[str, Any]
) -> None:
    model = create_model(architecture, **options).eval()
    other = twin(model, torch.device("cpu"))

    with torch.inference_mode():
        for shape in [(1, 1, 64, 96), (1, 1, 32, 32), (2, 1, 96, 128), (1, 1, 64, 96)]:
            x = torch.rand(shape).to(memory_format=torch.channels_last)
            torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_largest_skip_is_let_go_before_maps_of_its_size_are_made() -> None:
    other = twin(create_model("unet", width=4), torch.device("cpu"))
    skips: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    first, last = other.encoder[0], other.decoder[-1].upsample
    first.register_forward_hook(lambda *given: skips.append(weakref.ref(given[2])))
    last.register_forward_pre_hook(lambda *_: alive.append(skips[-1]() is not None))

    with torch.inference_mode():
        other(torch.rand(1, 1, 64, 96))

    assert alive == [False]


def test_separable_convolutions_are_folded_too() -> None:
    model = create_model("deeplabv3plus", encoder="resnet18", separable=True)
    other = twin(model, torch.device("cpu"))
    parts = (*other.aspp.modules(), *other.decoder.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in parts)
