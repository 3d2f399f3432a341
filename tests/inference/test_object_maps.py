"""What an object head says, read like an array."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_seg.errors import InputError
from napari_seg.inference.axes import read_axes
from napari_seg.inference.object_maps import ClassProbability, ObjectMaps, Seen
from napari_seg.inference.predict import PredictOptions, predict, stream
from napari_seg.models.registry import create_model
from napari_seg.objects.numbering import number_objects
from napari_seg.synthetic import synthetic_nuclei

OPTIONS = PredictOptions(tile=64, flips=True, confidence=True)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = create_model("unet", width=4, depth=2, object_head=True).eval()
    model.halo = 48
    return model


@pytest.fixture(scope="module")
def image():
    plane = synthetic_nuclei((100, 130), 9, seed=1).image
    return np.stack([plane, plane[::-1]])


def test_a_box_is_what_the_whole_plane_says(net, image):
    reading = read_axes(image.shape, image.dtype, net.spec, "TYX")
    maps = ObjectMaps(Seen(net, image, reading, options=OPTIONS))
    assert maps.shape == (2, 3, 100, 130)
    whole = np.zeros((2, 3, 100, 130), np.float16)
    for tile in stream(net, image, axes="TYX", objects=True):
        whole[(tile.index[0], slice(None), *tile.box)] = tile.objects
    box = np.s_[1, :, 30:77, 5:118]
    np.testing.assert_allclose(
        maps[box].astype(np.float32), whole[box].astype(np.float32), atol=0.02
    )


def test_objects_are_split_by_maps_that_nobody_holds(net, image):
    labels = np.ones(image.shape, np.uint8)
    reading = read_axes(image.shape, image.dtype, net.spec, "TYX")
    maps = ObjectMaps(Seen(net, image, reading))
    whole = np.stack([maps[t, :, slice(0, 100), slice(0, 130)] for t in (0, 1)])
    np.testing.assert_array_equal(
        number_objects(labels, "T", "model", maps=maps),
        number_objects(labels, "T", "model", maps=whole),
    )


def test_a_model_without_a_head_is_refused(image):
    model = create_model("unet", width=4, depth=2)
    reading = read_axes(image.shape, image.dtype, model.spec, "TYX")
    with pytest.raises(InputError, match="does not tell objects apart"):
        ObjectMaps(Seen(model, image, reading))


def test_the_probability_of_the_mask_is_what_the_model_says_of_it(net, image):
    reading = read_axes(image.shape, image.dtype, net.spec, "TYX")
    found = predict(net, image, axes="TYX", confidence=True)
    corrected = found.labels.copy()
    corrected[1, 40:60] = 1 - corrected[1, 40:60]
    maps = ClassProbability(Seen(net, image, reading), corrected)
    assert maps.shape == (2, 1, 100, 130)
    box = np.s_[30:77, 5:118]
    sure = found.confidence[1][box]
    same = (corrected == found.labels)[1][box]
    assert 0 < same.mean() < 1
    np.testing.assert_allclose(
        maps[(1, slice(None), *box)][0], np.where(same, sure, 1 - sure), atol=0.02
    )


def test_volumes_have_no_probability_of_a_plane(image):
    model = create_model("unet3d", width=2, depth=2)
    reading = read_axes(image.shape, image.dtype, model.spec, "ZYX")
    with pytest.raises(InputError, match="by their shape"):
        ClassProbability(Seen(model, image, reading), np.zeros(image.shape, np.uint8))
