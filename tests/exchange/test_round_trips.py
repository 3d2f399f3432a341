"""Out and in again, in every format, and what other libraries make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from PIL import Image

from napari_seg.errors import InputError, LabelsError, StorageError
from napari_seg.exchange import FORMATS, Exchanged, read, write
from napari_seg.exchange.formats import format_of
from tests.exchange.conftest import NOISE, blocks, calibrated

TOGETHER = [key for key, each in FORMATS.items() if each.together]
ALONE = [key for key, each in FORMATS.items() if not each.together]


def shape_for(key: str, content: Exchanged) -> tuple[int, ...] | None:
    # Of the own files only ROIs do not tell the shape of the image.
    return content.shape if key == "imagej" else None


@pytest.mark.parametrize("key", TOGETHER)
def test_objects_and_classes(tmp_path, content, key):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, content, format=key)
    back = read(path, shape=shape_for(key, content))
    np.testing.assert_array_equal(back.ids, content.ids)
    np.testing.assert_array_equal(back.labels, content.labels)
    assert (back.ids.dtype, back.labels.dtype) == (np.uint32, np.uint8)
    assert back.names()[1:] == content.names()[1:]
    if key != "imagej":
        assert back.classes == content.classes
        assert back.calibration == content.calibration


@pytest.mark.parametrize("key", ALONE)
@pytest.mark.parametrize("kind", ["classes", "objects"])
def test_one_of_both(tmp_path, content, key, kind):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, content, kind=kind)
    back = read(path)
    if kind == "classes":
        np.testing.assert_array_equal(back.labels, content.labels)
        assert back.ids is None
    else:
        np.testing.assert_array_equal(back.ids, content.ids)
        assert back.labels is None
    assert back.classes == (() if key == "tiff" else content.classes)
    assert back.pixel_size == pytest.approx(0.5)
    assert back.axes == content.axes


@pytest.mark.parametrize("key", [key for key in TOGETHER if "zarr" not in key])
@given(ids=NOISE)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_objects_of_any_form(tmp_path, key, ids):
    content = Exchanged(None, ids, ("background", "cell"))
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, content, format=key)
    back = read(path, shape=ids.shape)
    np.testing.assert_array_equal(back.ids, ids)
    np.testing.assert_array_equal(back.labels, (ids > 0).astype(np.uint8))


@pytest.mark.parametrize("key", TOGETHER)
def test_object_without_a_class_is_unknown(tmp_path, key):
    ids = np.zeros((8, 9), np.uint32)
    ids[1:3, 1:3], ids[5:7, 5:7] = 3, 4
    labels = (ids == 3).astype(np.uint8)
    content = Exchanged(labels, ids, ("background", "cell"))
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, content, format=key, kind="objects" if "zarr" in key else None)
    back = read(path, shape=ids.shape)
    np.testing.assert_array_equal(back.ids, ids)
    np.testing.assert_array_equal(back.labels[ids == 4], 255)
    np.testing.assert_array_equal(back.labels[ids == 3], 1)


def test_a_class_mask_becomes_objects_and_unknown_pixels_none(tmp_path):
    labels = np.zeros((10, 12), np.uint8)
    labels[1:3, 1:3], labels[1:3, 3:5], labels[6:8, 6:8], labels[9] = 1, 2, 1, 255
    write(tmp_path / "a.geojson", Exchanged(labels))
    back = read(tmp_path / "a.geojson")
    np.testing.assert_array_equal(back.labels, np.where(labels == 255, 0, labels))
    assert len(np.unique(back.ids)) == 4
    assert back.classes == ("background", "class 1", "class 2")


def test_bridges_of_one_class(tmp_path):
    ids = blocks((9, 9)).ids
    write(tmp_path / "a.png", Exchanged(None, ids), kind="classes")
    np.testing.assert_array_equal(read(tmp_path / "a.png").labels, ids > 0)


def test_ome_xml(tmp_path, content):
    path = tmp_path / "a.ome.tif"
    write(path, content)
    root = tifffile.xml2dict(tifffile.tiffcomment(path))["OME"]
    pixels = root["Image"]["Pixels"]
    sides = {
        f"Size{axis}": n for axis, n in zip(content.axes, content.shape, strict=True)
    }
    assert pixels | sides == pixels
    assert (pixels["Type"], pixels["PhysicalSizeX"]) == ("uint8", 0.5)
    assert pixels["PhysicalSizeYUnit"] == "µm"
    if "Z" in content.axes:
        assert pixels["PhysicalSizeZ"] == 2
    note = root["StructuredAnnotations"]["MapAnnotation"]
    named = {each["K"]: each["value"] for each in note["Value"]["M"]}
    assert list(named.values()) == list(content.classes)
    assert root["Image"]["AnnotationRef"]["ID"] == note["ID"]
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == content.axes
        np.testing.assert_array_equal(file.asarray(), content.labels)
    write(path, content, kind="objects")
    assert tifffile.imread(path).dtype == np.uint32


def test_png_shows_the_colours_of_the_classes(tmp_path):
    content = blocks((9, 11))
    content.labels[0, 0] = 255
    write(tmp_path / "a.png", content)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        colors = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(image), content.labels)
    for number, color in enumerate(content.colors()):
        shown = colors[content.labels == number]
        assert (shown == list(bytes.fromhex(color[1:]))).all()
    assert colors[0, 0].tolist() == [128, 128, 128]


def test_png_has_a_file_for_each_plane(tmp_path):
    content = blocks((2, 3, 8, 9))
    written = write(tmp_path / "a.png", content)
    assert [path.name for path in written[:2]] == [
        "a_t0000_z0000.png",
        "a_t0000_z0001.png",
    ]
    assert sorted(tmp_path.iterdir()) == written
    written[-1].unlink()
    with pytest.raises(InputError, match="some are missing"):
        read(tmp_path / "a.png")
    with pytest.raises(InputError, match="move it away"):
        write(tmp_path / "a.png", blocks((3, 8, 9)))


def test_png_has_room_for_65535_objects(tmp_path):
    ids = np.array([[0, 65535]], np.uint32)
    write(tmp_path / "a.png", Exchanged(None, ids))
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[0, 65535]]
    with pytest.raises(InputError, match="write TIFF or OME-Zarr"):
        write(tmp_path / "a.png", Exchanged(None, ids + 1))
    np.testing.assert_array_equal(read(tmp_path / "a.png").ids, ids)


@pytest.mark.parametrize("key", FORMATS)
def test_a_failed_write_keeps_what_was_there(tmp_path, key):
    path = tmp_path / "none" / f"a{FORMATS[key].suffix}"
    with pytest.raises(StorageError):
        write(path, blocks((8, 9)), format=key)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_all_old_planes(tmp_path, monkeypatch):
    written = write(tmp_path / "a.png", blocks((3, 8, 9)))
    before = [path.read_bytes() for path in written]
    calls = []

    def fail_at_last(image: Image.Image, path: Path, **_: Any) -> None:
        calls.append(path)
        Path(path).write_bytes(b"new")
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail_at_last)
    with pytest.raises(
        StorageError, match=r"^No space left in .* a_z0002.png elsewhere"
    ):
        write(tmp_path / "a.png", blocks((3, 8, 9), seed=1))
    assert [path.read_bytes() for path in written] == before
    assert sorted(tmp_path.iterdir()) == written


def test_every_format_is_documented():
    docs = Path(__file__).resolve().parents[2] / "docs"
    for page in ("file-formats.md", "command-line.md"):
        text = (docs / page).read_text(encoding="utf-8")
        assert all(f"`{key}`" in text for key in FORMATS), page


def test_ids_of_8_bits_are_objects_if_that_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 3], [200, 255]], np.uint8))
    assert read(tmp_path / "a.tif").ids is None
    back = read(tmp_path / "a.tif", kind="objects", classes=("background", "cell"))
    assert back.ids.tolist() == [[0, 3], [200, 255]]
    assert back.classes == ("background", "cell")


def test_masks_that_do_not_fit_each_other():
    with pytest.raises(LabelsError, match="same shape"):
        Exchanged(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint32))
    with pytest.raises(LabelsError, match="nothing"):
        Exchanged()
    with pytest.raises(LabelsError, match="two to four axes"):
        Exchanged(np.zeros(3, np.uint8))


def test_formats_are_found_by_their_endings(tmp_path):
    for key, each in FORMATS.items():
        assert FORMATS[format_of(tmp_path / f"A{each.suffix.upper()}")].module == (
            each.module
        ), key
    assert format_of(tmp_path / "a.zarr" / "labels" / "cells") == "ome-zarr"
    with pytest.raises(InputError, match=r"\.geojson"):
        format_of(tmp_path / "a.doc")
    with pytest.raises(InputError, match="no format 'word'"):
        write(tmp_path / "a.doc", blocks((3, 4)), format="word")


def test_a_time_series_stays_one(tmp_path):
    content = replace(blocks((3, 8, 9)), calibration=calibrated(3))
    content = replace(content, calibration=replace(content.calibration, axes="TYX"))
    write(tmp_path / "a.geojson", content)
    planes = [
        feature["geometry"]["plane"]
        for feature in json.loads((tmp_path / "a.geojson").read_text())["features"]
    ]
    assert {plane["t"] for plane in planes} == {0, 1, 2}
    assert {plane["z"] for plane in planes} == {0}
    back = read(tmp_path / "a.geojson")
    np.testing.assert_array_equal(back.ids, content.ids)
    assert back.axes == "TYX"
