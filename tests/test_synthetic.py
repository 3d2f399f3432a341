"""The generated truth is exact, and the image shows it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from napari_seg.errors import InputError
from napari_seg.synthetic import Optics, synthetic_nuclei


def test_arrays_are_what_the_docstring_says():
    image, mask, instances = synthetic_nuclei((96, 130), n=8)
    assert image.shape == mask.shape == instances.shape == (96, 130)
    assert (image.dtype, mask.dtype, instances.dtype) == (
        np.uint16,
        np.uint8,
        np.uint16,
    )
    assert np.array_equal(mask, instances > 0)


def test_same_seed_same_field_other_seed_other_field():
    first, again, other = (synthetic_nuclei((64, 64), 5, seed=s) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.instances, other.instances)


@pytest.mark.parametrize("seed", range(5))
def test_nuclei_are_whole_and_numbered_without_gaps(seed):
    instances = synthetic_nuclei(seed=seed, touching=0.6).instances
    assert np.array_equal(np.unique(instances), np.arange(instances.max() + 1))
    assert all(label(nucleus.image).max() == 1 for nucleus in regionprops(instances))


def test_touching_sets_how_many_stand_against_another():
    apart = synthetic_nuclei(n=40, touching=0, seed=1)
    assert label(apart.mask).max() == apart.instances.max() == 40
    clumped = synthetic_nuclei(n=40, touching=0.6, seed=1)
    assert label(clumped.mask).max() < 0.7 * clumped.instances.max()


def test_without_noise_a_threshold_finds_the_mask():
    clean = Optics(
        blur=0, haze=0, unevenness=0, background=0, debris=0, read_noise=0, photons=5000
    )
    image, mask, _ = synthetic_nuclei(optics=clean)
    assert np.mean((image > 100 + 4 * 500) == mask) > 0.99


def test_default_image_is_neither_trivial_nor_hopeless():
    image, mask, _ = synthetic_nuclei()
    found = image > threshold_otsu(image)
    dice = 2 * np.sum(found & (mask == 1)) / (found.sum() + mask.sum())
    assert 0.7 < dice < 0.99


def test_crowded_field_leaves_out_what_finds_no_room():
    crowded = synthetic_nuclei((64, 64), n=200)
    assert 5 < crowded.instances.max() < 200


def test_empty_field_has_background_only():
    image, mask, _ = synthetic_nuclei((64, 64), n=0)
    assert not mask.any()
    assert image.std() > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"shape": (16, 64)}, "at least 32 px"),
        ({"n": -1}, "0 to 65535"),
        ({"touching": 1.5}, "0 to 1"),
        ({"radius": 0.5}, "2 to 200 px"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, told):
    with pytest.raises(InputError, match=told):
        synthetic_nuclei(**arguments)


def test_optics_check_their_ranges():
    with pytest.raises(InputError, match="photons"):
        Optics(photons=0)
