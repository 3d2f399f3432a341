"""The line around what was reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Layer
from numpy.typing import NDArray
from qtpy.QtCore import Qt

from napari_seg._qt.accepted_cells import AcceptedCells, outline
from napari_seg.corrections.ledger import Ledger
from napari_seg.workspace import View
from tests._qt import hands
from tests._qt.person import Person


@pytest.fixture
def stack(
    viewer: napari.Viewer, field: NDArray[np.uint16], model_file: Path
) -> Iterator[Person]:
    viewer.add_image(
        np.stack([field] * 3),
        name="stack",
        scale=(4, 0.5, 0.7),
        translate=(0, 3, -7),
        rotate=20,
    )
    person = Person(viewer, model_file)
    person.predict("predict_view_button")
    yield person
    person.leave()


def line(person: Person) -> Layer | None:
    found = [x for x in person.viewer.layers if x.name == "stack reviewed"]
    assert len(found) < 2
    return found[0] if found else None


def accept(person: Person, rows: slice, columns: slice, plane: int = 1) -> None:
    person.workspace.accept(View((plane,), rows, columns))
    hands.settle(0.1)


def enclosed(layer: Layer) -> tuple[list[float], list[float]]:
    """Return the corners of the box around the lines."""
    ends = np.concatenate([layer.data[:, 0], layer.data.sum(axis=1)])
    return ends.min(axis=0).tolist(), ends.max(axis=0).tolist()


# On the screen ----------------------------------------------------------------


@pytest.mark.smoke
def test_the_line_comes_and_goes_and_is_in_nobodys_way(stack: Person) -> None:
    mask, selection = stack.mask, stack.viewer.layers.selection
    stack.viewer.dims.set_current_step(0, 1)
    hands.settle(0.3)
    assert line(stack) is None
    accept(stack, slice(10, 30), slice(20, 60))
    layer = line(stack)
    assert layer is not None
    assert selection.active is mask
    assert set(selection) == {mask}
    assert mask.mode == "paint"
    assert not layer.editable
    assert enclosed(layer) == ([9.5, 19.5], [29.5, 59.5])
    corner = layer.data_to_world((9.5, 19.5))
    np.testing.assert_allclose(corner, mask.data_to_world((1, 9.5, 19.5))[1:])

    accept(stack, slice(30, 50), slice(20, 60))
    assert line(stack) is layer
    assert enclosed(layer) == ([9.5, 19.5], [49.5, 59.5])
    stack.workspace.review.everything(back=True)
    hands.settle(0.1)
    assert line(stack) is None


def test_the_line_follows_the_slider(stack: Person) -> None:
    dims = stack.viewer.dims
    dims.set_current_step(0, 1)
    hands.settle(0.3)
    accept(stack, slice(10, 30), slice(20, 60))
    accept(stack, slice(0, 96), slice(0, 5), plane=2)
    layer = line(stack)
    assert layer is not None
    assert enclosed(layer) == ([9.5, 19.5], [29.5, 59.5])
    dims.set_current_step(0, 2)
    hands.settle(0.1)
    assert enclosed(layer) == ([-0.5, -0.5], [95.5, 4.5])
    dims.set_current_step(0, 0)
    hands.settle(0.1)
    assert len(layer.data) == 0
    dims.set_current_step(0, 1)
    hands.settle(0.1)
    assert enclosed(layer) == ([9.5, 19.5], [29.5, 59.5])


def test_a_removed_line_comes_back_with_the_next_acceptance_only(
    stack: Person,
) -> None:
    stack.viewer.dims.set_current_step(0, 1)
    accept(stack, slice(10, 30), slice(20, 60))
    stack.viewer.layers.remove(line(stack))
    for step in (2, 1):
        stack.viewer.dims.set_current_step(0, step)
        hands.settle(0.1)
    hands.drag(stack.viewer, [(40, 40), (60, 60)], layer=stack.mask)
    hands.settle(0.3)
    assert line(stack) is None
    accept(stack, slice(70, 80), slice(20, 60))
    layer = line(stack)
    assert layer is not None
    assert enclosed(layer) == ([9.5, 19.5], [79.5, 59.5])


def test_the_line_goes_and_comes_with_the_mask(stack: Person) -> None:
    stack.viewer.dims.set_current_step(0, 1)
    accept(stack, slice(10, 30), slice(20, 60))
    stack.viewer.layers.remove(stack.mask)
    hands.settle(0.1)
    assert line(stack) is None
    stack.predict("predict_view_button")
    hands.settle(0.2)
    assert line(stack) is not None
    assert not stack.failures


def test_the_line_stays_thin(stack: Person) -> None:
    accept(stack, slice(10, 30), slice(20, 60))
    layer = line(stack)
    assert layer is not None
    thin = layer.edge_width
    stack.camera.zoom *= 8
    hands.settle(0.3)
    np.testing.assert_allclose(layer.edge_width, thin / 8, rtol=0.3)


def test_the_selection_of_several_layers_stays(stack: Person) -> None:
    layers = stack.viewer.layers
    both = {layers["stack"], stack.mask}
    layers.selection.clear()
    layers.selection.update(both)
    accept(stack, slice(10, 30), slice(20, 60))
    assert line(stack) is not None
    assert set(layers.selection) == both
    hands.press_key(stack.viewer, Qt.Key.Key_Escape)


# What is drawn ----------------------------------------------------------------


@pytest.mark.parametrize("side", [40, 700, 1300])
def test_cells_are_those_with_an_accepted_pixel(side: int) -> None:
    shape = (side, side + 37)
    ledger = Ledger(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    cells = AcceptedCells(ledger, ())
    step = cells.step
    assert max(cells.accepted.shape) <= 512
    rng = np.random.default_rng(side)
    for _ in range(12):
        y, x = (int(rng.integers(0, n - 5)) for n in shape)
        box = slice(y, y + int(rng.integers(1, 300))), slice(x, x + 3)
        box = tuple(
            slice(s.start, min(s.stop, n)) for s, n in zip(box, shape, strict=True)
        )
        (ledger.accept if rng.random() < 0.7 else ledger.unaccept)(box)
        cells.look(box)
    accepted = ledger.state() > 0
    ys, xs = (np.arange(n) // step for n in shape)
    expected = np.zeros_like(cells.accepted)
    np.logical_or.at(expected, (ys[:, None], xs[None]), accepted)
    np.testing.assert_array_equal(cells.accepted, expected)


def test_lines_run_along_the_edges_of_cells() -> None:
    cells = np.zeros((4, 5), bool)
    cells[1:3, 1:4] = True
    cells[3, 4] = True
    lines = outline(cells, 10, (38, 47))
    drawn = {tuple(np.concatenate([a, a + way]).tolist()) for a, way in lines}
    assert drawn == {
        (9.5, 9.5, 9.5, 39.5),
        (29.5, 9.5, 29.5, 46.5),
        (37.5, 39.5, 37.5, 46.5),
        (9.5, 9.5, 29.5, 9.5),
        (9.5, 39.5, 37.5, 39.5),
        (29.5, 46.5, 37.5, 46.5),
    }
    assert outline(np.zeros((3, 3), bool), 1, (3, 3)).shape == (0, 2, 2)
