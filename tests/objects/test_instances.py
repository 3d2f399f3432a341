"""Masks become objects."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import disk, ellipse
from skimage.measure import label

from napari_seg.errors import InputError
from napari_seg.objects.instances import find_objects
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.objects import object_targets

small_masks = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.sampled_from([0, 1, 1, 2, 255]),
)


def discs(
    *places: tuple[int, int, int], shape: tuple[int, int] = (80, 120)
) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for y, x, radius in places:
        mask[disk((y, x), radius, shape=shape)] = 1
    return mask


def by_first_pixel(ids: np.ndarray) -> np.ndarray:
    """Number objects in the order of their first pixels."""
    found, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(np.where(found == 0, -1, first))
    rank = np.empty(len(found), int)
    rank[order] = np.arange(len(found)) + (0 not in found)
    return rank[inverse].reshape(ids.shape)


@settings(max_examples=60, deadline=None)
@given(small_masks, st.integers(3, 9))
def test_components_are_those_of_scikit_image_whatever_the_blocks(
    mask: np.ndarray, side: int
) -> None:
    found = find_objects(mask, "none", smallest=1, side=side)
    known = np.where(mask == 255, 0, mask)
    np.testing.assert_array_equal(found, by_first_pixel(label(known, connectivity=2)))


@settings(max_examples=60, deadline=None)
@given(small_masks, st.integers(3, 9), st.integers(0, 5))
def test_blocks_leave_no_trace(mask: np.ndarray, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.normal(0.2, 0.4, (3, *mask.shape)).astype(np.float16)
    # As it would come from a network, to the last bit.
    for split in ("shape", "model"):
        whole = find_objects(mask, split, maps=maps, smallest=1)
        blocked = find_objects(mask, split, maps=maps, smallest=1, side=side)
        np.testing.assert_array_equal(whole, blocked)
        np.testing.assert_array_equal(whole > 0, (mask > 0) & (mask < 255))


def test_touching_cells_are_told_apart_by_their_shape() -> None:
    mask = discs((40, 30, 14), (40, 55, 14), (40, 100, 9))
    ids = find_objects(mask)
    assert ids.max() == 3
    assert len({ids[40, 30], ids[40, 55], ids[40, 100]}) == 3
    # The cut is at the waist.
    assert ids[40, 40] == ids[40, 30]
    assert ids[40, 45] == ids[40, 55]
    assert find_objects(mask, "none").max() == 2


@pytest.mark.parametrize("size", [1, 3])
def test_ragged_and_long_objects_stay_whole(size: int) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((160 * size, 160 * size), np.uint8)
    mask[ellipse(80 * size, 80 * size, 70 * size, 45 * size)] = 1
    # Bites out of its border, which grow with it.
    edge = mask.astype(bool) & (ndimage.distance_transform_edt(mask) < 1 + size)
    bites = np.kron(rng.random((160, 160)) < 0.3, np.ones((size, size), bool))
    ragged = np.where(edge & bites, 0, mask)
    # Crumbs at the border are not what this is about.
    assert find_objects(ragged, smallest=200).max() == 1


def test_objects_of_different_classes_never_merge() -> None:
    mask = discs((40, 60, 20))
    mask[:, 60:] *= 2
    ids = find_objects(mask)
    assert sorted(np.unique(ids)) == [0, 1, 2]
    np.testing.assert_array_equal(ids == ids[40, 70], mask == 2)


def test_only_countable_classes_have_objects() -> None:
    mask = discs((20, 20, 8)) + 2 * discs((60, 80, 8))
    countable = np.zeros(256, bool)
    countable[2] = True
    np.testing.assert_array_equal(
        find_objects(mask, countable=countable) > 0, mask == 2
    )


def test_specks_are_left_out() -> None:
    mask = discs((20, 20, 8))
    mask[70, 100:109] = 1
    assert find_objects(mask).max() == 1
    assert find_objects(mask, smallest=9).max() == 2


def test_the_model_splits_where_the_shape_says_nothing() -> None:
    numbers = np.zeros((40, 60), np.uint8)
    numbers[5:35, 5:30], numbers[5:35, 30:55] = 1, 2
    maps, _ = object_targets(numbers)
    ids = find_objects((numbers > 0).astype(np.uint8), "model", maps=maps)
    np.testing.assert_array_equal(ids, numbers)


def test_a_seam_of_doubt_splits_where_the_shape_says_nothing() -> None:
    mask, sure = np.zeros((40, 70), np.uint8), np.full((1, 40, 70), 0.99)
    mask[5:35, 5:65] = 1
    sure[:, :, 33:36] = 0.55
    assert find_objects(mask).max() == 1
    ids = find_objects(mask, "probability", maps=sure)
    assert ids.max() == 2
    assert set(ids[5:35, 5:32].ravel()) == {1}
    assert set(ids[5:35, 37:65].ravel()) == {2}
    # Doubt everywhere is no seam.
    assert find_objects(mask, "probability", maps=np.full_like(sure, 0.4)).max() == 1


@given(st.integers(0, 2**31), st.sampled_from([20, 33, 64]))
@settings(max_examples=20, deadline=None)
def test_doubt_is_seen_alike_in_blocks_of_any_size(seed: int, side: int) -> None:
    drawn = synthetic_nuclei((90, 110), 12, seed=seed % 1000)
    rng = np.random.default_rng(seed)
    sure = ndimage.gaussian_filter(rng.random((1, 90, 110)), (0, 2, 2))
    mask = (drawn.mask > 0).astype(np.uint8)
    np.testing.assert_array_equal(
        find_objects(mask, "probability", maps=sure, side=side),
        find_objects(mask, "probability", maps=sure),
    )


def test_what_the_user_painted_is_an_object_even_if_the_model_sees_none() -> None:
    mask = discs((20, 20, 8), (60, 80, 8))
    maps, _ = object_targets(discs((20, 20, 8)))
    assert find_objects(mask, "model", maps=maps).max() == 2


def test_targets_lead_back_to_their_objects() -> None:
    truth = synthetic_nuclei((256, 256), 40, seed=3).instances
    maps, known = object_targets((truth % 254 + (truth > 0)).astype(np.uint8))
    assert known.all()
    ids = find_objects((truth > 0).astype(np.uint8), "model", maps=maps, smallest=1)
    # Each true object that is one piece is found, with nearly all of its pixels.
    for number in np.unique(truth[truth > 0]):
        inside = ids[truth == number]
        share = np.bincount(inside).max() / len(inside)
        assert share > 0.9


def test_planes_of_a_stack_are_numbered_on() -> None:
    stack = np.stack([discs((20, 20, 8), (60, 80, 8)), discs((30, 30, 8))])
    ids = find_objects(stack)
    assert [sorted(np.unique(plane)) for plane in ids] == [[0, 1, 2], [0, 3]]


def test_lazy_masks_into_zarr() -> None:
    mask = discs((40, 30, 14), (40, 55, 14), (40, 100, 9))
    out = zarr.create_array({}, shape=mask.shape, chunks=(16, 16), dtype="uint32")
    find_objects(da.from_array(mask, chunks=20), out=out, side=32)
    np.testing.assert_array_equal(out[:], find_objects(mask))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="none, shape, probability, model"):
        find_objects(discs((20, 20, 8)), "magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs what the model says"):
        find_objects(discs((20, 20, 8)), "model")
