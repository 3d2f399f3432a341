from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_seg.errors import ChannelError, ImageError
from napari_seg.inference.axes import as_array, read_axes
from napari_seg.models.spec import ModelSpec


def spec(in_channels: int = 1, gray_as_rgb: bool = False) -> ModelSpec:
    return ModelSpec(
        arch="unet",
        encoder=None,
        in_channels=in_channels,
        classes=("background", "nucleus"),
        gray_as_rgb=gray_as_rgb,
    )


GRAY, RGB, BOTH, TWO = spec(1), spec(3), spec(3, gray_as_rgb=True), spec(2)


@pytest.mark.parametrize(
    ("shape", "model", "rgb", "axes", "mask", "channels"),
    [
        ((40, 50), GRAY, False, "YX", (40, 50), 1),
        ((40, 50), BOTH, False, "YX", (40, 50), 1),
        ((5, 40, 50), GRAY, False, "ZYX", (5, 40, 50), 1),
        ((4, 5, 40, 50), GRAY, False, "TZYX", (4, 5, 40, 50), 1),
        ((2, 4, 5, 40, 50), GRAY, False, "QTZYX", (2, 4, 5, 40, 50), 1),
        ((40, 50, 1), GRAY, False, "YXC", (40, 50), 1),
        ((40, 50, 3), RGB, False, "YXC", (40, 50), 3),
        ((40, 50, 3), BOTH, False, "YXC", (40, 50), 3),
        ((40, 50, 4), RGB, False, "YXC", (40, 50), 3),
        ((40, 50, 4), BOTH, True, "YXC", (40, 50), 3),
        ((7, 40, 50, 4), BOTH, True, "ZYXC", (7, 40, 50), 3),
        ((3, 40, 50), RGB, False, "CYX", (40, 50), 3),
        ((2, 40, 50), TWO, False, "CYX", (40, 50), 2),
        ((9, 2, 40, 50), TWO, False, "ZCYX", (9, 40, 50), 2),
        ((9, 40, 50, 2), TWO, False, "ZYXC", (9, 40, 50), 2),
        # A gray stack that happens to have three slices stays a stack.
        ((3, 40, 50), BOTH, False, "ZYX", (3, 40, 50), 1),
        ((3, 40, 50), GRAY, False, "ZYX", (3, 40, 50), 1),
    ],
)
def test_reading_without_axes(
    shape: tuple[int, ...],
    model: ModelSpec,
    rgb: bool,
    axes: str,
    mask: tuple[int, ...],
    channels: int,
) -> None:
    reading = read_axes(shape, np.uint8, model, rgb=rgb)

    assert (reading.axes, reading.spatial_shape) == (axes, mask)
    assert reading.channels == channels


@pytest.mark.parametrize(
    ("shape", "model", "axes", "mask"),
    [
        ((3, 40, 50), BOTH, "CYX", (40, 50)),
        ((40, 3, 50), RGB, "YCX", (40, 50)),
        ((50, 40), GRAY, "xy", (40, 50)),
        ((40, 50, 3), RGB, "YXS", (40, 50)),
        ((40, 50, 6), GRAY, "YXT", (6, 40, 50)),
        ((4, 40, 50, 6), GRAY, "ZYXT", (4, 6, 40, 50)),
    ],
)
def test_reading_with_axes(
    shape: tuple[int, ...], model: ModelSpec, axes: str, mask: tuple[int, ...]
) -> None:
    assert read_axes(shape, np.uint8, model, axes).spatial_shape == mask


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "message"),
    [
        ((), float, None, "at least two"),
        ((512,), float, None, "at least two"),
        ((0, 40), float, None, "empty"),
        ((40, 0, 40), float, None, "empty"),
        ((40, 50), complex, None, "magnitude"),
        ((40, 50), object, None, "dtype object"),
        ((40, 50), "U3", None, "dtype"),
        ((40, 50), "M8[s]", None, "dtype"),
        ((31, 500), float, None, "31 × 500"),
        ((500, 20), float, None, "at least 32"),
        ((5, 40, 50), float, "YX", "'YX' do not fit"),
        ((40, 50), float, "YY", "none twice"),
        ((40, 50), float, "ZY", "Y and X among them"),
        ((40, 50, 3), float, "YXW", "one letter out of"),
        ((3, 40, 50, 3), float, "CYXS", "none twice"),
        ((2, 2, 2, 2, 2, 40, 50), float, None, "too many"),
    ],
)
def test_images_that_are_none(
    shape: tuple[int, ...], dtype: Any, axes: str | None, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        read_axes(shape, dtype, GRAY, axes)


@pytest.mark.parametrize(
    ("shape", "model", "axes", "rgb", "message"),
    [
        ((40, 50, 3), GRAY, None, False, r"looks like 3 channels.*image\[\.\.\., 0\]"),
        ((40, 50, 3), GRAY, None, True, "choose 1 of the channels"),
        ((40, 50, 2), BOTH, None, False, "takes 1 or 3"),
        ((40, 50), RGB, None, False, r"has 1 channel, .* takes 3"),
        ((8, 40, 50), TWO, None, False, "such as CYX"),
        ((2, 40, 50), RGB, "CYX", False, r"adapt_model\(model, in_channels=2\)"),
    ],
)
def test_other_channels_than_the_model_takes(
    shape: tuple[int, ...], model: ModelSpec, axes: str | None, rgb: bool, message: str
) -> None:
    with pytest.raises(ChannelError, match=message):
        read_axes(shape, np.uint8, model, axes, rgb)


def test_the_reading_in_words() -> None:
    shape = (8, 21, 2, 512, 512)
    assert (
        read_axes(shape, np.uint16, TWO, "TZCYX").describe()
        == "T 8 × Z 21 × Y 512 × X 512, 2 channels"
    )
    assert read_axes((40, 50), bool, GRAY).describe() == "Y 40 × X 50"
    assert read_axes((40, 50, 4), np.uint8, RGB).describe().endswith("alpha left out")


@given(axes=st.permutations("TZCYX"), data=st.data())
def test_planes_put_back_together_are_the_image(axes: list[str], data: Any) -> None:
    lengths = {"T": 2, "Z": 3, "C": 2, "Y": 33, "X": 32}
    dropped = data.draw(st.sets(st.sampled_from("TZC")))
    letters = "".join(letter for letter in axes if letter not in dropped)
    shape = [lengths[letter] for letter in letters]
    image = np.arange(np.prod(shape)).reshape(shape)
    reading = read_axes(shape, image.dtype, GRAY if "C" in dropped else TWO, letters)

    planes = [reading.plane(image, index) for index in reading.indices()]

    stack = np.stack(planes).reshape(*reading.leading_shape, *planes[0].shape)
    order = reading.leading + "CYX"
    kept = [order.index(letter) for letter in letters]
    missing = tuple(i for i in range(len(order)) if i not in kept)
    result = stack.squeeze(missing).transpose(np.argsort(np.argsort(kept)))
    np.testing.assert_array_equal(result, image)
    assert reading.spatial_shape == (*reading.leading_shape, 33, 32)


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_lazy_images_are_read_by_the_box(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 99, (3, 128, 128), np.uint16)
    read: list[tuple[int, ...]] = []

    def load(block: np.ndarray, block_info: Any) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return block

    if kind == "zarr":
        image: Any = zarr.array(values, chunks=(1, 32, 32))
    else:
        chunked = da.from_array(values, chunks=(1, 32, 32))
        image = chunked.map_blocks(load, dtype=values.dtype, meta=values[:0, :0, :0])
    reading = read_axes(image.shape, image.dtype, GRAY)

    part = reading.plane(image, (1,), (slice(32, 64), slice(70, 90)))

    np.testing.assert_array_equal(part, values[1:2, 32:64, 70:90])
    assert kind == "zarr" or read == [(1, 1, 2)]


def test_whatever_holds_numbers_becomes_one_array() -> None:
    levels = [np.zeros((64, 64)), np.zeros((32, 32))]
    assert as_array(levels) is levels[0]
    planes = [np.zeros((64, 64)), np.ones((64, 64))]
    assert as_array(planes).shape == (2, 64, 64)
    assert as_array([[1, 2], [3, 4]]).shape == (2, 2)
    lazy = da.zeros((64, 64))
    assert as_array(lazy) is lazy
    with pytest.raises(ImageError, match="one array"):
        as_array([[1, 2], [3]])


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_chosen_channels_in_any_place_and_order(place: int) -> None:
    stack = np.random.default_rng(0).integers(0, 99, (5, 40, 50, 4))
    axes = list("ZYX")
    axes.insert(place, "C")
    image = np.moveaxis(stack, -1, place)
    zarray = zarr.array(image, chunks=(2, 3, 4, 5))

    reading = read_axes(image.shape, image.dtype, TWO, "".join(axes), channels=(3, 1))

    assert (reading.channels, reading.available) == (2, 4)
    expected = np.moveaxis(stack[2, 10:20, :, [3, 1]], -1, -1)
    box = (slice(10, 20), slice(None))
    for each in (image, zarray, da.from_array(image)):
        np.testing.assert_array_equal(reading.plane(each, (2,), box), expected)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ((2,), "channels 0 to 1"),
        ((-1,), "channels 0 to 1"),
        ((), "name each of them once"),
        ((1, 1), "name each of them once"),
    ],
)
def test_channels_that_are_not_there(channels: tuple[int, ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_axes((2, 40, 50), np.uint8, GRAY, "CYX", channels=channels)
    with pytest.raises(ImageError, match="Name the axes"):
        read_axes((40, 50), np.uint8, GRAY, channels=(1,))


def test_neighbouring_slices_are_channels() -> None:
    image = np.random.default_rng(1).random((6, 2, 40, 50))
    model = ModelSpec("unet", None, 6, ("background", "nucleus"), slices=3)

    reading = read_axes(image.shape, image.dtype, model, "ZCYX")

    assert (reading.channels, reading.spatial_shape) == (6, (6, 40, 50))
    middle = np.concatenate([image[1], image[2], image[3]])
    np.testing.assert_array_equal(reading.plane(image, (2,)), middle)
    # Beyond the ends the outermost slice stands in.
    first = np.concatenate([image[0], image[0], image[1]])
    np.testing.assert_array_equal(reading.plane(image, (0,)), first)
    last = np.concatenate([image[4], image[5], image[5]])
    np.testing.assert_array_equal(reading.plane(image, (5,)), last)
    assert "3 slices at a time" in reading.describe()


def test_a_plane_alone_is_its_own_neighbour() -> None:
    image = np.random.default_rng(1).random((4, 40, 50))
    model = ModelSpec("unet", None, 3, ("background", "nucleus"), slices=3)

    # Over time no slice is a neighbour.
    reading = read_axes(image.shape, image.dtype, model, "TYX")

    np.testing.assert_array_equal(reading.plane(image, (1,)), image[[1, 1, 1]])


def test_layouts_that_share_a_mask() -> None:
    shape = (4, 40, 50)
    layouts = {
        axes: read_axes(shape, np.uint8, GRAY, axes).layout for axes in ("ZYX", "TYX")
    }
    assert len(set(layouts.values())) == 1
    channels = read_axes(shape, np.uint8, GRAY, "CYX", channels=(2,))
    assert channels.layout not in layouts.values()
