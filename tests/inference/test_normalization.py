from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_seg.inference.axes import read_axes
from napari_seg.inference.normalization import (
    CLIP,
    _percentiles,
    channel_ranges,
    normalize,
)
from napari_seg.models.spec import ModelSpec, Normalization

PERCENTILES = Normalization(1.0, 99.8)


def ranges_of(image: Any, axes: str | None = None, channels: int = 1) -> np.ndarray:
    spec = ModelSpec("unet", None, channels, ("background", "nucleus"))
    reading = read_axes(image.shape, image.dtype, spec, axes)
    return channel_ranges(image, reading, PERCENTILES)


def random_image(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(3).normal(3000, 500, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "float16", ">f4", "f8"])
def test_ranges_are_percentiles_of_the_whole_image(dtype: str) -> None:
    image = random_image((4, 64, 80, 2), dtype)
    expected = np.percentile(image.astype(float), (1, 99.8), axis=(0, 1, 2)).T

    result = ranges_of(image, "ZYXC", channels=2)

    np.testing.assert_allclose(result, expected)
    # A view with other strides holds the same image.
    swapped = np.ascontiguousarray(image.swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_array_equal(ranges_of(swapped, "ZYXC", 2), result)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_large_image_is_sampled_the_same_way_each_time(lazy: bool) -> None:
    values = random_image((3, 2000, 1500))
    image = da.from_array(values, chunks=(1, 500, 500)) if lazy else values
    expected = np.percentile(values, (1, 99.8))

    result = ranges_of(image)

    np.testing.assert_allclose(result[0], expected, rtol=0.02)
    np.testing.assert_array_equal(ranges_of(image), result)


def test_few_chunks_of_a_lazy_image_are_read() -> None:
    read: list[tuple[int, ...]] = []

    def load(block_info: Any) -> np.ndarray:
        read.append(block_info[None]["chunk-location"])
        return np.ones((1, 1024, 1024), np.uint8)

    chunks = ((1,) * 8, (1024,) * 16, (1024,) * 16)
    image = da.map_blocks(load, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0, 0)))

    ranges_of(image)

    assert len(set(read)) <= 150
    assert {plane for plane, _, _ in read} == set(range(8))


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (np.full((40, 40), 7.0), (7, 8)),
        (np.full((40, 40), np.nan), (0, 1)),
        (np.full((40, 40), -np.inf), (0, 1)),
        (np.zeros((40, 40), bool), (0, 1)),
        (np.pad([[500]], (0, 99)), (0, 500)),
    ],
    ids=["flat", "nan", "inf", "bool", "one spot"],
)
def test_no_range_is_empty(fill: np.ndarray, expected: tuple[float, float]) -> None:
    np.testing.assert_array_equal(ranges_of(fill), [expected])


def test_nan_and_inf_do_not_count() -> None:
    image = random_image((64, 64), "float32")
    spoiled = np.concatenate(
        [image, np.full((3, 64), np.nan), np.full((3, 64), np.inf)]
    )
    np.testing.assert_array_equal(ranges_of(spoiled), ranges_of(image))


def test_normalized_values() -> None:
    plane = np.array([[[10, 20, 15, -100, 1000, np.nan, np.inf, -np.inf]]])

    result = normalize(plane, np.array([[10.0, 20.0]]))

    low, high = CLIP
    np.testing.assert_allclose(result[0, 0], [0, 1, 0.5, low, high, 0, 1, 0])
    assert result.dtype == np.float32


def test_a_narrow_range_on_a_high_offset_keeps_its_digits() -> None:
    plane = (np.arange(4, dtype=np.uint32) + 4_000_000_000).reshape(1, 1, 4)
    result = normalize(plane, np.array([[4e9, 4e9 + 3]]))
    np.testing.assert_allclose(result[0, 0], [0, 1 / 3, 2 / 3, 1], rtol=1e-6)


@given(
    plane=hnp.arrays(
        st.sampled_from(["?", "u1", ">u2", "i8", "f2", ">f4", "f8"]), (2, 3, 4)
    ),
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
)
def test_any_plane_gives_finite_values(
    plane: np.ndarray, low: float, width: float
) -> None:
    result = normalize(plane, np.array([[low, low + width]] * 2))

    assert result.dtype == np.float32
    assert result.shape == plane.shape
    assert ((result >= CLIP[0]) & (result <= CLIP[1])).all()


@given(
    hnp.arrays(np.uint16, st.integers(1, 300), elements=st.integers(0, 65535)),
    st.floats(0, 49),
    st.floats(51, 100),
)
def test_percentiles_of_few_values_are_numpys(values, low, high):
    found = _percentiles(values, (low, high))
    np.testing.assert_allclose(found, np.percentile(values, [low, high]), rtol=1e-9)
