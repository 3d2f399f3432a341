from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from napari_seg.inference.halo import exact_halo
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model
from napari_seg.models.spec import ModelSpec


class Convolutions(SegmentationModel):
    """Sees 3 + 1 pixels up and down, 3 + 2 to the left and right."""

    stride = 1

    def __init__(self, weight: float) -> None:
        super().__init__(ModelSpec("unet", None, 1, ("background", "nucleus")))
        self.layers = nn.Sequential(
            nn.Conv2d(1, 2, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(2, 2, (3, 5), padding=(1, 2)),
        )
        for parameter in self.parameters():
            nn.init.constant_(parameter, weight)

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        return self.layers(x), None


@pytest.mark.parametrize("weight", [0.0, 1.0, -1.0])
def test_the_field_of_plain_convolutions_is_known(weight: float) -> None:
    assert exact_halo(Convolutions(weight)) == 5


def test_the_halo_is_on_the_grid_of_the_stride_and_grows_with_depth() -> None:
    halos = [exact_halo(create_model("unet", width=4, depth=d)) for d in (1, 2, 3)]

    assert None not in halos
    assert halos == sorted(halos)
    assert [halo % 2**d for halo, d in zip(halos, (1, 2, 3), strict=True)] == [0, 0, 0]


def test_there_is_none_where_a_pooling_spans_the_image() -> None:
    assert exact_halo(create_model("unet", width=8, depth=2, norm="instance")) is None
    model = create_model("deeplabv3plus", encoder="resnet18")
    assert model.global_context
    assert exact_halo(model) is None


def test_the_model_is_left_as_it_is() -> None:
    model = create_model("unet", width=4, depth=2).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    exact_halo(model)

    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
