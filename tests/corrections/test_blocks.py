"""Blocks hold each vouched voxel once, with the volume around it and no more."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_seg.corrections.blocks import GRID, cut_block, keep_within, plan_blocks
from napari_seg.corrections.windows import (
    cut_windows,
    read_origin,
    read_ranges,
    read_size,
    save_windows,
)
from napari_seg.errors import LabelsError
from napari_seg.scoring.tally import UNKNOWN
from napari_seg.training import guard

SHAPE = (90, 300, 70)


def slices_of(truth):
    return {z: t for z, t in enumerate(truth) if (t != UNKNOWN).any()}


@functools.cache
def volume(shape=SHAPE):
    return np.random.default_rng(0).integers(0, 60_000, shape).astype(np.uint16)


def cut(image, truth, index=(), **options):
    """Return the windows of a volume (Z, Y, X), whose truth may be a mapping."""
    slices = truth if isinstance(truth, dict) else slices_of(truth)
    options = {"minimum": 1, **options}
    return [
        cut_block(block, slices, lambda _, box: image[box], "a b")
        for block in plan_blocks(slices, image.shape[:3], index, **options)
    ]


spots = st.lists(
    st.tuples(*(st.integers(0, n - 1) for n in SHAPE), st.integers(1, 40)),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=40)
@given(spots=spots, anisotropy=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_every_vouched_voxel_is_in_one_window_amid_its_surroundings(spots, anisotropy):
    image = volume()
    truth = np.full(SHAPE, UNKNOWN, np.uint8)
    for z, y, x, side in spots:
        # A slice, as a brush of a plane leaves it, and sometimes more of them.
        truth[z : z + 1 + side // 20, y : y + side, x : x + side] = side % 3
    seen = np.zeros(SHAPE, int)
    around = np.array([16 if anisotropy >= 2 else 32, 32, 32])
    for window in cut(image, truth, anisotropy=anisotropy):
        labelled = window.labels != UNKNOWN
        assert window.vouched == labelled.sum() > 0
        seen[window.box] += labelled
        np.testing.assert_array_equal(window.image, image[window.box])
        np.testing.assert_array_equal(
            window.labels[labelled], truth[window.box][labelled]
        )
        for axis, places in enumerate(np.nonzero(labelled)):
            start, stop = window.box[axis].start, window.box[axis].stop
            before, after = places.min(), stop - start - 1 - places.max()
            assert start % GRID[axis] == 0
            assert stop % GRID[axis] == 0 or stop == SHAPE[axis]
            assert before >= around[axis] or start == 0
            assert after >= around[axis] or stop == SHAPE[axis]
            assert stop - start >= min(2 * around[axis] + 1, SHAPE[axis])
    np.testing.assert_array_equal(seen, truth != UNKNOWN)


def test_the_grid_is_that_of_the_regions_that_are_held_out():
    assert (guard._SLICES, guard._SIDE, guard._SIDE) == GRID


def test_regions_are_the_same_ones_when_more_is_vouched_for():
    """Else one that was held out would be trained on in the next run."""
    image = volume((60, 128, 160))
    truth = np.full(image.shape, UNKNOWN, np.uint8)

    def regions():
        found = set()
        for window in cut(image, truth, anisotropy=2.0):
            pixels = window.image[np.newaxis].astype(np.float32)
            found |= {*guard.region_names([guard.Example(pixels, window.labels)])}
        return found

    truth[20, 100:110, 60:80] = 1
    first = regions()
    truth[50, 10:30, 140:] = 0
    truth[3, :, :] = 0
    assert first < regions()


def test_a_correction_in_one_slice_costs_no_more_than_its_surroundings():
    truth = np.full((400, 500), UNKNOWN, np.uint8)
    truth[200:210, 300:310] = 1
    (block,) = plan_blocks({100: truth}, (1000, 400, 500), anisotropy=2.0)
    assert block.vouched == 100
    assert block.voxels == 48 * 96 * 96
    assert plan_blocks({100: truth}, (1000, 400, 500), minimum=101) == []


def test_only_what_is_needed_is_read():
    boxes = []
    truth = np.full((5000, 5000), UNKNOWN, np.uint8)
    truth[:64, :64], truth[4000:4040, 4900:] = 0, 1
    slices = {7: truth, 3000: truth}

    def reader(index, box):
        boxes.append((index, box))
        return np.zeros([side.stop - side.start for side in box], np.uint8)

    planned = plan_blocks(slices, (4000, 5000, 5000), (2,))
    for block in planned:
        cut_block(block, slices, reader, "a")
    assert [index for index, _ in boxes] == [(2,)] * 4
    assert sum(block.voxels for block in planned) < 4 * 80 * 128 * 160


@pytest.mark.parametrize(
    ("truth", "match"),
    [
        ({0: np.zeros((8, 9), np.uint8)}, "uint8 of shape"),
        ({0: np.zeros((8, 8), np.int64)}, "int64"),
        ({3: np.zeros((8, 8), np.uint8)}, "no slice 3 in a volume of 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(truth, match):
    with pytest.raises(LabelsError, match=match):
        plan_blocks(truth, (3, 8, 8))


@pytest.mark.parametrize("channels", [None, 2, 3, 5])
def test_saved_blocks_are_read_back(tmp_path, channels):
    image = volume((20, 64, 64))
    if channels:
        # As read from an image: channels stand after Z.
        image = np.stack([image + i for i in range(channels)], axis=1)
    truth = {5: np.full((64, 64), 1, np.uint8), 6: np.zeros((64, 64), np.uint8)}
    (block,) = plan_blocks(truth, (20, 64, 64), (3,), anisotropy=2.0)

    def reader(_, box):
        z, *plane = box
        return image[(z, ..., *plane)]

    ranges = np.array([[1.5, 2.5]] * (channels or 1))
    window = cut_block(block, truth, reader, "a b", ranges)
    assert window.name == "a_b__i0003_z00000_y00000_x00000"
    (file,) = save_windows(tmp_path, "a b", iter([window]))
    np.testing.assert_array_equal(tifffile.imread(file), window.image)
    labels = tifffile.imread(tmp_path / "labels" / file.name)
    np.testing.assert_array_equal(labels, window.labels)
    assert labels.shape == (20, 64, 64)
    np.testing.assert_array_equal(read_ranges(file), ranges)
    assert read_origin(file) == ("a_b__i0003_", 0, 0)
    assert read_size(file) == (2 * 64 * 64, 20 * 64 * 64 * (channels or 1))
    assert read_size(tmp_path / "labels" / file.name) is None


def test_windows_of_planes_and_of_volumes_replace_each_other(tmp_path):
    image = volume((20, 64, 64))
    truth = np.ones((64, 64), np.uint8)
    planes = cut_windows(truth, lambda box: image[(3, *box)], "a b", (3,))
    blocks = cut(image, {3: truth})
    (plane,) = save_windows(tmp_path, "a b", planes)
    assert read_size(plane) is None
    (block,) = save_windows(tmp_path, "a b", blocks)
    assert [*(tmp_path / "images").iterdir()] == [block]
    assert save_windows(tmp_path, "a b", planes) == [plane]
    assert [*(tmp_path / "labels").iterdir()] == [tmp_path / "labels" / plane.name]


def test_small_corrections_come_before_large_areas_where_memory_ends():
    sizes = [(900, 50), (10, 40), (300, 60), (11, 30)]
    assert keep_within(sizes, 1000) == [True] * 4
    assert keep_within(sizes, 130) == [False, True, True, True]
    assert keep_within(sizes, 70) == [False, True, False, True]
    assert keep_within([(5, 99)], 10) == [True]
    assert keep_within([], 10) == []


def test_an_image_that_cannot_be_read_is_no_full_disk(tmp_path):
    def windows():
        yield from cut(volume((20, 64, 64)), {3: np.ones((64, 64), np.uint8)})
        raise OSError("the share is gone")

    with pytest.raises(OSError, match=r"^the share is gone$"):
        save_windows(tmp_path, "a b", windows())
