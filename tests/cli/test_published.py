"""Published weights by command, from a server on this machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch

from napari_seg.cli.models import _text
from napari_seg.models.checkpoint import load_model
from napari_seg.models.published import IMAGENET, weights_folder


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photograph.tif"
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    tifffile.imwrite(path, image)
    return path


def test_models_lists_what_can_be_fetched(run, voc_tiny):
    load_model("voc-tiny")
    entries = run("models", "--json").json["models"]
    listed = {entry["name"]: entry for entry in entries}
    entry = listed["voc-deeplabv3-resnet50"]
    assert entry["parameters"] == 42_004_074
    assert (entry["source"], entry["megabytes"]) == ("published", 168)
    assert (entry["fetched"], listed["voc-tiny"]["fetched"]) == (False, True)
    text = _text(entries)
    assert "published, 218 MB, fetched on first use" in text
    assert "background, aeroplane, bicycle, ... (21)" in text
    assert "published, 0 MB, here" in text


def test_predict_fetches_a_model_by_name(run, voc_tiny, photograph, tmp_path):
    arguments = ("predict", photograph, "-m", "voc-tiny", "-o", tmp_path / "masks")
    done = run(*arguments, "--json", "--progress", "json")
    (output,) = done.json["outputs"]
    assert output["classes"] == ["background", "cat", "dog"]
    events = [json.loads(line) for line in done.err.splitlines()]
    fetched = [event for event in events if event["event"] == "fetch"]
    assert fetched[-1]["done"] == fetched[-1]["total"] > 0
    assert fetched[-1]["file"].startswith("tiny-")
    assert '"fetch"' not in run(*arguments, "--progress", "json").err


def test_offline_is_one_line_and_no_fault_of_the_user(
    run, voc_tiny, weight_server, photograph, tmp_path
):
    weight_server.stop()
    done = run("predict", photograph, "-m", "voc-tiny", "-o", tmp_path / "masks")
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert weight_server.address in line
    assert str(weights_folder()) in line


def test_train_starts_from_imagenet(run, pairs, tmp_path, published_resnet18, resnet18):
    """With a rate of 0 the encoder stays what was fetched."""
    data = ("--images", pairs / "images", "--labels", pairs / "labels")
    arguments = ("train", *data, "--arch", "unet", "--encoder", "resnet18")
    quick = ("--steps", "1", "--crop", "32", "--batch", "1", "--holdout", "0")
    options = ("--encoder-weights", "imagenet", "--encoder-rate", "0", *quick)
    path = run(*arguments, *options, "-o", tmp_path / "m", "--json").json["model"]
    model = load_model(path)
    assert model.spec.normalization == IMAGENET.for_channels(1)
    encoder = model.get_submodule("encoder").state_dict()
    kernels = resnet18["conv1.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(encoder["conv1.weight"], kernels)
    key = "layer4.1.conv2.weight"
    torch.testing.assert_close(encoder[key], resnet18[key])


def test_finetune_begins_with_a_published_model(run, pairs, quick, tmp_path, voc_tiny):
    data = ("--images", pairs / "images", "--labels", pairs / "labels")
    arguments = ("finetune", "-m", "voc-tiny", *data, *quick, "-o", tmp_path / "tuned")
    result = run(*arguments, "--classes", "background,nucleus", "--json").json
    spec = load_model(result["model"]).spec
    assert spec.classes == ("background", "nucleus")
    assert spec.normalization == voc_tiny.spec.normalization
