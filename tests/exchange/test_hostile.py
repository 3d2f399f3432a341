"""Damaged files and files that lie: one clear error, soon, and little memory."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile
import zarr
from PIL import Image

from napari_seg.errors import InputError
from napari_seg.exchange import FORMATS, Exchanged, read, write
from tests.exchange.conftest import blocks


def refusal(path: Path, **hints: Any) -> str:
    """Return the message of a file that is refused, and check that it is one."""
    with pytest.raises(InputError) as caught:
        read(path, **hints)
    message = str(caught.value)
    assert type(caught.value).__module__ == "napari_seg.errors"
    assert path.stem.split("_")[0] in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


FILES = [key for key, each in FORMATS.items() if "zarr" not in key]


@pytest.mark.parametrize("key", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_part_of_a_file(tmp_path, key, share):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, blocks((64, 64)), format=key)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    if key == "ome-tiff" and share == 0.6:
        # The words of OME come after the pixels, which are all there.
        np.testing.assert_array_equal(read(path).labels, blocks((64, 64)).labels)
    else:
        refusal(path, shape=(64, 64))


@pytest.mark.parametrize("key", FILES)
def test_noise_and_other_kinds_of_files(tmp_path, key):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    assert "There is no" in refusal(path, shape=(64, 64))
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refusal(path, shape=(64, 64))
    path.write_text('{"a": [1, 2, {"b": null}]}')
    refusal(path, shape=(64, 64))


@pytest.mark.parametrize("key", [key for key in FILES if FORMATS[key].together])
def test_an_image_that_the_file_is_not_of(tmp_path, key):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    ids = np.zeros((64, 64), np.uint32)
    ids[50:60, 50:60] = 1
    write(path, Exchanged(None, ids), format=key)
    assert "belong" in refusal(path, shape=(40, 40))


@pytest.mark.parametrize("key", ["tiff", "ome-tiff", "png", "ome-zarr"])
def test_a_mask_of_another_shape(tmp_path, key):
    path = tmp_path / f"a{FORMATS[key].suffix}"
    write(path, blocks((64, 64)), format=key, kind="classes")
    assert "shape" in refusal(path, shape=(64, 63))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 8), -1, np.int16), "run from -1"),
        (np.full((8, 8), 2**32, np.uint64), "4294967296"),
        (np.zeros((8, 8), np.float32), "float32"),
        (np.zeros((8, 8), np.complex64), "complex64"),
        (np.zeros((2, 2, 2, 8, 8), np.uint8), "two to four axes"),
        (np.zeros((8, 8, 3), np.uint8), "channels"),
    ],
)
def test_values_that_are_no_ids(tmp_path, values, message):
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert message in refusal(tmp_path / "a.tif")


def test_large_numbers_are_no_classes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 300, np.uint16))
    assert "above 255 are objects" in refusal(tmp_path / "a.tif", kind="classes")
    assert read(tmp_path / "a.tif").ids is not None


def patched_tiff(path: Path, height: int, width: int) -> None:
    """Write a small TIFF that claims to be large."""
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        tags["ImageWidth"].overwrite(width)
        tags["ImageLength"].overwrite(height)


def test_tiff_of_an_absurd_size(tmp_path):
    patched_tiff(tmp_path / "a.tif", 60000, 60000)
    assert "cut it into parts" in refusal(tmp_path / "a.tif")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


@pytest.mark.parametrize("side", [12_000, 100_000, 2**31 - 1])
def test_png_of_an_absurd_size(tmp_path, side):
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(b"0" * 99))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    refusal(tmp_path / "a.png")


def test_png_of_colours_and_of_damaged_words(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    assert "colour table" in refusal(tmp_path / "a.png")
    write(tmp_path / "a.png", blocks((8, 8)))
    data = (tmp_path / "a.png").read_bytes()
    for old, new in ((b'{"classes"', b'["classes"'), (b'"nothing"', b'"big cell"')):
        place = data.index(b"iTXt")
        length = struct.unpack(">I", data[place - 4 : place])[0]
        words = data[place + 4 : place + 4 + length].replace(old, new)
        rest = data[place + 8 + length :]
        changed = data[: place - 4] + png_chunk(b"iTXt", words) + rest
        (tmp_path / "a.png").write_bytes(changed)
        refusal(tmp_path / "a.png")


def test_zarr_of_an_absurd_size(tmp_path):
    write(tmp_path / "a.zarr", blocks((8, 8)), kind="classes")
    told = tmp_path / "a.zarr" / "labels" / "classes" / "0" / ".zarray"
    array = json.loads(told.read_text())
    told.write_text(json.dumps({**array, "shape": [10**9, 10**9]}))
    assert "cut it into parts" in refusal(tmp_path / "a.zarr")
    told.write_text(json.dumps({**array, "shape": [-1, 8]}))
    refusal(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "changed",
    [
        {"multiscales": []},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": [{"path": "../../../../etc"}]}]},
        {"multiscales": [{"datasets": [{"path": "none"}]}]},
        {"multiscales": {"a": 1}},
        {"multiscales": [{"axes": [{}], "datasets": [{"path": "0"}]}]},
    ],
)
def test_zarr_whose_words_are_damaged(tmp_path, changed):
    write(tmp_path / "a.zarr", blocks((8, 8)), kind="classes")
    group = zarr.open_group(tmp_path / "a.zarr" / "labels" / "classes", mode="a")
    group.attrs.update(changed)
    refusal(tmp_path / "a.zarr")


def test_zarr_with_a_torn_chunk(tmp_path):
    write(tmp_path / "a.zarr", blocks((8, 8)), kind="classes")
    chunk = tmp_path / "a.zarr" / "labels" / "classes" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    refusal(tmp_path / "a.zarr")


COCO: dict[str, Any] = {
    "images": [{"id": 1, "width": 8, "height": 8}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": [
        {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    ],
}


def coco(**annotation: Any) -> dict[str, Any]:
    return {**COCO, "annotations": [{**COCO["annotations"][0], **annotation}]}


def runs(counts: Any, size: Any = (8, 8)) -> dict[str, Any]:
    return coco(segmentation={"size": list(size), "counts": counts})


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"type": "FeatureCollection", "features": []},
        {**COCO, "images": []},
        {**COCO, "images": [{"id": 1, "width": 10**6, "height": 10**6}]},
        {**COCO, "images": [{"id": 1, "width": -8, "height": 8}]},
        {**COCO, "images": [{"id": 1, "width": 8.5, "height": 8}]},
        {**COCO, "images": [{"id": 1, "width": 8, "height": 8, "plane": [10**12]}]},
        {**COCO, "images": [*COCO["images"], {"id": 2, "width": 8, "height": 8}]},
        {**COCO, "categories": [{"id": 1}]},
        {**COCO, "categories": [{"id": n, "name": f"{n}"} for n in range(1, 300)]},
        {**COCO, "annotations": {"1": 2}},
        coco(image_id=7),
        coco(category_id=7),
        coco(category_id=[1]),
        coco(segmentation=None),
        coco(segmentation=[]),
        coco(segmentation=[[1, 2, 3]]),
        coco(segmentation=[[0, 0, 4, 0, "4", None]]),
        coco(segmentation=[[20, 20, 24, 20, 24, 24]]),
        coco(segmentation=[[0, 0, 1e308, 0, 4, 4]]),
        coco(object_id=0),
        coco(object_id=-3),
        coco(object_id=2.5),
        coco(object_id=2**32),
        coco(object_id=True),
        runs([64], (8, 9)),
        runs([64], (10**9, 10**9)),
        runs([60]),
        runs([-4, 68]),
        runs([10**30]),
        runs([2**62, 2**62, 2**62, 2**62, 64]),
        runs([1.5, 62.5]),
        runs({}),
        runs("Qé"),
        runs("ooooooooooooooooooooooooooooo"),
        runs("o"),
        runs(""),
        runs([]),
    ],
)
def test_coco_that_is_wrong(tmp_path, told):
    (tmp_path / "a.json").write_text(json.dumps(told))
    refusal(tmp_path / "a.json")


RING = [[0, 0], [4, 0], [4, 4], [0, 0]]


def feature(coordinates: Any, kind: str = "Polygon", **more: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates, **more}
    return {"type": "Feature", "geometry": geometry, "properties": {}}


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        {"type": "FeatureCollection"},
        {"type": "FeatureCollection", "features": {"a": 1}},
        {"type": "FeatureCollection", "features": [], "napari-seg": {"shape": "big"}},
        {"type": "FeatureCollection", "features": [], "napari-seg": {"classes": [1]}},
        [None],
        [{}],
        [feature(RING)],
        [feature([])],
        [feature([[]])],
        [feature(None)],
        [feature([RING], "MultiPolygon")],
        [feature([[0, 0], [4, 4]], "LineString")],
        [feature([3, 4], "Point")],
        [feature([[[50, 50], [60, 50], [60, 60]]])],
        [feature([[[-9, 0], [-5, 0], [-5, 4]]])],
        [feature([[["a", 0], [4, 0], [4, 4]]])],
        [{**feature([RING]), "properties": {"classification": {"name": 7}}}],
    ],
)
def test_geojson_that_is_wrong(tmp_path, told):
    (tmp_path / "a.geojson").write_text(json.dumps(told))
    refusal(tmp_path / "a.geojson", shape=(8, 8))


@pytest.mark.parametrize("text", ["[" * 200_000, "[NaN]", '["\\ud800', "{}" * 9])
@pytest.mark.parametrize("ending", [".json", ".geojson"])
def test_json_that_is_none(tmp_path, text, ending):
    (tmp_path / f"a{ending}").write_text(text)
    refusal(tmp_path / f"a{ending}", shape=(8, 8))


def roi_bytes(**changes: Any) -> bytes:
    roi = roifile.ImagejRoi.frompoints(np.array([[0, 0], [4, 0], [4, 4]]))
    for name, value in changes.items():
        setattr(roi, name, value)
    return roi.tobytes()


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Iout",
        b"Iout" + bytes(60),
        bytes(500),
        roi_bytes()[:70],
        roi_bytes()[:16] + b"\xff\xff" + roi_bytes()[18:],
        roi_bytes()[:16] + b"\0\0\x7f\xff\xff\xff" + roi_bytes()[22:],
        roi_bytes()[:6] + b"\x63" + roi_bytes()[7:],
        roi_bytes()[:36] + b"\x7f\xff\xff\xff" + roi_bytes()[40:],
        roi_bytes()[:36] + b"\xff\xff\xff\xff" + roi_bytes()[40:],
    ],
)
def test_rois_that_are_wrong(tmp_path, data):
    path = zipped(tmp_path / "a.zip", {"1.roi": roi_bytes(), "2.roi": data})
    refusal(path, shape=(8, 8))


def test_zip_that_unpacks_to_far_more(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.roi": bytes(2**26 + 1)})
    assert path.stat().st_size < 10**5
    assert "64 MB each" in refusal(path, shape=(8, 8))
    # One that claims to be small is read up to what it claims.
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(data)
    refusal(path, shape=(8, 8))


def test_zip_with_paths_writes_nothing(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path = zipped(folder / "a.zip", {"../../1 cell.roi": roi_bytes(name="")})
    assert read(path, shape=(8, 8)).classes == ("background", "cell")
    assert [each.name for each in tmp_path.rglob("*")] == ["inner", "a.zip"]
    zipped(path, {"a.txt": b"hello"})
    assert "no .roi in the zip" in refusal(path, shape=(8, 8))


def test_zip_with_a_password(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.roi": roi_bytes()})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refusal(path, shape=(8, 8))


def test_a_stack_without_its_first_plane(tmp_path):
    write(tmp_path / "a.png", blocks((3, 8, 8)))
    (tmp_path / "a_z0001.png").unlink()
    assert "missing" in refusal(tmp_path / "a.png")
    stream = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(stream, "png")
    (tmp_path / "a_z0001.png").write_bytes(stream.getvalue())
    assert "other sides" in refusal(tmp_path / "a.png")
