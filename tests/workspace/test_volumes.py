"""A stack in the dock, with a model that sees volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tifffile import imread

from napari_seg import create_model, load_model, predict, save_model, score
from napari_seg.corrections.manifest import ReadAs
from napari_seg.corrections.windows import read_origin, read_ranges
from napari_seg.training.child import FinetuneCommand
from napari_seg.workspace import ImageSource, View, Workspace, obstacles, teaching
from napari_seg.workspace.lesson import (
    Lesson,
    finetune_command,
    save_training_windows,
    vouched_planes,
)
from tests.workspace.conftest import Heard, make_model

UNKNOWN = 255


def balls(shape: tuple[int, ...], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return bright ellipsoids, half as high in slices as wide, and where they are."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[tuple(map(slice, shape))]
    truth = np.zeros(shape, np.uint8)
    for _ in range(8):
        c = rng.integers((3, 8, 8), np.subtract(shape, (3, 8, 8)))
        truth[(2 * (z - c[0])) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 60] = 1
    image = 1000 + 800.0 * truth + rng.normal(0, 150, shape)
    return image.clip(0).astype(np.uint16), truth


def model_of_volumes(path: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    kind = {"width": 4, "depth": 2, "anisotropy": 2.0, **settings}
    kind.setdefault("classes", ["background", "nucleus"])
    return save_model(create_model("unet3d", **kind), path)


def test_a_stack_is_predicted_view_first_and_then_all(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = model_of_volumes(tmp_path / "volumes")
    stack = np.random.default_rng(0).integers(0, 999, (7, 40, 64)).astype(np.uint16)
    workspace.open_model(path)
    workspace.set_image(ImageSource("stack", stack))
    view = View((3,), slice(0, 32), slice(10, 50))
    workspace.predict(view, everything=False)
    assert workspace.session is not None
    reference = workspace.session.mask.reference
    assert (reference != 255).sum() == 32 * 40
    assert (reference[3, :32, 10:50] != 255).all()
    workspace.predict(view, everything=True)
    assert (reference == predict(load_model(path), stack, axes="ZYX").labels).all()
    assert "nothing to learn from yet" in obstacles.to_finetune(workspace)
    workspace.accept(view)
    assert obstacles.to_finetune(workspace) == ""


def correct(workspace: Workspace, truth: NDArray[Any], slices: list[int]) -> None:
    """Make some slices right, and accept them."""
    assert workspace.session is not None
    for z in slices:
        workspace.session.mask.labels[z] = truth[z]
        workspace.edited((z,))
        rows, columns = (slice(0, side) for side in truth.shape[1:])
        workspace.accept(View((z,), rows, columns))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_few_corrected_slices_teach_a_model_of_volumes(
    workspace: Workspace,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a real child process, as the dock runs it."""

    def by_steps(*arguments: Any) -> FinetuneCommand:
        # Minutes would depend on the machine.
        return replace(finetune_command(*arguments), steps=40)

    monkeypatch.setattr(teaching, "finetune_command", by_steps)
    workspace.open_model(model_of_volumes(tmp_path / "volumes"))
    workspace.finetune_arguments = (
        *("--crop", "32", "--learning-rate", "0.01", "--average", "0.9"),
    )
    image, truth = balls((16, 64, 96), 0)
    workspace.set_image(ImageSource("stack", image))
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    reference = workspace.session.mask.reference
    slices = [3, 8, 12]
    others = [z for z in range(len(truth)) if z not in slices]
    before = score(reference[others], truth[others]).dice[1]
    correct(workspace, truth, slices)
    workspace.finetune(1)
    assert not heard.failures
    assert workspace.verdict is not None
    assert workspace.verdict["version"] == "v001"
    loss = workspace.teacher.curves.loss
    assert loss[-1] < loss[0] / 2
    workspace.keep()
    assert workspace.version == "v001"
    after = score(reference[others], truth[others]).dice[1]
    assert after > max(before + 0.2, 0.8)
    labels = workspace.session.mask.labels
    np.testing.assert_array_equal(labels[slices], truth[slices])
    assert workspace.choice is not None
    (run,) = workspace.choice.spec.history
    assert run["project"] == workspace.session.project.folder.name


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "CTZYX"])
def test_windows_hold_the_vouched_voxels_of_each_time_point(
    workspace: Workspace, tmp_path: Path, axes: str, lazy: bool
) -> None:
    lengths = {"C": 2, "T": 3, "Z": 20, "Y": 64, "X": 70}
    shape = tuple(lengths[letter] for letter in axes)
    image = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    data = da.from_array(image, (1, *shape[1:])) if lazy else image
    channels = lengths["C"] if "C" in axes else 1
    workspace.open_model(model_of_volumes(tmp_path / "v", in_channels=channels))
    workspace.set_image(ImageSource("movie", data, read_as=ReadAs(axes=axes)))
    assert workspace.begin()
    session = workspace.session
    assert session is not None
    # In the order of the mask's axes; both are in one slice alone.
    for t, z in ((0, 4), (2, 19)):
        index = (z, t) if axes.index("Z") < axes.index("T") else (t, z)
        session.mask.labels[(*index, slice(10, 20), slice(30, 45))] = 1
    workspace.edited()
    assert workspace.choice is not None
    planes = vouched_planes(session)
    assert save_training_windows(session, planes, workspace.choice.spec) == 0
    folder = session.project.windows_folder
    files = sorted((folder / "images").iterdir())
    assert [read_origin(file) for file in files] == [
        (f"{session.image_id}__i0000_", 0, 0),
        (f"{session.image_id}__i0002_", 0, 0),
    ]
    order = [axes.index(letter) for letter in axes if letter in "TZ"]
    mask = session.mask.truth()
    if order == [axes.index("Z"), axes.index("T")]:
        mask = mask.swapaxes(0, 1)
    place = [axes.index(letter) for letter in "TZCYX" if letter in axes]
    for file, t in zip(files, (0, 2), strict=True):
        labels = imread(folder / "labels" / file.name)
        np.testing.assert_array_equal(labels, mask[t])
        assert (labels == 1).sum() == (labels != UNKNOWN).sum() == 150
        np.testing.assert_array_equal(imread(file), image.transpose(place)[t])
        np.testing.assert_array_equal(read_ranges(file), session.ranges)


def test_what_a_model_of_volumes_cannot_learn_from(
    workspace: Workspace, tmp_path: Path, image: NDArray[np.uint16]
) -> None:
    workspace.open_model(model_of_volumes(tmp_path / "volumes"))
    workspace.set_image(ImageSource("plate", image))
    workspace.predict(None, everything=True)
    workspace.accept(View((), slice(0, 64), slice(0, 64)))
    assert "has no Z axis" in obstacles.to_finetune(workspace)
    movie = np.stack([image] * 3)
    workspace.set_image(ImageSource("movie", movie, read_as=ReadAs(axes="TYX")))
    assert workspace.begin()
    workspace.accept(View((0,), slice(0, 64), slice(0, 64)))
    assert "give Z to one of its axes" in obstacles.to_finetune(workspace)
    workspace.read_as(ReadAs(axes="ZYX", zoom=2.0))
    assert workspace.begin()
    workspace.accept(View((0,), slice(0, 64), slice(0, 64)))
    assert "set the zoom to 1" in obstacles.to_finetune(workspace)
    workspace.read_as(ReadAs(axes="ZYX"))
    assert obstacles.to_finetune(workspace) == ""


def test_windows_follow_the_model(
    workspace: Workspace, tmp_path: Path, image: NDArray[np.uint16]
) -> None:
    """Of planes or of volumes: never both of one image."""
    workspace.set_image(ImageSource("stack", np.stack([image] * 4)))
    assert workspace.begin()
    session = workspace.session
    assert session is not None
    workspace.accept(View((2,), slice(0, 64), slice(0, 64)))
    for path, name in (
        (model_of_volumes(tmp_path / "volumes"), "z00000_y00000_x00000"),
        (make_model(tmp_path / "planes"), "i0002_y00000_x00000"),
    ):
        workspace.open_model(path)
        assert workspace.choice is not None
        save_training_windows(session, vouched_planes(session), workspace.choice.spec)
        (window,) = (session.project.windows_folder / "images").iterdir()
        assert window.stem == f"{session.image_id}__{name}"


def test_the_card_says_what_was_left_out() -> None:
    result = {
        **{key: {"mean_dice": None} for key in ("before", "after")},
        **{"sentence": "Better.", "steps": 3, "seconds": 2.0, "plateau": False},
        **{"planes_left_out": 1, "passed_over": 12},
    }
    lines = teaching.verdict_text(result).splitlines()
    assert lines[1:3] == [
        "1 window of planes left out.",
        "12 windows more than memory could hold.",
    ]


def test_a_new_model_of_volumes_for_a_stack(
    workspace: Workspace, tmp_path: Path, image: NDArray[np.uint16]
) -> None:
    def offered() -> list[float | None]:
        return [c.spec.anisotropy for c in workspace.choices() if c.spec.ndim == 3]

    stack = np.stack([image] * 4)
    workspace.set_image(ImageSource("plate", image))
    assert offered() == []
    workspace.set_image(ImageSource("movie", stack, read_as=ReadAs(axes="TYX")))
    assert offered() == []
    workspace.set_image(ImageSource("cubes or not told", stack, steps=(1, 1, 1)))
    assert offered() == [2.0]
    workspace.set_image(ImageSource("stack", stack, steps=(1.5, 0.5, 0.5)))
    assert offered() == [3.0]
    new = next(c for c in workspace.choices() if c.label == "New 3D U-Net")
    workspace.set_model(new)
    assert workspace.reading.slices is None
    assert workspace.begin()
    workspace.accept(View((2,), slice(0, 64), slice(0, 64)))
    assert obstacles.to_finetune(workspace) == ""
    assert workspace.session is not None
    command = finetune_command(workspace.session, Lesson(new, 0.1, "cpu", ()))
    spec = load_model(command.model).spec
    assert (spec.arch, spec.anisotropy, spec.depth) == ("unet3d", 3.0, 3)
