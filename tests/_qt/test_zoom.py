"""The model sees the image in another size: zoom, ruler, pixel size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from qtpy.QtWidgets import QDoubleSpinBox

from napari_seg import load_model, predict, save_model
from napari_seg.corrections.windows import read_pixel_size
from tests._qt import hands
from tests._qt.person import SIDE, Person, balanced_model


def _knowing(path: Path, field: NDArray[np.uint16], **facts: float) -> Path:
    """Save a model that knows something of its training images."""
    model = load_model(balanced_model(path, field))
    model.spec = replace(model.spec, **facts)
    return save_model(model, path)


@pytest.fixture
def measured_model(field: NDArray[np.uint16], tmp_path: Path) -> Path:
    return _knowing(tmp_path / "measured", field, object_diameter=20.0)


def _zoom(person: Person) -> QDoubleSpinBox:
    return person.find(QDoubleSpinBox, "zoom_spin")


def test_a_line_across_an_object_sets_the_zoom(
    person: Person, measured_model: Path, field: NDArray[np.uint16]
) -> None:
    assert "how large" in person.button("measure_button").toolTip()
    assert not person.button("measure_button").isEnabled()
    person.workspace.open_model(measured_model)
    hands.settle(0.1)
    before = list(person.viewer.layers)

    person.press("measure_button")
    assert person.button("measure_button").isChecked()
    hands.drag(person.viewer, [(30, 20), (30, 40), (30, 60)])
    person.wait(lambda: not person.button("measure_button").isChecked())

    # 40 px are to become 20; a mouse does not hit a pixel's middle.
    assert _zoom(person).value() == pytest.approx(0.5, abs=0.03)
    assert list(person.viewer.layers) == before
    zoom = person.workspace.reading.zoom
    expected = predict(load_model(measured_model), field, zoom=zoom).labels
    np.testing.assert_array_equal(person.predict().data, expected)


def test_the_ruler_is_put_down(person: Person, measured_model: Path) -> None:
    person.workspace.open_model(measured_model)
    person.predict()
    before = list(person.viewer.layers)
    for _ in range(2):
        person.press("measure_button")
    assert list(person.viewer.layers) == before
    assert person.viewer.layers.selection.active == person.mask
    # Whoever selects another layer has put it down, too.
    person.press("measure_button")
    person.viewer.layers.selection.active = person.mask
    person.wait(lambda: list(person.viewer.layers) == before)
    assert not person.button("measure_button").isChecked()


def test_the_zoom_is_remembered_and_learned_with(person: Person) -> None:
    image = person.viewer.layers[0]
    _zoom(person).setValue(0.5)
    person.predict()
    person.press("accept_view_button")
    person.finetune()
    windows = person.session.project.windows_folder / "images"
    sizes = [read_pixel_size(path) for path in windows.glob("*.tif")]
    assert [size.zoom for size in sizes] == [0.5] * len(sizes) != []
    # Windows are saved as they are: other programs know nothing of a zoom.
    saved = [tifffile.imread(path).shape for path in windows.glob("*.tif")]
    assert saved[0] == (SIDE, SIDE)

    data, name = image.data, image.name
    person.viewer.layers.clear()
    hands.settle(0.2)
    person.viewer.add_image(data, name=name)
    person.wait(lambda: _zoom(person).value() == 0.5)


def test_pixels_of_another_size(
    person: Person, field: NDArray[np.uint16], tmp_path: Path
) -> None:
    if "units" not in dir(napari.layers.Image):
        pytest.skip("napari knows units since 0.5.4")
    model = _knowing(tmp_path / "micro", field, pixel_size=0.5)
    person.workspace.open_model(model)
    layer = person.viewer.add_image(
        field, name="fine", scale=(0.1, 0.1), units=("um", "um")
    )
    hands.choose(person.combo("image_combo"), layer.name)

    assert person.button("fit_zoom_button").text() == "Use 0.20 ×"
    person.press("fit_zoom_button")

    assert _zoom(person).value() == pytest.approx(0.2)
    assert not person.button("fit_zoom_button").isVisible()
