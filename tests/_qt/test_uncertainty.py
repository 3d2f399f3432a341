"""*Map*: a map of where the model is probably wrong."""

from __future__ import annotations

import napari
import numpy as np
import pytest
from napari.layers import Image
from numpy.typing import NDArray

from napari_seg._qt.viewer_link import coarse_transform
from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def person(turned: Person) -> Person:
    return turned


def layer(person: Person) -> Image | None:
    found = [each for each in person.viewer.layers if "uncertainty" in each.name]
    return found[0] if found else None


def test_it_lies_below_the_mask_and_over_the_right_pixels(person: Person) -> None:
    button = person.button("uncertainty_button")
    assert not button.isEnabled()
    mask = person.predict()
    person.press("uncertainty_button")
    shown = layer(person)
    assert shown is not None
    assert button.isChecked()
    names = [each.name for each in person.viewer.layers]
    assert names.index(shown.name) == names.index(mask.name) - 1
    assert person.viewer.layers.selection.active is mask, "one goes on painting"
    assert person.combo("image_combo").findText(shown.name) == -1
    assert 0 < shown.data.max() <= 0.5
    # The middle of a cell of 8 pixels is where it shall be.
    for cell in ((0, 0, 0), (1, 3, 5)):
        pixel = (cell[0], 8 * cell[1] + 3.5, 8 * cell[2] + 3.5)
        np.testing.assert_allclose(
            shown.data_to_world(cell), mask.data_to_world(pixel), atol=1e-6
        )
    person.press("uncertainty_button")
    assert layer(person) is None
    assert not button.isChecked()


def test_it_follows_the_next_prediction(person: Person) -> None:
    person.predict()
    person.press("uncertainty_button")
    shown = layer(person)
    assert shown is not None
    drawn = []
    shown.events.set_data.connect(lambda: drawn.append(shown.data.max()))
    person.session.uncertainty.density[:] = 0
    person.predict()
    assert drawn[-1] > 0
    assert layer(person) is shown


def test_a_layer_that_is_thrown_away_switches_it_off(person: Person) -> None:
    person.predict()
    person.press("uncertainty_button")
    person.viewer.layers.remove("plate uncertainty")
    hands.settle()
    assert not person.button("uncertainty_button").isChecked()
    person.press("uncertainty_button")
    assert layer(person) is not None


def test_it_goes_with_its_mask(person: Person, field: NDArray[np.uint16]) -> None:
    person.predict()
    person.press("uncertainty_button")
    person.viewer.add_image(field, name="other")
    hands.settle()
    hands.choose(person.combo("image_combo"), "other")
    hands.settle(0.2)
    assert layer(person) is None
    assert not person.button("uncertainty_button").isChecked()
    assert not person.failures


def test_cells_of_a_plane(viewer: napari.Viewer) -> None:
    mask = viewer.add_labels(np.zeros((40, 48), np.uint8), scale=(2, 3))
    map_layer = viewer.add_image(np.zeros((5, 6)), **coarse_transform(mask, 8))
    np.testing.assert_allclose(
        map_layer.data_to_world((4, 5)), mask.data_to_world((35.5, 43.5))
    )
