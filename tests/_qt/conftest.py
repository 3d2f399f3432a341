"""Everything in this folder needs Qt and a screen."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import napari
import numpy as np
import pytest
from npe2 import PluginManager
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_seg.synthetic import synthetic_nuclei
from tests._qt.person import SIDE, Person, balanced_model

_HERE = Path(__file__).parent
# vispy keeps the widget of a closed canvas for the next one.
_KEPT_BY_VISPY = "CanvasBackendDesktop"
# An enumeration with PyQt6, a number with PyQt5; Qt's function takes numbers.
_DEFERRED_DELETE = int(
    getattr(QEvent.Type.DeferredDelete, "value", QEvent.Type.DeferredDelete)
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook is handed those of all folders."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.gui)


@pytest.fixture(scope="session", autouse=True)
def plugins_found_once() -> Iterator[None]:
    """Spare each viewer the search for plugins, of which none comes or goes here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PluginManager, "discover", functools.cache(PluginManager.discover)
        )
        yield


@pytest.fixture
def no_widget_left(qapp: QApplication) -> Iterator[None]:
    """Fail the test if it leaves windows, or widgets without a parent, behind."""
    # What is there already is nothing that this test could leave: the collections at
    # its end, here and in napari's fixture, took half of the time of all tests.
    gc.freeze()
    before = set(QApplication.topLevelWidgets())
    yield
    for _ in range(3):
        gc.collect()
        QCoreApplication.sendPostedEvents(None, _DEFERRED_DELETE)
        QApplication.processEvents()
    left = set(QApplication.topLevelWidgets()) - before
    names = [_describe(w) for w in left if type(w).__name__ != _KEPT_BY_VISPY]
    assert not names, f"These widgets outlived the test: {sorted(names)}"


def _describe(widget: QWidget) -> str:
    name = widget.objectName() or widget.windowTitle()
    return f"{type(widget).__name__} {name!r}"


@pytest.fixture
def viewer(
    no_widget_left: None, make_napari_viewer: Callable[..., napari.Viewer]
) -> napari.Viewer:
    """Return a napari viewer of 1200 × 800 on the screen; it is closed at the end."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    QApplication.processEvents()
    return viewer


@pytest.fixture(scope="module")
def field() -> NDArray[np.uint16]:
    """Return a plate with six nuclei."""
    return synthetic_nuclei((SIDE, SIDE), n=6, seed=4).image


@pytest.fixture
def model_file(field: NDArray[np.uint16], tmp_path: Path) -> Path:
    """Return a model of random weights that finds something in it."""
    return balanced_model(tmp_path / "tiny", field)


@pytest.fixture
def person(
    viewer: napari.Viewer, field: NDArray[np.uint16], model_file: Path
) -> Iterator[Person]:
    """Return somebody with that image and that model."""
    viewer.add_image(field, name="plate")
    person = Person(viewer, model_file)
    yield person
    person.leave()


@pytest.fixture
def turned(
    viewer: napari.Viewer, field: NDArray[np.uint16], model_file: Path
) -> Iterator[Person]:
    """Return somebody with a turned, slanted and stretched stack of two planes."""
    viewer.add_image(
        np.stack([field, field[::-1]]),
        name="plate",
        scale=(2, 0.5, 0.7),
        translate=(1, 3, -7),
        rotate=[[1, 0, 0], [0, 0.94, -0.34], [0, 0.34, 0.94]],
        shear=(0, 0, 0.2),
    )
    person = Person(viewer, model_file)
    yield person
    person.leave()
