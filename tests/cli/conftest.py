"""Small models and data sets, and a way to run a command in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch

from napari_seg.cli import main
from napari_seg.models.checkpoint import save_model
from napari_seg.models.registry import create_model
from napari_seg.synthetic import synthetic_nuclei


class Ran:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line of a command that refuses what it was given."""
        assert (self.status, self.out) == (2, ""), (self.out, self.err)
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        return lines[0]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return command


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Return a folder of three images of nuclei, 96 × 96 pixels, with labels."""
    folder = tmp_path / "data"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for seed in range(3):
        sample = synthetic_nuclei((96, 96), n=6, seed=seed)
        tifffile.imwrite(folder / "images" / f"{seed}.tif", sample.image)
        tifffile.imwrite(folder / "labels" / f"{seed}.tif", sample.mask)
    return folder


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a tiny untrained model, background and nucleus."""
    # Some random weights find one class everywhere.
    torch.manual_seed(28)
    model = create_model("unet", classes=["background", "nucleus"], width=4, depth=2)
    return save_model(model, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Return options for a training of less than a second."""
    return ("--steps", "3", "--crop", "32", "--batch", "1")
