"""The script that trains the bundled models, on a handful of small images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import binary_dilation

from napari_seg.errors import InputError
from napari_seg.models.catalog import read_spec
from napari_seg.models.checkpoint import load_model
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training import pretrain
from napari_seg.training.pretrain_data import read_kinds, split_nuclei
from napari_seg.training.rehearsal import drawn_replay
from napari_seg.training.sampling import CropSampler
from napari_seg.training.textures import stained_cells, textured_objects

SIDES = {"fluorescence": 96, "brightfield": 128}


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
    small = pretrain.replace(pretrain.OPTIONS, crop=32, batch=2)
    monkeypatch.setattr(pretrain, "OPTIONS", small)
    monkeypatch.setattr(pretrain, "DRAWN", 3)
    monkeypatch.setattr(pretrain, "DRAWN_SIDE", 48)


def test_what_is_left_out_is_scored_and_not_trained_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    left_out = "brightfield 128x128"
    given = ["nuclei-fast", str(data), "-o", str(output), "--steps", "2"]
    pretrain.main([*given, "--leave-out", left_out])
    scores = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert set(scores) == {"fluorescence 96x96", left_out}

    spec = read_spec(output)
    assert (spec.name, spec.width, spec.gray_as_rgb) == ("nuclei-fast", 8, True)
    run = spec.history[-1]
    assert run["holdout_dice"] == scores
    assert run["holdout_images"] == {"fluorescence 96x96": 1, left_out: 2}
    assert run["left_out"] == [left_out]
    assert drawn_replay(load_model(output)), "fine-tuning will keep it fit"
    assert spec.temperature == run["calibration"]["temperature"] != 1
    assert min(run["otsu_dice"].values()) > 0.8, "dark nuclei are turned around"

    folder = data / "dsb2018"
    assert len(split_nuclei(folder, spec, [left_out]).training) == 8
    both = split_nuclei(folder, spec, []).training
    assert len(both) == 10
    sampler = CropSampler(both, 32, seed=0)
    drawn = [float(sampler.draw(1)[0][0].mean()) for _ in range(400)]
    bright = sum(mean > 0.5 for mean in drawn)
    assert 100 < bright < 240, "two images of ten, but an experiment of their own"


def test_generic_learns_all_kinds_and_keeps_the_common_head(
    data: Path, tmp_path: Path
) -> None:
    planes = [synthetic_nuclei((40, 40), n=4, seed=i) for i in range(5)]
    for part, pixels in (
        ("images", np.stack([plane.image for plane in planes])),
        ("masks", np.stack([plane.mask for plane in planes])),
    ):
        (data / "stack" / part).mkdir(parents=True)
        tifffile.imwrite(data / "stack" / part / "000.tif", pixels)
    output = tmp_path / "generic.safetensors"
    assert pretrain.pretrain("generic", data, output, steps=2) == {}
    spec = read_spec(output)
    assert (spec.name, spec.classes) == ("generic", ("background", "foreground"))
    assert len(spec.history) == 1 + len(read_spec("nuclei").history), "starts from it"
    assert spec.history[-1]["data"] == "kinds: dsb2018, stack, shapes"
    stack = next(k for k in read_kinds(data, spec) if k.name == "stack").examples
    assert [each.labels.shape for each in stack] == [(40, 40)] * 5
    weights = [
        sum(each.weight * each.labels.size for each in kind.examples)
        for kind in read_kinds(data, spec)
    ]
    assert weights == pytest.approx([weights[0]] * 2), "all kinds weigh the same"
    pretrain.pretrain("generic", data, output, steps=1, leave_out=["stack"])
    assert read_spec(output).history[-1]["data"] == "kinds: dsb2018, shapes"
    with pytest.raises(InputError, match="there are dsb2018, stack"):
        pretrain.pretrain("generic", data, output, leave_out=["other"])


class TestKindsLoss:
    """Two kinds, of two and of three classes, beside background and foreground."""

    loss = pretrain.KindsLoss(2, [2, 3])

    def target(self, *ids: int) -> torch.Tensor:
        """Return an image of each, half of it class 0 and half the class `ids`."""
        first = [2 if i < 4 else 4 for i in ids]
        return torch.stack(
            [
                torch.cat([torch.full((4, 8), f), torch.full((4, 8), i)])
                for f, i in zip(first, ids, strict=True)
            ]
        )

    def test_each_head_sees_its_kind_only(self) -> None:
        logits = torch.randn(2, 7, 8, 8, requires_grad=True)
        self.loss(logits, self.target(3, 6)).backward()
        used = logits.grad.abs().sum(dim=(2, 3)) > 0
        assert used.tolist() == [
            [True, True, True, True, False, False, False],
            [True, True, False, False, True, True, True],
        ]

    def test_the_right_answer_costs_nothing(self) -> None:
        target = self.target(3, 5)
        right = torch.full((2, 7, 8, 8), -20.0)
        right.scatter_(1, target[:, None], 20.0)
        right[:, 0] = torch.where((target == 2) | (target == 4), 20.0, -20.0)
        right[:, 1] = -right[:, 0]
        assert self.loss(right, target) < 1e-3
        right[:, :2] = right[:, [1, 0]]
        assert self.loss(right, target) > 1

    def test_unknown_pixels_add_nothing(self) -> None:
        target = self.target(3)
        target[:, 2:6] = 255
        logits = torch.randn(1, 7, 8, 8, requires_grad=True)
        self.loss(logits, target).backward()
        assert not logits.grad[:, :, 2:6].any()
        assert logits.grad[:, :4, :2].all()


def test_textured_objects_are_there_and_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    drawn = [textured_objects(96, rng) for _ in range(30)]
    for each in drawn:
        assert each.image.shape == each.mask.shape == (96, 96)
        assert each.image.dtype == np.float32
        assert np.isfinite(each.image).all()
        assert set(np.unique(each.mask)) == {0, 1, 2}
    shares = [float((each.mask > 0).mean()) for each in drawn]
    assert min(shares) < 0.15 < 0.3 < max(shares)
    # Some are told by brightness, others by their grain alone.
    steps = [
        abs(float(e.image[e.mask == 1].mean() - e.image[e.mask == 0].mean()))
        for e in drawn
    ]
    assert min(steps) < 0.05 < 0.2 < max(steps)


def test_stained_cells_hold_nuclei_darker_than_what_is_around_them() -> None:
    rng = np.random.default_rng(0)
    drawn = [stained_cells(128, rng) for _ in range(30)]
    darker = as_dark = 0
    for each in drawn:
        gray = each.image if each.image.ndim == 2 else each.image.mean(axis=-1)
        assert gray.shape == each.mask.shape == (128, 128)
        assert each.image.dtype == np.float32
        assert np.isfinite(each.image).all()
        nucleus = each.mask == 1
        if not nucleus.any():
            continue
        around = binary_dilation(nucleus, iterations=4) & ~nucleus
        darker += bool(gray[nucleus].mean() < gray[around].mean())
        as_dark += bool((gray[~nucleus] < gray[nucleus].mean()).any())
    assert {each.image.ndim for each in drawn} == {2, 3}, "gray and colour"
    assert darker > 25
    assert as_dark > 15, "a threshold would not do"


def test_training_goes_on_from_a_model(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    pretrain.pretrain("nuclei-fast", data, first, steps=1)
    second = tmp_path / "second.safetensors"
    pretrain.pretrain(
        "nuclei-fast", data, second, steps=1, learning_rate=1e-4, start=first
    )
    assert len(read_spec(second).history) == 2


def test_an_experiment_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are brightfield 128x128, fluo"):
        pretrain.pretrain("nuclei", data, tmp_path / "m", leave_out=["x-ray 1x1"])
