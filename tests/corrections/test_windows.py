"""Windows hold each vouched pixel once, at the same place in every run."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import tifffile

from napari_seg.corrections.windows import (
    cut_windows,
    read_origin,
    read_ranges,
    save_windows,
)
from napari_seg.errors import LabelsError, StorageError
from napari_seg.scoring.tally import UNKNOWN


def plane(shape=(150, 210), seed=0):
    """Return an image, and labels vouched for in two blobs and a lone pixel."""
    rng = np.random.default_rng(seed)
    truth = np.full(shape, UNKNOWN, np.uint8)
    truth[20:60, 10:80] = rng.integers(0, 2, truth[20:60, 10:80].shape)
    truth[100:, 180:] = 1
    truth[90:91, 5] = 1
    return rng.integers(0, 60_000, shape).astype(np.uint16), truth


def cut(image, truth, **options):
    options = {"size": 64, "context": 16, "minimum": 1, **options}
    return cut_windows(truth, lambda box: image[box], "a b", **options)


def test_every_vouched_pixel_is_in_one_window():
    image, truth = plane()
    seen = np.zeros(truth.shape, int)
    found = np.full(truth.shape, UNKNOWN, np.uint8)
    for window in cut(image, truth):
        labelled = window.labels != UNKNOWN
        assert window.vouched == labelled.sum()
        seen[window.box] += labelled
        found[window.box][labelled] = window.labels[labelled]
        np.testing.assert_array_equal(window.image, image[window.box])
    np.testing.assert_array_equal(seen, truth != UNKNOWN)
    np.testing.assert_array_equal(found, truth)


def test_windows_have_one_shape_also_at_the_border():
    assert {w.image.shape for w in cut(*plane())} == {(96, 96)}


def test_image_smaller_than_a_window():
    image, truth = plane((40, 50))
    (window,) = cut(image, truth)
    assert window.image.shape == (40, 50)
    np.testing.assert_array_equal(window.labels, truth)


def test_places_and_names_stay_when_more_is_vouched_for():
    image, truth = plane()
    before = {w.name: w.box for w in cut(image, truth)}
    truth[0:150:20] = 0
    after = {w.name: w.box for w in cut(image, truth)}
    assert before.items() < after.items()


def test_too_few_vouched_pixels_make_no_window():
    image, truth = plane()
    names = {w.name for w in cut(image, truth, minimum=2)}
    assert {w.name for w in cut(image, truth)} - names == {"a_b__y00064_x00000"}


def test_only_what_is_needed_is_read():
    _, truth = plane()
    boxes = []
    cut_windows(
        truth, lambda box: boxes.append(box) or np.zeros((96, 96)), "a", size=64
    )
    assert len(boxes) < 12


def test_labels_of_several_planes_are_refused():
    with pytest.raises(LabelsError, match="must be \\(Y, X\\)"):
        cut_windows(np.zeros((2, 8, 8), np.uint8), lambda box: box, "a")


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_saved_windows_are_read_back(tmp_path, channels, dtype):
    image, truth = plane()
    image = image.astype(dtype)
    if channels:
        image = np.stack([image + dtype(i) for i in range(channels)], axis=-1)
    ranges = np.array([[1.5, 2.5]] * (channels or 1))
    windows = cut(image, truth, index=(3, 4), ranges=ranges)
    files = save_windows(tmp_path, "a b", windows)
    for folder in ("images", "labels"):
        names = {path.stem for path in (tmp_path / folder).iterdir()}
        assert names == {w.name for w in windows}
    for window in windows:
        pixels = tifffile.imread(tmp_path / "images" / f"{window.name}.tif")
        labels = tifffile.imread(tmp_path / "labels" / f"{window.name}.tif")
        np.testing.assert_array_equal(pixels.reshape(window.image.shape), window.image)
        np.testing.assert_array_equal(labels, window.labels)
    np.testing.assert_array_equal(read_ranges(files[0]), ranges)
    assert read_ranges(tmp_path / "labels" / files[0].name) is None
    corner = tuple(part.start for part in windows[0].box)
    assert read_origin(files[0])[1:] == corner
    assert len({read_origin(file)[0] for file in files}) == 1
    assert read_origin(tmp_path / "labels" / files[0].name) is None


def test_objects_come_with_their_windows_and_go_with_them(tmp_path):
    image, truth = plane()
    ids = np.arange(truth.size, dtype=np.uint32).reshape(truth.shape)

    def save(objects):
        windows = cut_windows(
            truth, lambda box: image[box], "a", minimum=1, objects=objects
        )
        save_windows(tmp_path, "a", windows)
        return windows

    for window in save(ids):
        saved = tifffile.imread(tmp_path / "objects" / f"{window.name}.tif")
        np.testing.assert_array_equal(saved, ids[window.box])
    save(None)
    assert not list((tmp_path / "objects").iterdir())


def test_saving_again_replaces_the_windows_of_this_image_only(tmp_path):
    image, truth = plane()
    for name in ("a", "a_i0001", "ab"):
        windows = cut_windows(truth, lambda box: image[box], name, size=64, minimum=1)
        save_windows(tmp_path, name, windows)
    save_windows(
        tmp_path,
        "a",
        cut_windows(truth, lambda box: image[box], "a", size=64, minimum=2),
    )
    kept = [path.name.split("__")[0] for path in (tmp_path / "labels").iterdir()]
    assert {name: kept.count(name) for name in kept} == {"a": 6, "a_i0001": 7, "ab": 7}


def test_full_disk_keeps_the_earlier_windows(tmp_path, monkeypatch):
    image, truth = plane()
    save_windows(tmp_path, "a b", cut(image, truth))
    before = sorted(tmp_path.rglob("*"))

    def imwrite(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", imwrite)
    with pytest.raises(StorageError, match="free some space"):
        save_windows(tmp_path, "a b", cut(image, truth)[:1])
    assert sorted(tmp_path.rglob("*")) == before
