from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_seg import create_model, load_model, predict
from napari_seg.errors import InputError
from napari_seg.inference.halo import exact_halo
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.inference.zoom import Zoom, resize_image, resize_labels
from napari_seg.models.base import SegmentationModel
from napari_seg.scoring.confusion import Scores, confusion_matrix
from napari_seg.synthetic import synthetic_nuclei

FACTORS = st.floats(1 / 16, 16)


@given(FACTORS)
def test_nearest_ratio(factor: float) -> None:
    zoom = Zoom.near(factor)
    assert abs(log(zoom.factor / factor)) < 0.06
    assert min(zoom.up, zoom.down) <= 16


@given(FACTORS, st.sampled_from([1, 8, 16, 32]))
def test_grids_coincide(factor: float, stride: int) -> None:
    zoom = Zoom.near(factor)
    step = zoom.stride(stride)
    assert step % zoom.down == 0
    assert step * zoom.up // zoom.down % stride == 0


@pytest.mark.parametrize("factor", [0.0, 0.06, 16.1, float("nan"), -1.0])
def test_factors_that_are_none(factor: float) -> None:
    with pytest.raises(InputError, match=r"zoom is .*it can be"):
        Zoom.near(factor)


@pytest.fixture(scope="module")
def unet() -> SegmentationModel:
    torch.manual_seed(0)
    model = create_model("unet", width=4, depth=2).eval()
    field = synthetic_nuclei((64, 64), 8, seed=1).image
    x = torch.from_numpy(field / field.max()).float()[None, None]
    with torch.no_grad():
        model.head.bias -= model(x).flatten(2).median(-1).values[0]
    return model


@pytest.mark.parametrize("factor", [0.5, 0.3, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("shape", [(200, 333), (47, 150)])
def test_no_seam(
    unet: SegmentationModel, factor: float, shape: tuple[int, int]
) -> None:
    """With the whole receptive field as halo tiles equal one pass."""
    image = synthetic_nuclei(shape, 12, seed=0).image
    halo = Zoom.near(factor).in_image(exact_halo(unet) or 0) + 32

    def confidence(tile: int) -> np.ndarray:
        options = PredictOptions(zoom=factor, tile=tile, halo=halo, confidence=True)
        parts = stream(unet, image, device="cpu", options=options)
        found = np.zeros(shape, np.float32)
        for part in parts:
            found[part.region] = part.confidence
        return found

    np.testing.assert_allclose(confidence(64), confidence(4096), atol=1e-4)


def test_an_enlarged_image_needs_a_smaller_zoom() -> None:
    field = synthetic_nuclei((192, 192), 18, seed=3)
    model = load_model("nuclei-fast")
    large = field.image.repeat(4, 0).repeat(4, 1)
    truth = field.mask.repeat(4, 0).repeat(4, 1)

    def dice(zoom: float) -> float:
        labels = predict(model, large, zoom=zoom, flips=False).labels
        return float(Scores(confusion_matrix(labels, truth, 2)).dice[1])

    assert dice(0.25) > 0.9
    assert dice(0.25) > dice(1.0) + 0.05


def test_pairs_for_training() -> None:
    field = synthetic_nuclei((100, 130), 9, seed=0)
    image, labels = field.image[..., None], field.mask
    half, small = resize_image(image, 0.5), resize_labels(labels, 0.5)
    assert half.shape == (50, 65, 1)
    assert small.shape == (50, 65)
    assert small.dtype == labels.dtype
    np.testing.assert_array_equal(resize_labels(labels, 1.0), labels)
    # Both are still over each other.
    big = resize_labels(small, 2.0)
    assert (big == labels).mean() > 0.97
    assert set(np.unique(small)) <= set(np.unique(labels))
