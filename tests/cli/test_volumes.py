"""train, finetune and predict on stacks with a model of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_seg import create_model, save_model
from napari_seg.cli import selection
from napari_seg.corrections.blocks import cut_block, plan_blocks
from napari_seg.corrections.windows import cut_windows, save_windows
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


# Windows of a project ---------------------------------------------------------


def project(folder, volumes=(), planes=(), channels=1):
    """Make a project with windows of stacks whose fifth slice is vouched for."""
    rng = np.random.default_rng(0)
    shape = (12, channels, 64, 64) if channels > 1 else (12, 64, 64)
    image = rng.integers(0, 999, shape).astype("u2")
    truth = rng.integers(0, 2, (64, 64)).astype(np.uint8)
    for name in volumes:
        blocks = plan_blocks({5: truth}, (12, 64, 64), anisotropy=2.0)
        windows = [
            cut_block(
                b, {5: truth}, lambda _, box: image[(box[0], ..., *box[1:])], name
            )
            for b in blocks
        ]
        save_windows(folder / "windows", name, windows)
    for name in planes:
        plane = np.moveaxis(image[5], 0, -1) if channels > 1 else image[5]
        windows = cut_windows(truth, lambda box, p=plane: p[box], name, (5,))
        save_windows(folder / "windows", name, windows)
    return folder


@pytest.fixture
def finetune(run, tmp_path):
    def start(arch, folder, *arguments, **kind):
        options = {"width": 4, "depth": 2, **kind}
        model = save_model(create_model(arch, **options), tmp_path / arch)
        return run(
            *("finetune", "-m", model, "--project", folder, "-o", tmp_path / "new"),
            *("--steps", 1, "--crop", 32, "--batch", 1, "--json", *arguments),
        )

    return start


@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_of_volumes_leaves_windows_of_planes_out(finetune, tmp_path, channels):
    own = project(tmp_path / "own", ["a", "b"], ["c"], channels)
    both = project(tmp_path / "both", ["d"], ["e"], channels)
    planes = project(tmp_path / "planes", [], ["f", "g"], channels)
    given = ("--replay", both, "--replay", planes)
    done = finetune("unet3d", own, *given, anisotropy=2.0, in_channels=channels)
    assert done.status == 0, done.err
    assert done.json["planes_left_out"] == 4
    assert "4 window(s) of planes left out" in done.err
    assert done.json["earlier"]["pixels"] > 0
    refusal = finetune("unet3d", planes, anisotropy=2.0, in_channels=channels).refusal
    assert "are planes, and the model learns from volumes" in refusal


def test_no_more_is_read_than_memory_holds(finetune, tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "MOST_VOXELS", 2 * 12 * 64 * 64)
    own = project(tmp_path / "own", ["a", "b", "c"])
    done = finetune("unet3d", own, anisotropy=2.0)
    assert done.json["passed_over"] == 1
    assert "to save memory" in done.err


@pytest.mark.parametrize("slices", [1, 3])
def test_a_model_of_planes_learns_from_the_labelled_slices(finetune, tmp_path, slices):
    own = project(tmp_path / "own", ["a"], ["b"] if slices == 1 else [])
    done = finetune("unet", own, slices=slices, in_channels=slices)
    assert done.status == 0, done.err
    assert done.json["planes_left_out"] == 0
    (run,) = read_spec(tmp_path / "new.safetensors").history
    windows = 2 if slices == 1 else 1
    assert run["known_pixels"] + done.json["pixels"] == windows * 64 * 64


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_windows_keep_all_channels(finetune, tmp_path, channels):
    own = project(tmp_path / "own", [], ["a"], channels)
    done = finetune("unet", own, in_channels=channels)
    assert done.status == 0, done.err
