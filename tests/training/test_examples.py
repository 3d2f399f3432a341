"""Images and labels as files hold them become what training draws from."""

from __future__ import annotations

import numpy as np
import pytest

from napari_seg.errors import ChannelError, ImageError, LabelsError
from napari_seg.models.spec import ModelSpec
from napari_seg.training.examples import prepare_examples, prepare_image

GRAY = ModelSpec("unet", None, 1, ("background", "cell"))
RGB = ModelSpec("unet", None, 3, ("background", "cell"), gray_as_rgb=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.int32])
def test_percentiles_become_zero_and_one(dtype):
    image = np.linspace(0, 250, 64 * 64).reshape(64, 64).astype(dtype)
    scaled = prepare_image(image, GRAY)
    assert scaled.shape == (1, 64, 64)
    assert scaled.dtype == np.float32
    low, high = np.percentile(scaled, [GRAY.normalization.low, GRAY.normalization.high])
    assert low == pytest.approx(0, abs=0.01)
    assert high == pytest.approx(1, abs=0.01)


def test_given_ranges_go_before_the_images_own():
    """A window must be scaled as the image it was cut from."""
    image = np.full((32, 32), 30.0)
    assert (prepare_image(image, GRAY, [[10.0, 50.0]]) == 0.5).all()


@pytest.mark.parametrize("shape", [(40, 32), (40, 32, 3), (40, 32, 1)])
def test_a_model_for_rgb_takes_gray_too(shape):
    image = np.random.default_rng(0).random(shape)
    scaled = prepare_image(image, RGB)
    assert scaled.shape == (3, 40, 32)
    if shape[2:] != (3,):
        np.testing.assert_array_equal(scaled[0], scaled[2])


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((64, 64, 3)), ChannelError),
        (np.zeros((20, 64)), ImageError),
        (np.zeros(64), ImageError),
        (np.zeros((2, 2, 64, 64)), ImageError),
        (np.zeros((64, 64), complex), ImageError),
    ],
)
def test_images_that_do_not_fit_are_refused(image, error):
    with pytest.raises(error):
        prepare_image(image, GRAY)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((64, 63), np.uint8), r"\(64, 63\) do not fit .* 64 × 64"),
        (np.zeros((64, 64), np.float32), "dtype float32; they must be integers"),
        (np.full((64, 64), 2), r"class 2, .*\(background, cell\).*adapt_model"),
        (np.full((64, 64), 300), "class 300"),
        (np.full((64, 64), -1), "class -1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(LabelsError, match=message):
        prepare_examples([np.zeros((64, 64))], [labels], GRAY)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint16, np.uint8])
def test_labels_of_any_integer_become_bytes(dtype):
    labels = np.eye(64, dtype=dtype)
    (example,) = prepare_examples([np.zeros((64, 64))], [labels], GRAY)
    assert example.labels.dtype == np.uint8
    np.testing.assert_array_equal(example.labels, np.eye(64))


def test_each_image_needs_its_labels():
    with pytest.raises(LabelsError, match="2 images and 1 label images"):
        prepare_examples([np.zeros((64, 64))] * 2, [np.zeros((64, 64), int)], GRAY)
