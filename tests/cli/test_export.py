"""Models for other programs by command, and packages of others in prediction."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import tifffile

import napari_seg

pytest.importorskip("onnx", reason="needs the extra zoo")

ZIP = ("--author", "Ada Byron", "--license", "CC0-1.0")


@pytest.mark.parametrize("suffix", ["onnx", "pt"])
def test_graph(run, model_file, tmp_path, suffix):
    out = tmp_path / "new" / f"net.{suffix}"
    ran = run("export", model_file, "-o", out, "--json")
    assert ran.json == {"model": str(model_file), "format": suffix, "path": str(out)}
    assert out.stat().st_size > 1000


def test_package_predicts_what_its_model_does(run, model_file, pairs, tmp_path):
    image = pairs / "images" / "0.tif"
    out = tmp_path / "net.zip"
    ran = run("export", model_file, "-o", out, "--image", image, *ZIP, "--json")
    assert ran.json["format"] == "zip"
    with zipfile.ZipFile(out) as archive:
        assert "README.md" in archive.namelist()
    masks = []
    for model in (model_file, out):
        folder = tmp_path / model.suffix[1:]
        run("predict", image, "-m", model, "-o", folder, "--json").json  # noqa: B018
        masks.append(tifffile.imread(folder / "0_mask.tif"))
    assert np.array_equal(*masks)
    labels = ("--images", pairs / "images", "--labels", pairs / "labels")
    refused = run("finetune", "-m", out, *labels, "-o", tmp_path / "n", "--steps", "1")
    assert "comes from another program" in refused.refusal


class TestRefusals:
    def test_unknown_format(self, run, model_file, tmp_path):
        refusal = run("export", model_file, "-o", tmp_path / "net.h5").refusal
        assert ".onnx, .pt, .zip" in refusal

    def test_package_without_an_author(self, run, model_file, tmp_path):
        refusal = run("export", model_file, "-o", tmp_path / "net.zip").refusal
        assert "--image" in refusal
        assert "--author" in refusal

    def test_folder_that_is_a_file(self, run, model_file, tmp_path):
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "net.pt"
        assert "file, not a folder" in run("export", model_file, "-o", out).refusal

    def test_documentation_that_is_none(self, run, model_file, pairs, tmp_path):
        image = pairs / "images" / "0.tif"
        given = ("--image", image, *ZIP, "--documentation", tmp_path / "none.md")
        refusal = run("export", model_file, "-o", tmp_path / "n.zip", *given).refusal
        assert "Markdown" in refusal

    def test_scale_that_has_no_words(self, run, pairs, tmp_path):
        model = napari_seg.create_model("unet", 3, slices=3, width=4, depth=2)
        file = napari_seg.save_model(model, tmp_path / "deep")
        given = ("--image", pairs / "images" / "0.tif", *ZIP)
        refusal = run("export", file, "-o", tmp_path / "n.zip", *given).refusal
        assert "neighbouring slices" in refusal
