"""Training from scratch by command."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from napari_seg.models.checkpoint import load_model


@pytest.fixture
def train(run, pairs, tmp_path, quick):
    def command(*more, arch="unet"):
        data = ("--images", pairs / "images", "--labels", pairs / "labels")
        output = ("-o", tmp_path / "model")
        return run("train", *data, "--arch", arch, *output, *quick, *more)

    return command


def test_json_has_the_keys_of_the_contract(train, tmp_path):
    result = train("--width", "4", "--json").json
    assert result.keys() == {"model", "steps", "seconds", "holdout"}
    assert result["steps"] == 3
    assert {"iou", "dice", "mean_iou", "mean_dice"} <= result["holdout"].keys()
    spec = load_model(tmp_path / "model.safetensors").spec
    assert (spec.name, spec.width) == ("model", 4)
    assert spec.classes == ("background", "class 1")


def test_encoder_and_classes(train):
    more = ("--encoder", "resnet18", "--classes", "ground, nucleus", "--holdout", "0")
    spec = load_model(train(*more, "--json").json["model"]).spec
    assert (spec.encoder, spec.classes) == ("resnet18", ("ground", "nucleus"))


def test_atrous_options(train):
    more = ("--encoder", "resnet18", "--output-stride", "16", "--separable")
    done = train(*more, "--steps", "1", arch="deeplabv3plus")
    spec = load_model(done.out.splitlines()[1].split(" (")[0]).spec
    assert (spec.output_stride, spec.separable) == (16, True)
    assert "no output stride to choose" in train("--output-stride", "8").refusal


def test_same_seed_same_model(train):
    weights = []
    for seed in (1, 1, 2):
        path = train("--width", "4", "--seed", seed, "--json").json["model"]
        weights.append(load_model(path).head.weight)
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_gray_and_rgb_images_make_a_model_for_both(train, pairs):
    path = pairs / "images" / "0.tif"
    tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 3, -1))
    spec = load_model(train("--width", "4", "--json").json["model"]).spec
    assert (spec.in_channels, spec.gray_as_rgb) == (3, True)


def test_images_of_different_channels(train, pairs):
    path = pairs / "images" / "0.tif"
    tifffile.imwrite(path, np.stack([tifffile.imread(path)] * 2))
    assert "different numbers of channels" in train().refusal


def test_masks_of_0_and_255(train, pairs):
    for path in (pairs / "labels").iterdir():
        tifffile.imwrite(path, tifffile.imread(path) * np.uint8(255))
    assert "mask > 0" in train().refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--encoder", "vgg16"), "choose one of"),
        (("--width", "0"), "width is 0"),
        (("--minutes", "-3"), "must be above 0"),
    ],
)
def test_wrong_option(run, pairs, tmp_path, arguments, message):
    data = ("--images", pairs / "images", "--labels", pairs / "labels")
    done = run("train", *data, "--arch", "unet", "-o", tmp_path / "m", *arguments)
    assert message in done.refusal
    assert not (tmp_path / "m.safetensors").exists()


def test_more_classes_in_the_labels_than_names(train, pairs):
    labels = tifffile.imread(pairs / "labels" / "0.tif")
    labels[0] = 4
    tifffile.imwrite(pairs / "labels" / "0.tif", labels)
    assert "--classes names only 2" in train("--classes", "a,b").refusal


def test_unknown_architecture(train):
    assert "choose from" in train(arch="mask-rcnn").refusal


@pytest.mark.slow
def test_real_images(run, shared_data, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((shared_data / "ecoli_brightfield" / kind).iterdir())[:3]:
            shutil.copy(path, tmp_path / kind)
    done = run(
        *("train", "--images", tmp_path / "images", "--labels", tmp_path / "masks"),
        *("--arch", "unet", "--width", "8", "--steps", "40", "--crop", "64"),
        *("--batch", "4", "-o", tmp_path / "cells", "--json"),
    )
    assert done.json["holdout"]["dice"][1] > 0.3


def test_neighbouring_slices_are_learned_from(run, tmp_path):
    # Bright in the slice above means foreground: a slice alone tells nothing.
    rng = np.random.default_rng(0)
    bright = rng.random((9, 4, 4)) > 0.5
    masks = np.roll(bright, 1, axis=0).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    images = bright.repeat(16, 1).repeat(16, 2) * 100 + rng.integers(0, 9, masks.shape)
    # The first slice has none above it.
    masks[0] = 255
    for name, stack in (("images", images.astype(np.uint8)), ("labels", masks)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "stack.tif", stack, metadata={"axes": "ZYX"})
    data = ("--images", tmp_path / "images", "--labels", tmp_path / "labels")
    size = ("--width", "8", "--crop", "64", "--steps", "60", "--slices", "3")
    plain = ("--holdout", "0", "--augment-rotation", "0")
    model = tmp_path / "m.safetensors"
    run("train", *data, "--arch", "unet", *size, *plain, "-o", model)

    network = load_model(model)
    assert (network.spec.slices, network.spec.in_channels) == (3, 3)
    run("predict", tmp_path / "images", "-m", model, "-o", tmp_path / "out")
    found = tifffile.imread(tmp_path / "out" / "stack_mask.tif")
    assert (found[1:] == masks[1:]).mean() > 0.9


def test_slices_come_in_odd_numbers(train):
    assert "slices is odd" in train("--slices", "2").refusal


def test_a_model_that_tells_objects_apart(train, tmp_path):
    assert train("--object-head").status == 0
    assert load_model(tmp_path / "model.safetensors").spec.object_head
    assert "cannot have an object head" in train("--object-head", arch="fcn32s").refusal


def test_a_score_of_one_place_says_so(train, pairs):
    assert "one place" not in train().out
    for folder in ("images", "labels"):
        for name in ("1.tif", "2.tif"):
            (pairs / folder / name).unlink()
    assert "They lie in one place" in train().out
