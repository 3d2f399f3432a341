"""Prediction by command: files in, files out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import napari_seg
from napari_seg.inference.crf import CRFOptions
from napari_seg.inference.predict import stream
from napari_seg.models.checkpoint import save_model
from napari_seg.models.registry import create_model, with_object_head
from napari_seg.objects.connected import label_objects
from napari_seg.objects.instances import find_objects
from napari_seg.synthetic import synthetic_nuclei

GRAY = {"photometric": "minisblack"}


@pytest.fixture
def predict(run, model_file, tmp_path):
    def command(*arguments, model=model_file):
        return run("predict", *arguments, "-m", model, "-o", tmp_path / "out")

    return command


@pytest.fixture
def nuclei():
    return synthetic_nuclei((80, 100), n=5).image


@pytest.fixture
def colour_model(tmp_path):
    model = create_model("unet", 3, width=4, depth=2)
    return save_model(model, tmp_path / "colour")


def test_mask_is_that_of_the_python_function(predict, nuclei, model_file, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    (output,) = predict(tmp_path / "a.tif", "--json").json["outputs"]
    expected = napari_seg.predict(napari_seg.load_model(model_file), nuclei).labels
    mask = tifffile.imread(output["mask"])
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.uint8
    assert output["input"] == str(tmp_path / "a.tif")
    assert output["mask"] == str(tmp_path / "out" / "a_mask.tif")
    assert output["shape"] == [80, 100]
    assert output["classes"] == ["background", "nucleus"]
    assert (
        output["pixels_per_class"]
        == np.bincount(expected.ravel(), minlength=2).tolist()
    )
    assert output["seconds"] > 0


def test_options_of_the_crf(predict, nuclei, model_file, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    options = ("--crf-radius", "3", "--crf-appearance-weight", "20")
    assert "needs --crf" in predict(tmp_path / "a.tif", *options).refusal
    predict(tmp_path / "a.tif", "--crf", "--confidence", *options)
    expected = napari_seg.predict(
        napari_seg.load_model(model_file),
        nuclei,
        crf=CRFOptions(radius=3, appearance_weight=20),
        confidence=True,
    )
    found = tifffile.imread(tmp_path / "out" / "a_confidence.tif")
    np.testing.assert_allclose(found, expected.confidence, atol=1e-6)


def test_confidence_and_instances(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    more = ("--confidence", "--instances", "--json")
    more = (*more, "--split", "none")
    (output,) = predict(tmp_path / "a.tif", *more).json["outputs"]
    sure = tifffile.imread(tmp_path / "out" / "a_confidence.tif")
    assert (sure.dtype, sure.shape) == (np.float32, (80, 100))
    assert 0.5 <= sure.min() <= sure.max() <= 1
    objects = tifffile.imread(tmp_path / "out" / "a_instances.tif")
    assert (objects.dtype, objects.max()) == (np.uint32, output["objects"])
    mask = tifffile.imread(tmp_path / "out" / "a_mask.tif")
    np.testing.assert_array_equal(objects > 0, mask > 0)


def test_touching_objects_are_cut_unless_told_otherwise(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    (output,) = predict(tmp_path / "a.tif", "--instances", "--json").json["outputs"]
    objects = tifffile.imread(tmp_path / "out" / "a_instances.tif")
    mask = tifffile.imread(tmp_path / "out" / "a_mask.tif")
    np.testing.assert_array_equal(objects, find_objects(mask))
    assert output["objects"] == objects.max()
    assert "--instances" in predict(tmp_path / "a.tif", "--split", "none").refusal


def test_objects_as_the_model_tells_them_apart(predict, nuclei, model_file, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    wanted = ("--instances", "--split", "model")
    assert "object_head=True" in predict(tmp_path / "a.tif", *wanted).refusal

    model = with_object_head(napari_seg.load_model(model_file))
    path = save_model(model, tmp_path / "model")
    predict(tmp_path / "a.tif", "--instances", model=path)
    mask = tifffile.imread(tmp_path / "out" / "a_mask.tif")
    (tile,) = stream(model, nuclei, objects=True)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "a_instances.tif"),
        find_objects(mask, "model", maps=tile.objects),
    )


def test_objects_cut_where_the_model_is_unsure(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    wanted = ("--instances", "--split", "probability", "--confidence")
    predict(tmp_path / "a.tif", *wanted)
    mask = tifffile.imread(tmp_path / "out" / "a_mask.tif")
    sure = tifffile.imread(tmp_path / "out" / "a_confidence.tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "a_instances.tif"),
        find_objects(mask, "probability", maps=sure[None]),
    )


def test_objects_reach_through_z_but_not_through_time():
    labels = np.zeros((2, 3, 6, 6), np.uint8)
    labels[:, :, 1:3, 1:3] = 1
    labels[:, :, 1:3, 3:5] = 2
    objects, count = label_objects(labels, "TZ")
    assert count == 4
    assert len(np.unique(objects[0, :, 1, 1])) == 1
    assert objects[0, 0, 1, 1] != objects[0, 0, 1, 3]
    assert not set(np.unique(objects[0])) & set(np.unique(objects[1])) - {0}
    assert label_objects(labels[0], "T")[1] == 6


def test_folder_without_what_was_made_there_before(run, model_file, nuclei, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.tif", "a.ome.tif"):
        tifffile.imwrite(folder / name, nuclei)
    Image.fromarray(nuclei.astype(np.uint8)).save(folder / "c.png")
    (folder / "notes.txt").touch()
    for _ in range(2):
        done = run("predict", folder, "-m", model_file, "-o", folder, "--json").json
        assert [output["mask"] for output in done["outputs"]] == [
            str(folder / f"{name}_mask.tif") for name in "abc"
        ]


def test_colour_png_with_alpha(predict, colour_model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    done = predict(tmp_path / "a.png", "--json", model=colour_model)
    assert done.json["outputs"][0]["shape"] == [40, 50]


def test_axes_of_the_file_and_of_the_user(predict, colour_model, tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (3, 40, 50)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    assert predict(path, "--json").json["outputs"][0]["shape"] == [3, 40, 50]
    assert "--axes overrules it" in predict(path, model=colour_model).refusal
    done = predict(path, "--axes", "cyx", "--json", model=colour_model)
    assert done.json["outputs"][0]["shape"] == [40, 50]
    assert "Axes 'YX' do not fit" in predict(path, "--axes", "YX").refusal


def test_chosen_channels(predict, nuclei, model_file, tmp_path):
    other = np.random.default_rng(0).integers(0, 200, nuclei.shape, np.uint16)
    pair = np.stack([other, nuclei])
    tifffile.imwrite(tmp_path / "two.tif", pair, metadata={"axes": "CYX"}, **GRAY)
    refusal = predict(tmp_path / "two.tif").refusal
    assert "2 channels" in refusal
    predict(tmp_path / "two.tif", "--channels", "1")
    mask = tifffile.imread(tmp_path / "out" / "two_mask.tif")
    expected = napari_seg.predict(napari_seg.load_model(model_file), nuclei).labels
    np.testing.assert_array_equal(mask, expected)
    assert "0 to 1" in predict(tmp_path / "two.tif", "--channels", "2").refusal
    assert "such as 0,2" in predict(tmp_path / "two.tif", "--channels", "red").refusal


def test_the_diameter_of_objects_sets_the_zoom(predict, nuclei, model_file, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    assert "Nobody has told" in predict(tmp_path / "a.tif", "--diameter", "9").refusal
    model = napari_seg.load_model(model_file)
    model.spec = replace(model.spec, object_diameter=9.0)
    knowing = save_model(model, tmp_path / "knowing")
    both = predict(tmp_path / "a.tif", "--diameter", "18", "--zoom", "2", model=knowing)
    assert "not both" in both.refusal
    predict(tmp_path / "a.tif", "--diameter", "18", model=knowing)
    mask = tifffile.imread(tmp_path / "out" / "a_mask.tif")
    expected = napari_seg.predict(model, nuclei, zoom=0.5).labels
    np.testing.assert_array_equal(mask, expected)


def test_pixel_size_reaches_the_mask(predict, tmp_path):
    stack = np.zeros((3, 40, 50), np.uint16)
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(4, 5), metadata=metadata
    )
    assert predict(tmp_path / "a.tif").status == 0
    with tifffile.TiffFile(tmp_path / "out" / "a_mask.tif") as file:
        assert file.series[0].axes == "ZYX"
        assert file.imagej_metadata["spacing"] == 2.0
        assert file.pages[0].resolution == pytest.approx((4, 5))


def _write_zarr(path, data, version):
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    axes = [{"name": name} for name in "tczyx"]
    axes[-1]["unit"] = axes[-2]["unit"] = "micrometer"
    change = [{"type": "scale", "scale": [1, 1, 2, 0.5, 0.25]}]
    datasets = [
        {"path": name, "coordinateTransformations": change} for name in ("0", "1")
    ]
    scales = [{"axes": axes, "datasets": datasets}]
    if version == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **scales[0]}]
    group.create_array("0", data=data, chunks=(1, 1, 1, 32, 32))
    group.create_array("1", data=data[..., ::2, ::2])


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr(predict, model_file, tmp_path, version):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 999, (2, 1, 2, 70, 90)).astype(np.uint16)
    _write_zarr(tmp_path / "a.zarr", data, version)
    more = ("--tile", "32", "--confidence", "--instances", "--json")
    (output,) = predict(tmp_path / "a.zarr", *more).json["outputs"]
    assert output["mask"] == str(tmp_path / "out" / "a_mask.zarr")
    group = zarr.open_group(output["mask"], mode="r")
    attributes = group.attrs.asdict()
    (scale,) = (attributes["ome"] if version == 3 else attributes)["multiscales"]
    assert [axis["name"] for axis in scale["axes"]] == list("tzyx")
    assert scale["axes"][-1]["unit"] == "micrometer"
    (level,) = scale["datasets"]
    assert level["coordinateTransformations"][0]["scale"] == [1, 2, 0.5, 0.25]
    model = napari_seg.load_model(model_file)
    expected = napari_seg.predict(model, data, axes="TCZYX", tile=32).labels
    np.testing.assert_array_equal(group["0"][...], expected)
    sure = zarr.open_group(str(tmp_path / "out" / "a_confidence.zarr"))["0"]
    assert (sure.dtype, sure.shape) == (np.float32, expected.shape)
    objects = zarr.open_group(str(tmp_path / "out" / "a_instances.zarr"))["0"]
    assert objects[...].max() == output["objects"]
    # Once more, over what is there.
    assert predict(tmp_path / "a.zarr").status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a_mask.zarr",
        "a_confidence.zarr",
        "a_instances.zarr",
    }


def test_zarr_without_an_image(predict, tmp_path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    assert "no multiscales" in predict(tmp_path / "a.zarr").refusal


def test_bad_inputs_do_not_stop_the_good_ones(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei[:, :20])
    (tmp_path / "b.png").write_bytes(b"nothing")
    tifffile.imwrite(tmp_path / "c.tif", nuclei)
    inputs = [tmp_path / name for name in ("a.tif", "b.png", "c.tif", "d.tif")]
    done = predict(*inputs, "--json")
    assert done.status == 2
    result = json.loads(done.out)
    assert [output["input"] for output in result["outputs"]] == [str(inputs[2])]
    assert [failure["input"] for failure in result["failed"]] == [
        str(inputs[0]),
        str(inputs[1]),
        str(inputs[3]),
    ]
    (line,) = done.err.splitlines()
    assert line.startswith("3 of 4 images could not be segmented.")
    assert "a.tif" in line
    assert "d.tif" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"II*\0\x08\0\0\0", "cannot be read"),
        (np.zeros((20, 100), np.uint8), "at least 32"),
        (np.zeros((40, 40), np.complex64), "complex"),
        (np.zeros(100, np.uint8), "at least two, Y and X"),
    ],
)
def test_what_is_no_image(predict, tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "a.tif").write_bytes(content)
    else:
        tifffile.imwrite(tmp_path / "a.tif", content)
    assert message in predict(tmp_path / "a.tif").refusal
    assert list((tmp_path / "out").iterdir()) == []


def test_nan_is_an_image(predict, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((40, 40), np.nan, np.float32))
    assert predict(tmp_path / "a.tif").status == 0


def test_names_that_clash(predict, run, model_file, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    tifffile.imwrite(tmp_path / "a_mask.tif", nuclei)
    Image.fromarray(nuclei).save(tmp_path / "a.png")
    refused = predict(tmp_path / "a.tif", tmp_path / "a.png").refusal
    assert "would both be written" in refused
    inputs = (tmp_path / "a.tif", tmp_path / "a_mask.tif")
    done = run("predict", *inputs, "-m", model_file, "-o", tmp_path)
    assert "is an input too" in done.refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tile", "10"), "from 32 px"),
        (("--device", "tpu"), "choose auto"),
        (("--halo", "-1"), "from 0"),
    ],
)
def test_wrong_option(predict, nuclei, tmp_path, arguments, message):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    assert message in predict(tmp_path / "a.tif", *arguments).refusal


def test_empty_folder_and_file_as_output(predict, run, model_file, nuclei, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no image in" in predict(tmp_path / "empty").refusal
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    path = tmp_path / "a.tif"
    assert "is a file" in run("predict", path, "-m", model_file, "-o", path).refusal


def test_progress_as_json_lines(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    done = predict(tmp_path / "a.tif", "--progress", "json", "--tile", "32")
    events = [json.loads(line) for line in done.err.splitlines()]
    assert [event["done"] for event in events] == [*range(1, events[-1]["total"] + 1)]


def test_progress_as_a_bar(predict, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", nuclei)
    assert "Predicting" in predict(tmp_path / "a.tif", "--progress", "bar").err


def test_full_disk_is_no_fault_of_the_input(predict, nuclei, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_seg.writer.tifffile.imwrite", fail)
    tifffile_path = tmp_path / "a.png"
    Image.fromarray(nuclei).save(tifffile_path)
    done = predict(tifffile_path)
    assert (done.status, done.out) == (1, "")
    assert "No space left" in done.err
    assert len(done.err.splitlines()) == 1


def test_real_images(predict, shared_data, tmp_path):
    data = shared_data / "ecoli_brightfield" / "images"
    done = predict(data / "000.tif", data / "001.tif", "--json").json
    assert [sum(o["pixels_per_class"]) for o in done["outputs"]] == [
        np.prod(o["shape"]) for o in done["outputs"]
    ]


def _write_field(path, version, seed):
    image = synthetic_nuclei((64, 80), n=4, seed=seed).image
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    scale = {"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}
    _tell(group, version, multiscales=[scale])
    group.create_array("0", data=image)
    return image


def _tell(group, version, **told):
    group.attrs.update({"ome": {"version": "0.5", **told}} if version == 3 else told)


@pytest.mark.parametrize("version", [2, 3])
def test_a_plate(predict, model_file, tmp_path, version):
    plate = tmp_path / "plate.ome.zarr"
    told = {"wells": [{"path": "A/1"}, {"path": "B/2"}], "name": "seventh"}
    _tell(
        zarr.open_group(str(plate), mode="w", zarr_format=version), version, plate=told
    )
    images = {}
    for number, name in enumerate(("A/1", "B/2")):
        well = zarr.open_group(str(plate / name), mode="w", zarr_format=version)
        _tell(well, version, well={"images": [{"path": "0"}, {"path": "1"}]})
        for field in "01":
            seed = 2 * number + int(field)
            images[f"{name}/{field}"] = _write_field(
                plate / name / field, version, seed
            )
    outputs = predict(plate, "--json").json["outputs"]
    masks = tmp_path / "out" / "plate_mask.zarr"
    assert [output["input"] for output in outputs] == [str(plate / f) for f in images]
    assert [output["mask"] for output in outputs] == [str(masks / f) for f in images]
    model = napari_seg.load_model(model_file)
    for field, image in images.items():
        found = zarr.open_group(str(masks / field), mode="r")["0"][:]
        np.testing.assert_array_equal(found, napari_seg.predict(model, image).labels)
    # Other programs find the same plate and wells.
    for inside in ("", "A/1", "B/2"):
        told, copied = (
            zarr.open_group(str(root / inside), mode="r").attrs.asdict()
            for root in (plate, masks)
        )
        assert copied == told
    # One well, and one field of it.
    assert len(predict(plate / "A" / "1", "--json").json["outputs"]) == 2
    (one,) = predict(plate / "B" / "2" / "1", "--json").json["outputs"]
    assert one["mask"] == str(masks / "B" / "2" / "1")


def test_the_series_of_bioformats2raw(predict, tmp_path):
    group = zarr.open_group(str(tmp_path / "many.zarr"), mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for series in range(11):
        _write_field(tmp_path / "many.zarr" / str(series), 2, series)
    outputs = predict(tmp_path / "many.zarr", "--json").json["outputs"]
    names = [output["mask"].rpartition("/")[2] for output in outputs]
    assert names == [str(series) for series in range(11)]
