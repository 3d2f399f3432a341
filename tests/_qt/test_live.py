"""Live: what comes into view is predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtWidgets import QCheckBox

from tests._qt import hands
from tests._qt.person import Person


def look(person: Person, y: float, x: float, zoom: float) -> None:
    person.camera.center = (y, x)
    person.camera.zoom = zoom
    hands.settle(0.1)


def predicted(person: Person) -> NDArray[Any]:
    """Return where the model has said something."""
    return np.asarray(person.session.mask.reference != 255)


@pytest.fixture
def live(person: Person) -> QCheckBox:
    return person.find(QCheckBox, "live_check")


def test_it_follows_the_view_and_predicts_nothing_twice(
    person: Person, live: QCheckBox
) -> None:
    look(person, 10, 10, 60)
    hands.press_button(live)
    person.wait(lambda: person.session.ledger is not None and predicted(person).any())
    person.wait(person.idle)
    first = predicted(person).copy()
    assert not first.all()
    side = first.shape[0]
    look(person, side - 10, side - 10, 60)
    person.wait(lambda: predicted(person)[-5, -5])
    person.wait(person.idle)
    # Back where everything is known, the model has nothing to do.
    began: list[Any] = []
    person.workspace.predicting.connect(began.append)
    look(person, 10, 10, 60)
    hands.settle(1.0)
    assert not began
    # Another model has.
    person.workspace.choice = None
    hands.press_button(live)


def test_off_by_default_and_off_again(person: Person, live: QCheckBox) -> None:
    hands.settle(0.7)
    assert person.session.ledger is None
    hands.press_button(live)
    person.wait(lambda: person.session.ledger is not None and predicted(person).all())
    hands.press_button(live)
    before = person.session.mask.reference.copy()
    hands.settle(0.7)
    np.testing.assert_array_equal(person.session.mask.reference, before)


def test_what_was_painted_stays(person: Person, live: QCheckBox) -> None:
    person.workspace.begin()
    person.wait(lambda: person.dock.mask_view.layer is not None)
    person.mask.selected_label = 1
    side = person.mask.data.shape[0]
    hands.drag(person.viewer, [(side / 2, 10), (side / 2, side - 10)])
    painted = person.mask.data == 1
    assert painted.any()
    hands.press_button(live)
    person.wait(lambda: predicted(person).all())
    person.wait(person.idle)
    assert (person.mask.data[painted] == 1).all()
    hands.press_button(live)
