from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_seg.inference.tiling import (
    Tile,
    choose_tile,
    clip_box,
    make_tile,
    plan_tiles,
    read_area,
    split_tile,
)

SIDES = st.integers(32, 700)
SHAPES = st.tuples(SIDES, SIDES)
STRIDES = st.sampled_from([1, 8, 16, 32])
HALOS = st.integers(0, 200)


def count(tiles: list[Tile], shape: tuple[int, int]) -> np.ndarray:
    counts = np.zeros(shape, int)
    for tile in tiles:
        counts[tile.core] += 1
    return counts


@given(shape=SHAPES, tile=st.integers(32, 800), halo=HALOS, stride=STRIDES)
def test_cores_partition_the_plane(
    shape: tuple[int, int], tile: int, halo: int, stride: int
) -> None:
    tiles = plan_tiles(shape, tile, halo, stride)

    assert (count(tiles, shape) == 1).all()
    for planned in tiles:
        for core, read, length in zip(planned.core, planned.read, shape, strict=True):
            padded = -(-length // stride) * stride
            assert core.stop - core.start <= max(tile, stride)
            assert read.start % stride == 0
            assert read.stop % stride == 0 or read.stop == padded
            assert read.start <= max(0, core.start - halo)
            assert read.stop >= min(padded, core.stop + halo)
            assert read.start >= 0
            assert read.stop <= padded
            assert read.stop - read.start >= 32


@given(shape=SHAPES, stride=STRIDES, data=st.data())
def test_cores_partition_the_box_they_are_limited_to(
    shape: tuple[int, int], stride: int, data: st.DataObject
) -> None:
    spans = [
        sorted(data.draw(st.tuples(st.integers(-50, 800), st.integers(-50, 800))))
        for _ in shape
    ]
    box = tuple(slice(start, stop) for start, stop in spans)

    tiles = plan_tiles(shape, 128, 32, stride, within=(box[0], box[1]))

    inside = np.zeros(shape, int)
    inside[clip_box((box[0], box[1]), shape)] = 1
    np.testing.assert_array_equal(count(tiles, shape), inside)


@given(shape=SHAPES, halo=HALOS, stride=STRIDES, budget=st.floats(1e3, 1e6))
def test_the_chosen_tile_covers_the_plane(
    shape: tuple[int, int], halo: int, stride: int, budget: float
) -> None:
    sides = choose_tile(shape, halo, stride, budget, 2 * budget)

    assert all(side % stride == 0 and side > 0 for side in sides)
    tiles = plan_tiles(shape, sides, halo, stride)
    assert (count(tiles, shape) == 1).all()
    small = read_area(make_tile((slice(0, shape[0]), slice(0, shape[1])), shape, 0, 1))
    if small <= budget and shape[0] % stride == shape[1] % stride == 0:
        assert len(tiles) == 1


@pytest.mark.parametrize("side", [1024, 4096])
def test_the_chosen_tile_is_economical_and_quick(side: int) -> None:
    tile = choose_tile((side, side), 48, 16, 650_000, 1_500_000)

    tiles = plan_tiles((side, side), tile, 48, 16)
    assert sum(map(read_area, tiles)) <= 1.25 * side**2
    assert max(map(read_area, tiles)) <= 650_000


def test_economy_goes_before_a_short_wait_but_not_before_memory() -> None:
    shape = (4096, 4096)
    economical = plan_tiles(shape, choose_tile(shape, 96, 32, 1e5, 1e7), 96, 32)
    assert sum(map(read_area, economical)) <= 1.25 * 4096**2

    frugal = plan_tiles(shape, choose_tile(shape, 96, 32, 1e5, 3e5), 96, 32)
    assert max(map(read_area, frugal)) <= 3e5


def test_a_tile_is_split_until_that_spares_little() -> None:
    shape = (512, 512)
    tile = make_tile((slice(0, 512), slice(0, 512)), shape, 32, 16)

    halves = split_tile(tile, shape, 32, 16)
    assert [half.core for half in halves] == [
        (slice(0, 256), slice(0, 512)),
        (slice(256, 512), slice(0, 512)),
    ]
    small = make_tile((slice(208, 240), slice(208, 240)), shape, 32, 16)
    assert split_tile(small, shape, 32, 16) == [small]


def test_boxes_get_plain_bounds() -> None:
    assert clip_box(None, (40, 50)) == (slice(0, 40), slice(0, 50))
    box = (slice(-10, None), slice(20, 99))
    assert clip_box(box, (40, 50)) == (slice(0, 40), slice(20, 50))
    beside = (slice(-30, -10), slice(60, 99))
    assert clip_box(beside, (40, 50)) == (slice(0, 0), slice(50, 50))
