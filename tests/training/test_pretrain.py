"""The script that trains the bundled models, on a handful of small images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import tifffile

from napari_seg.errors import InputError
from napari_seg.models.catalog import read_spec
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training import pretrain

SIDES = {"fluorescence": 48, "brightfield": 64}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with nine fluorescence and two brightfield images."""
    folder = tmp_path / "data" / "dsb2018"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows = []
    for index, kind in enumerate(["fluorescence"] * 9 + ["brightfield"] * 2):
        sample = synthetic_nuclei((SIDES[kind],) * 2, n=4, seed=index)
        top = sample.image.max()
        image = sample.image if kind == "fluorescence" else top - sample.image
        name = f"{index:03}.tif"
        tifffile.imwrite(folder / "images" / name, image)
        tifffile.imwrite(folder / "masks" / name, sample.mask)
        rows.append({"file": name, "modality": kind, "h": SIDES[kind]})
        rows[-1]["w"] = rows[-1]["h"]
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "modality", "h", "w"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    small = pretrain.replace(pretrain._OPTIONS, crop=32, batch=2)
    monkeypatch.setattr(pretrain, "_OPTIONS", small)


def test_what_is_left_out_is_scored_and_not_trained_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    left_out = "brightfield 64x64"
    given = ["nuclei-fast", str(data), "-o", str(output), "--steps", "2"]
    pretrain.main([*given, "--leave-out", left_out])
    scores = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert set(scores) == {"fluorescence 48x48", left_out}

    spec = read_spec(output)
    assert (spec.name, spec.width, spec.gray_as_rgb) == ("nuclei-fast", 8, True)
    run = spec.history[-1]
    assert run["holdout_dice"] == scores
    assert run["holdout_images"] == {"fluorescence 48x48": 1, left_out: 2}
    assert run["left_out"] == [left_out]
    assert min(run["otsu_dice"].values()) > 0.8, "dark nuclei are turned around"

    model = pretrain._new_model("nuclei-fast", 8)
    folder = data / "dsb2018"
    assert len(pretrain._split(folder, model, [left_out]).training) == 8
    assert len(pretrain._split(folder, model, []).training) == 10


def test_training_goes_on_from_a_model(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    pretrain.pretrain("nuclei-fast", data, first, steps=1)
    second = tmp_path / "second.safetensors"
    pretrain.pretrain(
        "nuclei-fast", data, second, steps=1, learning_rate=1e-4, start=first
    )
    assert len(read_spec(second).history) == 2


def test_an_experiment_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are brightfield 64x64"):
        pretrain.pretrain("nuclei", data, tmp_path / "m", leave_out=["x-ray 1x1"])
