"""Fixtures of every test, and the choice of one Qt binding for all who ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.weight_server import WeightServer

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
