"""Tables of objects by command."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_seg.cli.omezarr import create_mask
from napari_seg.objects.measure import measure_objects
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.writer import Calibration, write_mask


@pytest.fixture
def nuclei(tmp_path):
    sample = synthetic_nuclei((96, 96), n=6, seed=1)
    micrometres = Calibration("YX", (0.5, 0.5), ("micrometer", "micrometer"))
    write_mask(tmp_path / "ids.tif", sample.instances, micrometres)
    tifffile.imwrite(tmp_path / "image.tif", sample.image)
    tifffile.imwrite(tmp_path / "mask.tif", sample.mask)
    return sample


def test_a_table_of_nuclei(run, nuclei, tmp_path):
    files = ("--image", tmp_path / "image.tif", "--labels", tmp_path / "mask.tif")
    for ending, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        table = tmp_path / f"objects.{ending}"
        names = ("--classes", "background,nucleus")
        done = run(
            *("measure", tmp_path / "ids.tif", *files, *names, "-o", table, "--json")
        ).json
        expected = measure_objects(
            nuclei.instances,
            nuclei.mask,
            nuclei.image,
            classes=("background", "nucleus"),
            pixel_size=0.5,
        )
        found = read(table)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
        assert done == {
            "table": str(table),
            "objects": len(expected),
            "columns": list(expected.columns),
        }
    assert "area_um2" in done["columns"]
    text = run("measure", tmp_path / "ids.tif", "-o", tmp_path / "a.csv").out
    assert text.strip().endswith(f"{len(expected)} objects, 20 columns")


def test_stacks_steps_and_pixel_sizes(run, tmp_path):
    ids = np.zeros((2, 3, 8, 8), np.uint16)
    ids[:, 1, 2:4, 2:4] = 5
    tifffile.imwrite(tmp_path / "ids.tif", ids, photometric="minisblack")
    table = tmp_path / "objects.csv"
    sizes = ("--pixel-size", "2,0.5,0.5")
    run("measure", tmp_path / "ids.tif", *sizes, "-o", table)
    found = pd.read_csv(table)
    assert found[["t", "id", "volume_vox", "volume_um3"]].to_numpy().tolist() == [
        [0, 5, 4, 2],
        [1, 5, 4, 2],
    ]
    tifffile.imwrite(tmp_path / "movie.tif", ids[0], photometric="minisblack")
    run("measure", tmp_path / "movie.tif", "--axes", "TYX", "-o", table)
    assert pd.read_csv(table)[["t", "area_px"]].to_numpy().tolist() == [[1, 4]]


def test_colours_and_channels(run, nuclei, tmp_path):
    colours = np.stack([nuclei.image // 256] * 3, axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    tifffile.imwrite(
        tmp_path / "channels.tif",
        np.stack([nuclei.image] * 2),
        imagej=True,
        metadata={"axes": "CYX"},
    )
    tifffile.imwrite(tmp_path / "bare.tif", np.stack([nuclei.image] * 5))
    for name, channels in (
        ("colours.png", ["red", "green", "blue"]),
        ("channels.tif", ["0", "1"]),
        ("bare.tif", list("01234")),
    ):
        done = run(
            *("measure", tmp_path / "ids.tif", "--image", tmp_path / name),
            *("-o", tmp_path / "objects.csv", "--json"),
        ).json
        means = [c for c in done["columns"] if c.startswith("intensity_mean_")]
        assert means == [f"intensity_mean_{channel}" for channel in channels]


def test_an_image_in_zarr_tells_axes_and_pixel_size(run, tmp_path):
    ids = np.zeros((2, 32, 32), np.uint32)
    ids[1, 3:6, 4:8] = 70_000
    steps = Calibration("TYX", (1, 250, 250), ("second", "nanometer", "nanometer"))
    target = tmp_path / "ids.zarr"
    with create_mask(
        target, tmp_path, ids.shape, np.uint32, steps, 3, (16, 16)
    ) as mask:
        mask[...] = ids
    tifffile.imwrite(
        tmp_path / "image.tif",
        (ids > 0).astype(np.uint8) * 9,
        imagej=True,
        metadata={"axes": "TYX"},
    )
    table = tmp_path / "objects.csv"
    image = ("--image", tmp_path / "image.tif")
    run("measure", tmp_path / "ids.zarr", *image, "-o", table)
    found = pd.read_csv(table).loc[0]
    assert (found["t"], found["id"], found["intensity_mean_0"]) == (1, 70_000, 9)
    assert found["area_um2"] == pytest.approx(12 / 16)


def test_refusals(run, nuclei, tmp_path):
    ids = tmp_path / "ids.tif"
    output = ("-o", tmp_path / "objects.csv")
    assert "objects.csv or" in run("measure", ids, "-o", tmp_path / "objects").refusal
    nowhere = tmp_path / "nowhere" / "objects.csv"
    assert "no folder" in run("measure", ids, "-o", nowhere).refusal
    assert "give both" in run("measure", ids, "--classes", "a,b", *output).refusal
    small = ("--pixel-size", "small")
    assert "such as 0.65" in run("measure", ids, *small, *output).refusal
    assert "no file" in run("measure", tmp_path / "a.tif", *output).refusal
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((50, 50), np.uint8))
    other = ("--image", tmp_path / "other.tif")
    assert "same pixels" in run("measure", ids, *other, *output).refusal
    done = run("measure", tmp_path / "other.tif", *output, "--json")
    assert done.json["objects"] == 0
    assert "no object" in done.err
