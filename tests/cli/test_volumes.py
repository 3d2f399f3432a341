"""train, finetune and predict on stacks with a model of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_seg.models.catalog import read_spec


@pytest.fixture
def stacks(tmp_path):
    """Return a folder of two volumes (Z, Y, X) with labels, some unknown."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(2):
        labels = np.zeros((6, 40, 48), np.uint8)
        labels[1:4, 8:20, 10:30] = 1
        labels[:, 30:] = 255
        image = (100 * (labels == 1) + rng.integers(0, 60, labels.shape)).astype("u2")
        tifffile.imwrite(
            tmp_path / "images" / f"{number}.tif",
            image,
            imagej=True,
            resolution=(2, 2),
            metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"},
        )
        tifffile.imwrite(tmp_path / "labels" / f"{number}.tif", labels)
    return tmp_path


QUICK = ("--steps", 2, "--crop", 32, "--batch", 1, "--width", 4)


def test_from_stacks_to_masks(run, stacks):
    folders = ("--images", stacks / "images", "--labels", stacks / "labels")
    model = stacks / "model"
    ran = run("train", "--arch", "unet3d", *folders, *QUICK, "-o", model, "--json")
    assert ran.json["steps"] == 2
    spec = read_spec(stacks / "model.safetensors")
    # As the files say: 1.5 µm between slices, 0.5 µm between pixels.
    assert (spec.ndim, spec.anisotropy, spec.depth) == (3, 3.0, 3)

    tuned = stacks / "tuned"
    again = run(
        "finetune", "-m", f"{model}.safetensors", *folders, *QUICK[:6], "-o", tuned
    )
    assert again.status == 0, again.err

    found = run(
        "predict",
        stacks / "images",
        *("-m", f"{tuned}.safetensors", "-o", stacks / "masks"),
        *("--confidence", "--instances", "--json"),
    )
    output = found.json["outputs"][0]
    assert output["shape"] == [6, 40, 48]
    assert tifffile.imread(output["mask"]).shape == (6, 40, 48)
    assert tifffile.imread(output["confidence"]).min() >= 0.5


def test_anisotropy_can_be_given_but_not_to_planes(run, stacks):
    folders = ("--images", stacks / "images", "--labels", stacks / "labels")
    given = (*folders, *QUICK, "--anisotropy", 1, "-o", stacks / "model")
    assert run("train", "--arch", "unet3d", *given).status == 0
    assert read_spec(stacks / "model.safetensors").anisotropy == 1
    refusal = run("train", "--arch", "unet", *given).refusal
    assert "leave it out for U-Net" in refusal


def test_planes_and_workers_are_refused(run, stacks, pairs):
    folders = ("--images", pairs / "images", "--labels", pairs / "labels")
    given = ("--arch", "unet3d", *folders, *QUICK, "-o", stacks / "model")
    assert "is a plane" in run("train", *given).refusal
    folders = ("--images", stacks / "images", "--labels", stacks / "labels")
    run("train", "--arch", "unet3d", *folders, *QUICK, "-o", stacks / "model")
    given = ("-m", stacks / "model.safetensors", "-o", stacks / "masks", "--crf")
    assert "without the CRF" in run("predict", stacks / "images", *given).refusal
