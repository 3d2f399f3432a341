"""Fixtures of every test, and the choice of one Qt binding for all who ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from napari_seg.models.base import SegmentationModel
from napari_seg.models.encoders import create_resnet
from napari_seg.models.published import ENCODERS, MODELS, PublishedModel
from napari_seg.models.registry import build
from tests.weight_server import TINY, WeightServer, as_pth

# Both bindings are installed for development.  qtpy takes PyQt5 first and pytest-qt
# PyQt6; here, before either loads one, they are made to agree.
os.environ.setdefault("QT_API", "pyqt5")
os.environ["PYTEST_QT_API"] = os.environ["QT_API"]
# An empty name keeps napari from reading and writing the settings of the user.
os.environ["NAPARI_CONFIG"] = ""

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which takes the place of the user's own."""
    home = tmp_path / "napari-seg-home"
    monkeypatch.setenv("NAPARI_SEG_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of the real data sets, which lie beside the checkout."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"needs the data sets in {_SHARED_DATA}, which are not here")
    return _SHARED_DATA


@pytest.fixture
def weight_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightServer]:
    """Return a server of weight files on this machine; no other one is asked."""
    with WeightServer() as server:
        monkeypatch.setenv("NAPARI_SEG_WEIGHTS_URL", server.address)
        # A proxy of the user's must not stand between.
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def voc_tiny(
    weight_server: WeightServer, monkeypatch: pytest.MonkeyPatch
) -> SegmentationModel:
    """Publish a tiny model as ``voc-tiny``, and return it."""
    torch.manual_seed(0)
    model = build(TINY).eval()
    file = weight_server.offer("tiny", as_pth(model.state_dict()))
    monkeypatch.setitem(MODELS, TINY.name, PublishedModel(TINY, file))
    return model


@pytest.fixture(scope="session")
def resnet18() -> dict[str, torch.Tensor]:
    """Return weights in the layout of torchvision's classifier of that name."""
    torch.manual_seed(1)
    state = create_resnet("resnet18", 3).state_dict()
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.fixture
def published_resnet18(
    resnet18: dict[str, torch.Tensor],
    weight_server: WeightServer,
    monkeypatch: pytest.MonkeyPatch,
) -> WeightServer:
    """Publish an encoder of real size, and return the server."""
    file = weight_server.offer("resnet18", as_pth(resnet18))
    monkeypatch.setitem(ENCODERS, "resnet18", file)
    return weight_server
