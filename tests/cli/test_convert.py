"""Conversion by command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr

from napari_seg.exchange import FORMATS, read
from napari_seg.synthetic import synthetic_nuclei


@pytest.fixture
def nuclei(tmp_path):
    sample = synthetic_nuclei((96, 80), n=6, seed=0)
    tifffile.imwrite(tmp_path / "image.tif", sample.image)
    tifffile.imwrite(tmp_path / "mask.tif", sample.mask)
    return sample.mask


@pytest.mark.parametrize("key", FORMATS)
def test_there_and_back(run, nuclei, tmp_path, key):
    out = tmp_path / f"out{FORMATS[key].suffix}"
    told = ("--classes", "background,nucleus", "--pixel-size", "0.25")
    first = run("convert", tmp_path / "mask.tif", out, "--format", key, *told, "--json")
    assert first.json["format"] == key
    assert first.json["shape"] == [96, 80]
    assert first.json["classes"] == ["background", "nucleus"]
    assert first.json["pixel_size"] == 0.25
    assert first.json["outputs"][0].startswith(str(out))
    back = tmp_path / "back.tif"
    again = run("convert", out, back, "--image", tmp_path / "image.tif", "--json").json
    np.testing.assert_array_equal(tifffile.imread(back), nuclei)
    assert again["objects"] == first.json["objects"]
    if key != "imagej":
        assert again["pixel_size"] == pytest.approx(0.25)


def test_what_people_read(run, nuclei, tmp_path):
    out = tmp_path / "out.geojson"
    line = run("convert", tmp_path / "mask.tif", out).out.strip()
    assert line.startswith(
        f"{out}: GeoJSON annotations, 96 × 80, background, class 1, "
    )
    count = len(json.loads(out.read_text())["features"])
    assert line.endswith(f"{count} objects")


def test_numbers_of_objects(run, tmp_path):
    ids = np.zeros((9, 9), np.uint8)
    ids[1:3, 1:3], ids[1:3, 3:5] = 4, 200
    tifffile.imwrite(tmp_path / "a.tif", ids)
    run("convert", tmp_path / "a.tif", tmp_path / "a.json", "--kind", "objects")
    np.testing.assert_array_equal(read(tmp_path / "a.json").ids, ids)
    objects = run(
        "convert",
        tmp_path / "a.json",
        tmp_path / "b.tif",
        "--kind",
        "objects",
        "--json",
    ).json
    assert objects["objects"] == 2
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), ids)
    run("convert", tmp_path / "a.json", tmp_path / "c.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif"), ids > 0)


def test_labels_for_an_image(run, nuclei, tmp_path):
    group = zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=nuclei)
    level = {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": [2, 2]}],
    }
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [level]}],
    }
    label = tmp_path / "image.zarr" / "labels" / "nuclei"
    told = run("convert", tmp_path / "mask.tif", label, "--json").json
    assert told["outputs"] == [str(label)]
    back = read(tmp_path / "image.zarr")
    np.testing.assert_array_equal(back.labels, nuclei)
    assert back.pixel_size == 2


def test_image_of_several_channels(run, nuclei, tmp_path):
    run("convert", tmp_path / "mask.tif", tmp_path / "a.zip")
    image = np.zeros((2, 96, 80), np.uint16)
    tifffile.imwrite(
        tmp_path / "image.ome.tif",
        image,
        metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    told = ("--image", tmp_path / "image.ome.tif", "--json")
    done = run("convert", tmp_path / "a.zip", tmp_path / "b.png", *told).json
    assert (done["shape"], done["pixel_size"]) == ([96, 80], 0.5)


def test_pixel_size_of_a_stack(run, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((3, 9, 8), np.uint8), photometric="minisblack"
    )
    out = tmp_path / "a.ome.tif"
    run("convert", tmp_path / "a.tif", out, "--pixel-size", "2,0.5,0.4")
    assert read(out).calibration.scale == (2, 0.5, 0.4)
    assert (
        "give one for each axis"
        in run("convert", tmp_path / "a.tif", out, "--pixel-size", "1,1,1,1").refusal
    )


def test_refusals(run, nuclei, tmp_path):
    mask, out = tmp_path / "mask.tif", tmp_path / "out.png"

    def refusal(*arguments):
        return run("convert", *arguments).refusal

    assert "no file" in refusal(tmp_path / "none.tif", out)
    assert "no ending of a known format" in refusal(mask, tmp_path / "out.doc")
    assert "the same file" in refusal(mask, mask)
    assert "at least two" in refusal(mask, out, "--classes", "nucleus")
    assert "no pixel size" in refusal(mask, out, "--pixel-size", "0")
    assert "invalid choice" in refusal(mask, out, "--format", "word")
    assert "--image" in refusal(_roi(run, mask, tmp_path), out)
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((9, 9), np.uint8))
    assert "belongs to" in refusal(mask, out, "--image", tmp_path / "small.tif")
    assert not out.exists()


def _roi(run, mask, folder):
    run("convert", mask, folder / "a.zip")
    return folder / "a.zip"
