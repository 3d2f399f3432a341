"""Numbers of objects: those of scikit-image, wherever the blocks are cut."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import disk, ellipse
from skimage.measure import regionprops_table

from napari_seg.errors import InputError, LabelsError
from napari_seg.objects import layers, shapes
from napari_seg.objects.measure import measure_objects

# Ours, and what scikit-image calls it.
PLANE = {
    "id": "label",
    "area_px": "area",
    "y_px": "centroid-0",
    "x_px": "centroid-1",
    "bbox_y0": "bbox-0",
    "bbox_x0": "bbox-1",
    "bbox_y1": "bbox-2",
    "bbox_x1": "bbox-3",
    "perimeter_px": "perimeter",
    "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}
STACK = {
    "id": "label",
    "volume_vox": "area",
    "z_px": "centroid-0",
    "y_px": "centroid-1",
    "x_px": "centroid-2",
    "bbox_z0": "bbox-0",
    "bbox_x1": "bbox-5",
    "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length",
}
INTENSITY = {
    f"intensity_{ours}_0": f"intensity_{theirs}"
    for ours, theirs in (("mean", "mean"), ("min", "min"), ("max", "max"))
}


def _theirs(ids, names, image=None):
    wanted = {name.partition("-")[0] for name in names.values()}
    return regionprops_table(ids, image, properties=sorted(wanted))


def _assert_same(found, expected, names, tolerance=1e-9):
    for ours, theirs in names.items():
        np.testing.assert_allclose(
            found[ours], expected[theirs], rtol=1e-9, atol=tolerance, err_msg=ours
        )


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(layers, "_SIDES", {2: (64, 48), 3: (8, 32, 40)})


@pytest.mark.parametrize("name", ["003", "111", "020"])
def test_nuclei_as_scikit_image_measures_them(shared_data, small_blocks, name):
    folder = shared_data / "dsb2018"
    ids = tifffile.imread(folder / "instances" / f"{name}.tif")
    image = tifffile.imread(folder / "images" / f"{name}.tif")
    image = image[..., 0] if image.ndim == 3 else image
    found = measure_objects(ids, image=image)
    assert len(found) == len(np.unique(ids)) - 1 > 5
    _assert_same(found, _theirs(ids, PLANE | INTENSITY, image), PLANE | INTENSITY)


def test_nuclei_of_a_stack(shared_data, small_blocks):
    (file,) = (shared_data / "embryo_nuclei_3d" / "instances").glob("*.tif")
    ids = tifffile.imread(file)
    image = tifffile.imread(file.parents[1] / "images" / file.name)
    found = measure_objects(ids, image=image, pixel_size=(2, 0.8, 0.8))
    names = STACK | INTENSITY
    _assert_same(found, _theirs(ids, names, image), names)
    scaled = regionprops_table(
        ids, spacing=(2, 0.8, 0.8), properties=["area", "axis_major_length", "centroid"]
    )
    np.testing.assert_allclose(found["volume_um3"], scaled["area"])
    np.testing.assert_allclose(found["major_axis_um"], scaled["axis_major_length"])
    np.testing.assert_allclose(found["z_um"], scaled["centroid-0"])
    assert not {"perimeter_px", "eccentricity", "solidity"} & set(found)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    ids=arrays(np.uint32, (9, 10), elements=st.sampled_from([0, 0, 1, 2, 90_000])),
    height=st.integers(2, 10),
    width=st.integers(2, 11),
)
def test_where_blocks_are_cut_changes_nothing(monkeypatch, ids, height, width):
    """Also of ragged objects in pieces, of single pixels and of lines."""
    whole = measure_objects(ids, ids > 1, ids * 0.5, corrected=ids == 2)
    monkeypatch.setattr(layers, "_SIDES", {2: (height, width)})
    monkeypatch.setattr(shapes, "_OBJECTS", 2)
    pieces = measure_objects(ids, ids > 1, ids * 0.5, corrected=ids == 2)
    pd.testing.assert_frame_equal(whole, pieces, check_exact=True)
    if ids.any():
        with np.errstate(all="ignore"):
            # Theirs takes the square root of what rounding leaves of a line's width.
            _assert_same(whole, _theirs(ids, PLANE), PLANE, 1e-6)


def test_known_shapes():
    ids = np.zeros((300, 400), np.uint16)
    ids[disk((100, 100), 60)] = 7
    ids[ellipse(220, 280, 40, 80)] = 3
    ids[10:30, 300:340] = 9
    found = measure_objects(ids, pixel_size=0.5).set_index("id")
    assert list(found.index) == [3, 7, 9]
    round_one, long_one, box = found.loc[7], found.loc[3], found.loc[9]
    assert round_one["area_px"] == pytest.approx(np.pi * 60**2, rel=0.01)
    assert round_one["perimeter_um"] == pytest.approx(2 * np.pi * 30, rel=0.05)
    assert round_one["eccentricity"] < 0.1
    assert (round_one["y_um"], round_one["x_um"]) == (50, 50)
    assert long_one["major_axis_um"] == pytest.approx(80, rel=0.01)
    assert long_one["minor_axis_px"] == pytest.approx(80, rel=0.01)
    assert long_one["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), rel=0.01)
    assert (box["area_um2"], box["solidity"]) == (200, 1)
    assert tuple(box[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]]) == (
        *(10, 300),
        *(30, 340),
    )


def test_specks_and_lines_are_measured_without_a_warning():
    ids = np.zeros((9, 9), np.uint8)
    ids[0, 0], ids[2, 1:8], ids[4:, 2] = 1, 2, 3
    ids[[4, 5, 6], [4, 5, 6]] = 4
    image = np.ones((9, 9), np.float32)
    image[0, 0], image[2, 1:3] = np.nan, (np.inf, -np.inf)
    image[2, 3] = 6
    found = measure_objects(ids, image=image, pixel_size=(0.5, 0.25)).set_index("id")
    assert list(found["eccentricity"]) == [0, 1, 1, 1]
    assert list(found["minor_axis_px"]) == [0] * 4
    assert list(found["solidity"]) == [1] * 4
    assert np.isnan(found.loc[1, ["intensity_mean_0", "intensity_max_0"]]).all()
    assert found.loc[2, "intensity_mean_0"] == 2
    assert found.loc[2, "intensity_max_0"] == 6
    # The estimate of perimeters knows square pixels only.
    assert found["perimeter_um"].isna().all()
    assert list(found["touches_border"]) == [True, False, True, False]


@pytest.mark.parametrize("kind", ["zarr", "dask", "memmap"])
def test_lazy_arrays_are_read_where_objects_are(tmp_path, monkeypatch, kind):
    """Joined over the blocks, they give the same, and no read is larger than one."""
    rng = np.random.default_rng(3)
    ids = np.zeros((200, 300), np.uint32)
    for number, (y, x) in enumerate(rng.integers(0, [60, 240], (12, 2)), 1):
        ids[y : y + 50, x : x + 40][
            rng.random((50, 40))[: 200 - y, : 300 - x] > 0.3
        ] = number
    image = rng.integers(0, 4000, (2, 200, 300)).astype(np.uint16)
    expected = measure_objects(ids, image=image)
    monkeypatch.setattr(layers, "_SIDES", {2: (64, 64)})
    if kind == "zarr":
        stored = zarr.create_array(
            tmp_path / "a", shape=ids.shape, chunks=(50, 50), dtype="u4"
        )
        stored[:] = ids
        pixels = zarr.create_array(
            tmp_path / "b", shape=image.shape, chunks=(1, 50, 50), dtype="u2"
        )
        pixels[:] = image
    elif kind == "dask":
        stored, pixels = da.from_array(ids, chunks=70), da.from_array(image, chunks=70)
    else:
        tifffile.imwrite(tmp_path / "a.tif", ids)
        stored, pixels = tifffile.memmap(tmp_path / "a.tif", mode="r"), image
    watched = _Watched(pixels)
    found = measure_objects(stored, image=watched)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert watched.largest <= 2 * 64 * 64
    # The lower half of the image is empty.
    assert watched.lowest <= 110


class _Watched:
    """An array that remembers what was asked of it."""

    def __init__(self, data):
        self._data = data
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.largest = self.lowest = 0

    def __getitem__(self, key):
        part = np.asarray(self._data[key])
        self.largest = max(self.largest, part.size)
        self.lowest = max(self.lowest, key[-2].stop)
        return part


def test_class_confidence_and_corrections_of_an_object():
    ids = np.array([[1, 1, 1, 0], [2, 2, 0, 3]])
    labels = np.array([[1, 1, 2, 0], [255, 2, 0, 255]], np.uint8)
    confidence = np.array([[0.5, 1, 0.9, 0], [0.2, 0.4, 0, np.nan]], np.float32)
    corrected = ids == 2
    names = ("background", "nucleus", "cell wall")
    found = measure_objects(
        ids, labels, classes=names, confidence=confidence, corrected=corrected
    )
    assert list(found["class"]) == ["nucleus", "cell wall", "unknown"]
    assert found["mean_confidence"][:2].to_numpy() == pytest.approx([0.8, 0.3])
    assert np.isnan(found["mean_confidence"][2])
    assert list(found["corrected_share"]) == [0, 1, 0]
    assert list(measure_objects(ids, labels)["class"]) == [1, 2, 255]
    with pytest.raises(InputError, match=r"class 2.*0 to 1"):
        measure_objects(ids, labels, classes=names[:2])


def test_time_steps_are_measured_one_by_one():
    ids = np.zeros((3, 8, 8), np.uint16)
    ids[0, 1:3, 1:3], ids[2, 1:5, 1:5], ids[2, 6, 6] = 4, 4, 9
    image = np.stack([ids, ids * 2], axis=1)
    found = measure_objects(ids, image=image, axes="TYX", image_axes="TCYX")
    assert found[["t", "id", "area_px"]].to_numpy().tolist() == [
        [0, 4, 4],
        [2, 4, 16],
        [2, 9, 1],
    ]
    assert list(found["intensity_mean_1"]) == [8, 8, 18]
    stacks = measure_objects(ids[:, np.newaxis])
    assert list(stacks["t"]) == [0, 2, 2]
    assert not stacks["touches_border"].any()


def test_channels_by_name_and_colours_last():
    ids = np.ones((4, 5), np.uint8)
    image = np.arange(60).reshape(4, 5, 3)
    names = ["red", "green", "blue"]
    found = measure_objects(ids, image=image, image_axes="YXC", channel_names=names)
    assert [found[f"intensity_mean_{n}"][0] for n in names] == [28.5, 29.5, 30.5]
    with pytest.raises(InputError, match="a name of its own"):
        measure_objects(ids, image=image, image_axes="YXC", channel_names=["a", "a"])


def test_without_an_object_the_columns_are_the_same():
    ids = np.zeros((2, 6, 6), np.uint8)
    image = np.zeros((3, 2, 6, 6))
    for axes, one in (("TYX", (0, 3, 3)), ("ZYX", (1, 2, 3))):
        arguments = {
            "axes": axes,
            "image": image,
            "pixel_size": 0.3,
            "confidence": image[0],
            "corrected": ids > 0,
        }
        none = measure_objects(ids, ids, **arguments)
        some = ids.copy()
        some[one] = 1
        assert none.empty
        assert list(none) == list(measure_objects(some, some, **arguments))


def test_large_ids_and_other_byte_orders():
    ids = np.array([[2**32 - 1, 0], [0, 1]], ">u4")
    assert list(measure_objects(ids, image=ids)["id"]) == [1, 2**32 - 1]
    assert list(measure_objects(ids > 0)["area_px"]) == [2]


def test_measuring_can_be_stopped(monkeypatch):
    monkeypatch.setattr(layers, "_SIDES", {2: (4, 4)})
    heard = []

    def listen(done, total):
        heard.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_objects(np.ones((2, 8, 8), int), axes="TYX", progress=listen)
    assert heard == [(1, 8), (2, 8), (3, 8)]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"ids": np.zeros((4, 4))}, LabelsError, "float64"),
        ({"ids": np.full((4, 4), -1)}, LabelsError, "id -1"),
        ({"ids": np.zeros((0, 4), int)}, LabelsError, "not empty"),
        ({"ids": np.zeros(4, int)}, LabelsError, "axes Y and X"),
        ({"labels": np.zeros((4, 5), int)}, InputError, "same pixels"),
        ({"labels": np.full((4, 4), 300)}, LabelsError, "300"),
        ({"labels": np.zeros((4, 4))}, LabelsError, "no class ids"),
        ({"image": np.zeros((2, 5, 5))}, InputError, "same pixels"),
        ({"image": np.zeros((4, 4), complex)}, InputError, "complex"),
        ({"image": np.zeros((2, 4, 4)), "image_axes": "QYX"}, InputError, "same"),
        ({"pixel_size": 0}, InputError, "above 0"),
        ({"pixel_size": (1, 1, 1)}, InputError, "each of the 2"),
        ({"axes": "ZYX"}, InputError, "do not fit"),
        ({"axes": "CX"}, InputError, "no channels"),
    ],
)
def test_what_does_not_fit_is_said(arguments, kind, words):
    with pytest.raises(kind, match=words):
        measure_objects(**{"ids": np.ones((4, 4), int)} | arguments)
