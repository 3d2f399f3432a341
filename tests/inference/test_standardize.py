"""Mean and standard deviation of training images: where they come in, and once only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_seg import adapt_model, create_model, predict
from napari_seg.errors import InputError
from napari_seg.inference.axes import read_axes
from napari_seg.inference.normalization import channel_ranges
from napari_seg.models.base import SegmentationModel
from napari_seg.models.spec import ModelSpec, Normalization
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.examples import prepare_examples, prepare_image
from napari_seg.training.guard import hold_out
from napari_seg.training.loop import Budget, TrainOptions, train
from napari_seg.training.sampling import CropSampler

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
COLOURS = Normalization(mean=MEAN, std=STD)
STILL = AugmentOptions(flips=False, rotation=0, scale=1, intensity=0, blur=0)


@pytest.fixture
def model() -> SegmentationModel:
    torch.manual_seed(0)
    made = create_model("unet", 3, width=4, depth=2, gray_as_rgb=True).eval()
    made.spec = replace(made.spec, normalization=COLOURS)
    return made


def standardized(scaled: np.ndarray) -> torch.Tensor:
    """Return (3, Y, X) of one or three channels, by the definition."""
    x = torch.from_numpy(np.broadcast_to(scaled, (3, *scaled.shape[1:])).copy())
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (x - mean) / std


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
def test_prediction_standardizes_gray_and_rgb(model, shape):
    image = np.random.default_rng(0).integers(0, 4000, shape, np.uint16)
    scaled = prepare_image(image, model.spec)
    with torch.inference_mode():
        expected = model(standardized(scaled)[None])[0].argmax(0)
    result = predict(model, image, device="cpu")
    assert np.array_equal(result.labels, expected)


def inputs_of(model: SegmentationModel) -> list[torch.Tensor]:
    """Return a list that will hold what the first layer is given."""
    given: list[torch.Tensor] = []
    model.get_submodule("encoder.0.0").register_forward_pre_hook(
        lambda _, x: given.append(x[0][0].detach().clone())
    )
    return given


def test_training_sees_what_prediction_sees(model):
    """Augmentation comes before: it works on the scale 0 to 1."""
    image = np.random.default_rng(0).integers(0, 4000, (32, 32, 3), np.uint16)
    examples = prepare_examples([image], [np.zeros((32, 32), np.uint8)], model.spec)
    options = TrainOptions(batch=1, crop=32, augmentation=STILL)
    given = inputs_of(model)
    list(train(model, CropSampler(examples, 32), options, Budget(steps=1)))
    (x,) = given
    torch.testing.assert_close(x, standardized(prepare_image(image, model.spec)))


def test_guard_sees_what_prediction_sees(model):
    image = np.random.default_rng(0).integers(0, 4000, (64, 64), np.uint16)
    examples = prepare_examples([image], [np.zeros((64, 64), np.uint8)], model.spec)
    _, held_out = hold_out(examples, 0.9)
    given = inputs_of(model)
    held_out.confusions(model)
    whole = standardized(prepare_image(image, model.spec))
    assert len(given) == len(held_out) > 0
    for x in given:
        # Regions lie in the corners, and are read with their surroundings.
        side = x.shape[-1]
        ends = (slice(None, side), slice(-side, None))
        corners = [whole[:, rows, columns] for rows in ends for columns in ends]
        assert any(torch.allclose(x, corner, atol=1e-6) for corner in corners)


def test_without_a_mean_nothing_is_done():
    model = create_model("unet", width=4)
    x = torch.rand(1, 1, 32, 32)
    assert model.standardize(x) is x


def test_other_channels_share_the_mean_of_the_means(model):
    adapted = adapt_model(model, in_channels=2).spec.normalization
    assert adapted.mean == (pytest.approx(0.5),)
    assert adapted.std == (pytest.approx(0.3),)
    assert adapt_model(model, classes=["a", "b", "c"]).spec.normalization == COLOURS


@pytest.mark.parametrize(
    ("dtype", "full_range", "expected"),
    [
        (np.uint8, True, (0.0, 255.0)),
        (np.uint8, False, (10.0, 20.0)),
        (np.uint16, True, (10.0, 20.0)),
        (bool, True, (0.0, 1.0)),
    ],
)
def test_only_8_bit_photographs_keep_their_scale(dtype, full_range, expected):
    image = np.linspace(10, 20, 1024).round().reshape(32, 32).astype(dtype)
    spec = ModelSpec("unet", None, 1, ("background", "cat"))
    reading = read_axes(image.shape, image.dtype, spec)
    scale = Normalization(0, 100, full_range=full_range)
    assert channel_ranges(image, reading, scale).tolist() == [list(expected)]


def test_old_descriptions_are_read_and_new_ones_survive_json():
    assert Normalization.from_dict({"low": 2.0, "high": 99.0}) == Normalization(2, 99)
    spec = ModelSpec("unet", None, 3, ("a", "b"), normalization=COLOURS)
    values = spec.to_dict()
    values["normalization"]["mean"] = list(MEAN)
    values["normalization"]["std"] = list(STD)
    values["normalization"]["invented_later"] = 1
    assert ModelSpec.from_dict(values) == spec


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), None), ((0.5,), (0.1, 0.1)), ((0.5,), (0.0,))]
)
def test_halves_of_a_standardization_are_refused(mean, std):
    with pytest.raises(InputError, match="mean"):
        Normalization(mean=mean, std=std)


def test_means_must_fit_the_channels():
    with pytest.raises(InputError, match="3 means"):
        ModelSpec("unet", None, 2, ("a", "b"), normalization=COLOURS)
