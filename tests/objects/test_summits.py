"""Which bumps of a component are objects of their own, and how it is cut at waists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from napari_seg.objects import splitting
from napari_seg.objects.summits import summits


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Draw discs that touch or not, with ragged borders and holes, or only noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    y, x = np.ogrid[:rows, :columns]
    mask = np.zeros((rows, columns), bool)
    for _ in range(draw(st.integers(0, 7))):
        top, left, radius = rng.uniform((0, 0, 1), (rows, columns, 13))
        mask |= (y - top) ** 2 + (x - left) ** 2 < radius**2
    mask ^= rng.random(mask.shape) < draw(st.sampled_from([0, 0.01, 0.1, 0.5]))
    # No distance without a border.
    mask[0, 0] = False
    return mask


def floor(height: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(height - 0.75, height * 0.9).round(6)


def by_shape(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    return splitting.split_by_shape(mask.astype(np.int32), mask.astype(np.uint8))


def by_reconstruction(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the seeds by the definition, with the whole image as one."""
    distance = ndimage.distance_transform_edt(mask)
    lower = np.maximum(np.minimum(distance - 0.75, distance * 0.9), 0)
    filled = reconstruction(lower, distance, method="dilation")
    return local_maxima(np.round(filled, 6)) & mask


@settings(max_examples=120, deadline=None)
@given(masks())
def test_equals_grey_reconstruction(mask):
    components = label(mask, connectivity=2)
    distance = ndimage.distance_transform_edt(mask).round(6)
    found = summits(distance, floor, components)
    np.testing.assert_array_equal(found, by_reconstruction(mask))


@settings(max_examples=60, deadline=None)
@given(masks())
def test_objects_are_the_watershed_of_the_whole(mask):
    seeds = label(by_reconstruction(mask), connectivity=2)
    distance = ndimage.distance_transform_edt(mask).round(6)
    height = splitting._first_seeds_first(distance, seeds)
    expected = watershed(height, seeds, mask=mask, connectivity=2)
    np.testing.assert_array_equal(by_shape(mask), expected)


@settings(max_examples=40, deadline=None)
@given(masks())
def test_no_component_depends_on_the_others(mask):
    components = label(mask, connectivity=2)
    together = by_shape(mask)
    for number in range(1, components.max() + 1):
        alone = by_shape(components == number)
        pairs = np.unique(np.stack([alone, together])[:, components == number], axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("mask", [np.ones((9, 14)), np.zeros((5, 5))])
def test_all_and_nothing(mask):
    found = by_shape(mask.astype(bool))
    assert found.max() == mask.max()
    assert (found > 0).all() == mask.all()
