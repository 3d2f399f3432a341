"""Masks on disk: what comes back, and what is left after a failure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_seg import writer
from napari_seg.errors import LabelsError, StorageError
from napari_seg.writer import Calibration, write_mask, write_masks


def _mask(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50), (2, 3, 40, 50)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_values_type_and_shape_come_back(tmp_path, shape, dtype):
    mask = _mask(shape, dtype)
    path = write_mask(tmp_path / "a.tif", mask)
    back = tifffile.imread(path)
    assert back.dtype == mask.dtype
    np.testing.assert_array_equal(back, mask)


def test_more_axes_than_imagej_knows(tmp_path):
    mask = _mask((2, 1, 3, 1, 40, 50))
    back = tifffile.imread(write_mask(tmp_path / "a.tif", mask), squeeze=False)
    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize(
    ("high", "dtype"),
    [(4, "uint8"), (255, "uint8"), (256, "uint16"), (70000, "uint32")],
)
def test_signed_ids_take_the_smallest_type(tmp_path, high, dtype):
    mask = np.zeros((32, 32), np.int64)
    mask[3, 4] = high
    back = tifffile.imread(write_mask(tmp_path / "a.tif", mask))
    assert back.dtype == dtype
    assert back[3, 4] == high


def test_bool_becomes_0_and_1(tmp_path):
    mask = _mask((32, 32)) > 2
    back = tifffile.imread(write_mask(tmp_path / "a.tif", mask))
    np.testing.assert_array_equal(back, mask.astype(np.uint8))


def test_compressed_and_readable_by_imagej(tmp_path):
    path = write_mask(tmp_path / "a.tif", np.zeros((4, 256, 256), np.uint8))
    assert path.stat().st_size < 20_000
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"


def test_layer_scale_and_units_reach_imagej(tmp_path):
    meta = {
        "scale": [5.0, 2.0, 0.25, 0.25],
        "units": ("second", "micrometer", "micrometer", "micrometer"),
        "axis_labels": ("t", "z", "y", "x"),
    }
    (path,) = write_masks(str(tmp_path / "a.tif"), _mask((2, 3, 40, 50)), meta)
    with tifffile.TiffFile(path) as file:
        found = file.imagej_metadata
        assert found["unit"] in ("um", "µm", "micron")
        assert (found["spacing"], found["finterval"]) == (2.0, 5.0)
        assert file.pages[0].resolution == (4.0, 4.0)
        assert found["scale"] == "5 2 0.25 0.25"
        assert found["units"] == "second micrometer micrometer micrometer"


def test_third_axis_named_time(tmp_path):
    calibration = Calibration("TYX", (30.0, 1.0, 1.0), ("second", "pixel", "pixel"))
    path = write_mask(tmp_path / "a.tif", _mask((3, 40, 50)), calibration)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TYX"
        assert file.imagej_metadata["finterval"] == 30.0


def test_wide_ids_keep_their_calibration_as_ome(tmp_path):
    calibration = Calibration("", (0.5, 0.25), ("nanometer", "nanometer"))
    path = write_mask(tmp_path / "a.tif", _mask((40, 50), np.uint32), calibration)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert 'PhysicalSizeX="0.00025"' in file.ome_metadata


@pytest.mark.parametrize("scale", [(0.0, 1.0), (np.nan, 1.0), (1.0,), (-1.0, 1.0)])
def test_senseless_scale_does_not_stop_the_mask(tmp_path, scale):
    calibration = Calibration("", scale, ())
    mask = _mask((32, 32))
    back = tifffile.imread(write_mask(tmp_path / "a.tif", mask, calibration))
    np.testing.assert_array_equal(back, mask)


def test_attributes_of_a_real_layer(tmp_path):
    layers = pytest.importorskip("napari.layers")
    layer = layers.Labels(_mask((3, 40, 50)), scale=(2, 0.5, 0.5))
    data, meta, _ = layer.as_layer_data_tuple()
    (path,) = write_masks(str(tmp_path / "a"), data, meta)
    assert path.endswith("a.tif")
    np.testing.assert_array_equal(tifffile.imread(path), layer.data)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, np.uint8), "at least the axes Y and X"),
        (np.zeros((0, 5), np.uint8), "not empty"),
        (np.zeros((5, 5), np.float32), "convert the mask to integers"),
        (np.full((5, 5), -1), "run from -1 to -1"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, labels, message):
    with pytest.raises(LabelsError, match=message):
        write_mask(tmp_path / "a.tif", labels)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_files_only() -> Iterator[None]:
    """Let the system refuse files of more than 10 kB, as a full disk would.

    Not for longer than needed: what pytest itself writes may be such a file.
    """
    resource = pytest.importorskip("resource", reason="needs the limits of Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_failure_half_way_leaves_the_old_file(tmp_path):
    path = write_mask(tmp_path / "a.tif", np.ones((32, 32), np.uint8))
    noise = np.random.default_rng(0).integers(0, 255, (512, 512)).astype(np.uint8)
    refused = pytest.raises(StorageError, match="could not be written")
    with refused, small_files_only():
        write_mask(path, noise)
    assert tifffile.imread(path).shape == (32, 32)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "No space left"), (errno.EACCES, "may not be written to")],
)
def test_message_names_the_cause(tmp_path, monkeypatch, number, message):
    def fail(file: Any, *_: Any, **__: Any) -> None:
        file.write(b"II*")
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(writer.tifffile, "imwrite", fail)
    with pytest.raises(StorageError, match=message):
        write_mask(tmp_path / "a.tif", _mask((32, 32)))
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match="There is no folder"):
        write_mask(tmp_path / "none" / "a.tif", _mask((32, 32)))
