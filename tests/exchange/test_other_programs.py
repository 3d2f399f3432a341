"""What the libraries of other programs make of the files, and ours of theirs."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import HealthCheck, given, settings
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from napari_seg.errors import InputError
from napari_seg.exchange import FORMATS, Exchanged, read, rle, write
from tests.exchange.conftest import NOISE, blocks

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WITH_HOLE = np.array(
    [[1, 1, 1, 0, 0], [1, 0, 1, 0, 2], [1, 1, 1, 0, 2], [0, 0, 0, 0, 2]], np.uint32
)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("key", ["coco", "coco-polygons"])
@given(ids=NOISE)
@QUICK
def test_pycocotools_decodes_the_same_pixels(tmp_path, key, ids):
    path = tmp_path / "a.json"
    write(path, Exchanged(None, ids, ("background", "cell")), format=key)
    data = COCO(str(path))
    back = np.zeros_like(ids)
    for each in data.loadAnns(data.getAnnIds()):
        pixels = data.annToMask(each).astype(bool)
        assert (back[pixels] == 0).all()
        back[pixels] = each["object_id"]
        assert each["area"] == pixels.sum()
        rows, columns = np.nonzero(pixels)
        left, top, width, height = each["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    np.testing.assert_array_equal(back, ids)


@given(ids=NOISE)
@QUICK
def test_run_lengths_are_those_of_pycocotools(ids):
    whole = (slice(0, ids.shape[0]), slice(0, ids.shape[1]))
    counts = rle.counts_of(ids == 7, whole, ids.shape)
    expected = coco_mask.encode(np.asfortranarray((ids == 7).astype(np.uint8)))
    assert rle.to_text(counts).encode() == expected["counts"]
    np.testing.assert_array_equal(rle.from_text(expected["counts"].decode()), counts)


def test_long_runs_are_those_of_pycocotools():
    pixels = np.zeros((2000, 1500), bool)
    pixels[3:1999, 2:1200] = True
    pixels[:, 700:800] = True
    whole = (slice(0, 2000), slice(0, 1500))
    counts = rle.counts_of(pixels, whole, pixels.shape)
    expected = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert rle.to_text(counts).encode() == expected["counts"]
    back = np.zeros_like(pixels)
    for place in rle.pixels_of(counts, pixels.shape):
        back[place] = True
    np.testing.assert_array_equal(back, pixels)


def test_polygons_are_for_simple_objects_only(tmp_path):
    write(tmp_path / "a.json", Exchanged(None, WITH_HOLE), format="coco-polygons")
    data = json.loads((tmp_path / "a.json").read_text())
    first, second = (each["segmentation"] for each in data["annotations"])
    assert set(first) == {"size", "counts"}
    assert sorted(zip(second[0][::2], second[0][1::2], strict=True)) == [
        (4, 1),
        (4, 4),
        (5, 1),
        (5, 4),
    ]
    assert {each["iscrowd"] for each in data["annotations"]} == {0}


def test_a_coco_file_of_another_program(tmp_path):
    told = {
        "images": [{"id": 139, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 44, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {
                "id": 900100183934,
                "image_id": 139,
                "category_id": 44,
                "iscrowd": 0,
                "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4], [10, 2, 12.2, 2, 12, 4]],
            },
            {
                "id": 7,
                "image_id": 139,
                "category_id": 17,
                "iscrowd": 1,
                "segmentation": {"size": [10, 20], "counts": [183, 5, 12]},
            },
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(told))
    back = read(tmp_path / "a.json")
    assert back.classes == ("background", "cat", "dog")
    assert (back.labels[1:4, 1:5] == 2).all()
    assert back.labels[2, 10] == 2
    assert (back.ids[3:8, 18] == 2).all()
    assert (back.ids == 2).sum() == (back.labels == 1).sum() == 5
    with pytest.raises(InputError, match="'cat', which is none of background, dog"):
        read(tmp_path / "a.json", classes=("background", "dog"))


@given(ids=NOISE)
@QUICK
def test_rois_cover_the_same_pixels(tmp_path, ids):
    """As ImageJ fills them: pixels whose centre is inside, by the even-odd rule."""
    write(tmp_path / "a.zip", Exchanged(None, ids, ("background", "cell")))
    back = np.zeros_like(ids)
    rois = roifile.roiread(tmp_path / "a.zip") if ids.any() else []
    for roi in rois:
        number, name = roi.name.split(" ")
        assert name == "cell"
        inside = np.zeros(ids.shape, int)
        for ring in roi.coordinates(multi=True):
            inside += polygon2mask(ids.shape, ring[:, ::-1] - 0.5)
        back[inside % 2 == 1] = int(number)
    np.testing.assert_array_equal(back, ids)


def test_rois_of_a_stack_know_their_plane(tmp_path):
    content = blocks((2, 3, 8, 9))
    write(tmp_path / "a.zip", content)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert {(roi.t_position, roi.z_position) for roi in rois} == {
        (t, z) for t in (1, 2) for z in (1, 2, 3)
    }
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert len(set(names)) == len(names)
    # A slash in the name of a class makes no folder.
    assert not any("/" in name for name in names)
    write(tmp_path / "b.zip", blocks((3, 8, 9)))
    assert {roi.position for roi in roifile.roiread(tmp_path / "b.zip")} == {1, 2, 3}


def test_rois_in_a_wide_image(tmp_path):
    ids = np.zeros((3, 70000), np.uint32)
    ids[1, 40000:69000], ids[0, 5:9] = 1, 2
    ids[1, 50000] = 0
    write(tmp_path / "a.zip", Exchanged(None, ids))
    np.testing.assert_array_equal(read(tmp_path / "a.zip", shape=ids.shape).ids, ids)


def test_rois_as_imagej_makes_them(tmp_path):
    library = roifile.ROI_TYPE
    rect = roifile.ImagejRoi(
        roitype=library.RECT, left=2, top=1, right=6, bottom=4, name="0003-0004"
    )
    oval = roifile.ImagejRoi(
        roitype=library.OVAL, left=10, top=2, right=18, bottom=10, name="Nucleus"
    )
    roifile.roiwrite(tmp_path / "a.zip", [rect, oval])
    back = read(tmp_path / "a.zip", shape=(20, 30))
    assert (back.ids[1:4, 2:6] == 1).all()
    assert (back.ids == 1).sum() == 12
    assert (back.ids == 2).sum() == pytest.approx(np.pi * 16, rel=0.1)
    assert back.classes == ("background", "object")
    rect.tofile(tmp_path / "one.roi")
    assert (read(tmp_path / "one.roi", shape=(20, 30)).ids > 0).sum() == 12
    line = roifile.ImagejRoi(roitype=library.LINE, x1=1, x2=5, name="line")
    roifile.roiwrite(tmp_path / "a.zip", [rect, line], mode="w")
    with pytest.raises(InputError, match="'line' is a line, not a plain area"):
        read(tmp_path / "a.zip", shape=(20, 30))


def test_without_roifile(tmp_path, monkeypatch):
    write(tmp_path / "a.zip", blocks((3, 4)))
    monkeypatch.setattr(
        "napari_seg.exchange.imagej.find_spec", lambda name: None, raising=True
    )
    for refused in (
        lambda: write(tmp_path / "b.zip", blocks((3, 4))),
        lambda: read(tmp_path / "a.zip", shape=(3, 4)),
    ):
        with pytest.raises(InputError, match=r'pip install "napari-seg\[exchange\]"'):
            refused()
    assert not (tmp_path / "b.zip").exists()


def test_geojson_is_that_of_qupath(tmp_path):
    labels = np.where(WITH_HOLE == 1, 1, (WITH_HOLE > 0) * 2).astype(np.uint8)
    content = Exchanged(labels, WITH_HOLE, ("background", "Tumor", "Stroma"))
    write(tmp_path / "a.geojson", content, format="geojson-detections")
    told = json.loads((tmp_path / "a.geojson").read_text())
    assert told["type"] == "FeatureCollection"
    first, second = told["features"]
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"] == {
        "name": "Tumor",
        "color": list(bytes.fromhex(content.colors()[1][1:])),
    }
    shell, hole = first["geometry"]["coordinates"]
    assert shell == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]]
    assert sorted(map(tuple, hole[1:])) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert hole[0] == hole[-1]
    assert second["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[4, 1], [5, 1], [5, 4], [4, 4], [4, 1]]],
    }


def test_geojson_of_qupath(tmp_path):
    square = [[-3.0, 2.0], [4.0, 2.0], [4.0, 6.0], [-3.0, 6.0], [-3.0, 2.0]]
    feature = {
        "type": "Feature",
        "id": "a4b9b4a0-7e67-4b44-a5d0-6e1d5a9f2f60",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {
            "objectType": "annotation",
            "name": "left one",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
        },
    }
    plain = {**feature, "properties": {"objectType": "annotation"}}
    plain["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[[[8, 0], [9, 0], [9, 9], [8, 9]]], [[[0, 8], [2, 8], [2, 9]]]],
    }
    for told in (
        [feature, plain],
        {"type": "FeatureCollection", "features": [feature, plain]},
    ):
        (tmp_path / "a.geojson").write_text(json.dumps(told))
        back = read(tmp_path / "a.geojson", shape=(10, 10))
        # What reaches over the edge is cut off.
        assert (back.ids[2:6, :4] == 1).all()
        assert (back.ids == 1).sum() == 16
        assert (back.labels == 255).sum() == (back.ids == 2).sum() == 10
        assert back.classes == ("background", "Tumor")
    with pytest.raises(InputError, match="--image"):
        read(tmp_path / "a.geojson")
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    assert (read(tmp_path / "a.geojson", shape=(10, 10)).ids == 1).sum() == 16


def test_geojson_of_qupath_says_in_which_plane(tmp_path):
    ring = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
    told = {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [ring],
            "plane": {"c": -1, "z": 2, "t": 1},
        },
    }
    (tmp_path / "a.geojson").write_text(json.dumps(told))
    assert read(tmp_path / "a.geojson", shape=(2, 3, 4, 5)).ids[1, 2].sum() == 4
    assert read(tmp_path / "a.geojson", shape=(3, 4, 5)).ids[2].sum() == 4
    assert read(tmp_path / "a.geojson", shape=(4, 5)).ids.sum() == 4
    with pytest.raises(InputError, match="plane"):
        read(tmp_path / "a.geojson", shape=(2, 2, 4, 5))


@pytest.mark.parametrize("key", ["geojson", "coco-polygons", "imagej"])
def test_pebbles_that_touch(tmp_path, shared_data, key):
    folder = shared_data / "beach_grains"
    ids = tifffile.imread(sorted((folder / "instances").iterdir())[0])
    labels = tifffile.imread(sorted((folder / "masks").iterdir())[0])
    content = Exchanged(labels, ids.astype(np.uint32), ("background", "grain", "edge"))
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, content, format=key)
    back = read(path, shape=ids.shape)
    np.testing.assert_array_equal(back.ids, ids)
    assert len(np.unique(ids)) > 20
