"""A workspace without a viewer: jobs run where they are started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_seg import create_model, save_model
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.tasks import run_inline

SIDE = 96


class Heard:
    """What a workspace said."""

    def __init__(self, workspace: Workspace) -> None:
        self.failures: list[Exception] = []
        self.told: list[str] = []
        self.boxes: list[Any] = []
        self.progress: list[Any] = []
        workspace.failed.connect(self._failed)
        workspace.told.connect(self._told)
        workspace.pixels_changed.connect(self._pixels)
        workspace.predicting.connect(self._predicting)

    def _failed(self, error: Exception) -> None:
        self.failures.append(error)

    def _told(self, text: str) -> None:
        self.told.append(text)

    def _pixels(self, box: Any) -> None:
        self.boxes.append(box)

    def _predicting(self, progress: Any) -> None:
        self.progress.append(progress)


@pytest.fixture
def image() -> NDArray[np.uint16]:
    return synthetic_nuclei((SIDE, SIDE), n=6, seed=2).image


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return make_model(tmp_path / "tiny")


def make_model(path: Path, **settings: Any) -> Path:
    """Save a tiny model of random weights."""
    torch.manual_seed(0)
    kind = {"width": 8, "classes": ["background", "nucleus"], **settings}
    return save_model(create_model("unet", **kind), path)


@pytest.fixture
def workspace(user_home: Path, model_file: Path) -> Iterator[Workspace]:
    """Return a workspace with a tiny model and no image."""
    workspace = Workspace(run_inline)
    workspace.open_model(model_file)
    yield workspace
    workspace.close()


@pytest.fixture
def heard(workspace: Workspace) -> Heard:
    return Heard(workspace)


@pytest.fixture
def source(image: NDArray[np.uint16]) -> ImageSource:
    return ImageSource("plate", image)
