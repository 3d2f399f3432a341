"""Reviewing with the mouse, and the question about labels that no class has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Labels, Layer
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QInputDialog, QListWidget, QMenu, QWidget
from skimage.draw import polygon2mask

from napari_seg.corrections.ledger import ACCEPTED
from tests._qt import hands
from tests._qt.person import SIDE, Person

PLACED = {
    "scale": (0.5, 0.7),
    "translate": (3, -7),
    "rotate": 20,
    "affine": [[1, 0.1, 2], [0, 1, 1], [0, 0, 1]],
}
CORNERS = [(40, 10), (45, 50), (80, 60), (85, 20)]


@pytest.fixture
def person(
    viewer: napari.Viewer, field: NDArray[np.uint16], model_file: Path
) -> Iterator[Person]:
    viewer.add_image(field, name="plate", **PLACED)
    person = Person(viewer, model_file)
    yield person
    person.leave()


@pytest.fixture
def stack(
    viewer: napari.Viewer, field: NDArray[np.uint16], model_file: Path
) -> Iterator[Person]:
    viewer.add_image(np.stack([field] * 3), name="stack", scale=(4, 1, 1))
    person = Person(viewer, model_file)
    yield person
    person.leave()


def objects(person: Person) -> Labels:
    """Start a mask with two objects, painted over whatever the model said."""
    mask = person.predict("predict_view_button")
    mask.data[:] = 0
    mask.data[..., 10:30, 10:30] = 1
    mask.data[..., 60:80, 50:80] = 1
    mask.refresh()
    person.wait(lambda: not person.dock.mask_view.counting)
    hands.settle()
    return mask


def accepted(person: Person) -> NDArray[np.bool_]:
    return person.session.mask.state() & ACCEPTED > 0


def box(*slices: slice) -> NDArray[np.bool_]:
    inside = np.zeros((SIDE, SIDE), bool)
    inside[slices] = True
    return inside


def choose(person: Person, way: str, menu: str = "accept_menu") -> None:
    """Open a menu and click on the entry."""
    entries: QMenu = person.find(QMenu, menu)
    for _ in range(5):
        # Without a window manager a popup now and then closes by itself.
        person.press(f"{menu}_button")
        if entries.isVisible():
            break
    assert entries.isVisible(), "the menu does not open"
    entry = next(a for a in entries.actions() if a.objectName() == f"{menu}_{way}")
    place = entries.actionGeometry(entry).center()
    QTest.mouseClick(entries, Qt.MouseButton.LeftButton, pos=place)
    hands.settle()
    if not entry.isEnabled():
        entries.close()


def check_brush(person: Person, mask: Labels) -> None:
    found = (
        person.viewer.layers.selection.active,
        mask.mode,
        mask.cursor,
        person.find(QWidget, "review_bar").isVisible(),
        drawn(person),
        clicks_listened_to(person.viewer),
    )
    assert found == (mask, "paint", "circle", False, [], 0)


def clicks_listened_to(viewer: napari.Viewer) -> int:
    """Return how many of our functions wait for a click."""
    callbacks = viewer.mouse_drag_callbacks
    return sum("napari_seg" in callback.__module__ for callback in callbacks)


def drawn(person: Person) -> list[Layer]:
    return [x for x in person.viewer.layers if x.name == "polygon to review"]


# By object --------------------------------------------------------------------


@pytest.mark.smoke
def test_a_click_accepts_an_object(person: Person) -> None:
    mask = objects(person)
    before = mask.data.copy()
    choose(person, "object")
    assert "Click" in person.text("review_bar_label")
    hands.click(person.viewer, (20, 25))
    np.testing.assert_array_equal(accepted(person), box(slice(10, 30), slice(10, 30)))
    check_brush(person, mask)
    np.testing.assert_array_equal(mask.data, before)

    choose(person, "object", "unaccept_menu")
    hands.double_click(person.viewer, (20, 25))
    assert not accepted(person).any()
    np.testing.assert_array_equal(mask.data, before)
    check_brush(person, mask)
    hands.click(person.viewer, (45, 45))
    assert mask.data[45, 45] == 1, "the brush paints"


def test_background_is_refused_and_the_tool_stays(person: Person) -> None:
    mask = objects(person)
    choose(person, "object")
    hands.click(person.viewer, (45, 45))
    assert "background" in person.told[-1]
    assert mask.data[45, 45] == 0
    hands.drag(person.viewer, [(20, 20), (25, 40)])
    assert not accepted(person).any(), "dragging moves the view"
    assert (mask.data == 1).sum() == 1000
    person.viewer.reset_view()
    hands.settle(0.1)
    hands.click(person.viewer, (70, 70), hands.SHIFT)
    hands.click(person.viewer, (20, 20), hands.SHIFT)
    np.testing.assert_array_equal(accepted(person), mask.data == 1)
    assert person.find(QWidget, "review_bar").isVisible()
    hands.press_key(person.viewer, Qt.Key.Key_Escape)
    check_brush(person, mask)


def test_an_object_of_the_slice_on_the_screen(stack: Person) -> None:
    objects(stack)
    stack.viewer.dims.set_current_step(0, 2)
    hands.settle(0.1)
    choose(stack, "object")
    hands.click(stack.viewer, (20, 20))
    assert [int(plane.sum()) for plane in accepted(stack)] == [0, 0, 400]


# By polygon -------------------------------------------------------------------


def draw(person: Person, mask: Labels) -> None:
    hands.draw_polygon(person.viewer, CORNERS, layer=mask)
    hands.settle(0.1)


@pytest.mark.smoke
def test_a_polygon_accepts_its_inside(person: Person) -> None:
    mask = objects(person)
    names = [layer.name for layer in person.viewer.layers]
    before = mask.data.copy()
    choose(person, "polygon")
    layer = person.viewer.layers.selection.active
    assert layer is drawn(person)[0]
    assert layer.mode == "add_polygon"
    assert "Draw" in person.text("review_bar_label")
    draw(person, mask)
    expected = polygon2mask(mask.data.shape, CORNERS)
    wrong = accepted(person) ^ expected
    assert expected.sum() > 1000
    assert wrong.sum() < 60, "the corners are as exact as a hand on the screen"
    check_brush(person, mask)
    np.testing.assert_array_equal(mask.data, before)
    left = [x.name for x in person.viewer.layers if "reviewed" not in x.name]
    assert left == names

    choose(person, "polygon", "unaccept_menu")
    draw(person, mask)
    assert not accepted(person).any()
    assert not person.failures


def test_a_polygon_in_the_slice_on_the_screen(stack: Person) -> None:
    mask = objects(stack)
    choose(stack, "polygon")
    stack.viewer.dims.set_current_step(0, 1)
    hands.settle(0.1)
    draw(stack, mask)
    found = accepted(stack)
    assert not found[[0, 2]].any()
    assert found[1, 60, 40]
    check_brush(stack, mask)


def esc_on_canvas(person: Person) -> None:
    hands.press_key(person.viewer, Qt.Key.Key_Escape)


def esc_in_dock(person: Person) -> None:
    QTest.keyClick(person.button("accept_menu_button"), Qt.Key.Key_Escape)


def cancel(person: Person) -> None:
    person.press("review_cancel_button")


def remove(person: Person) -> None:
    person.viewer.layers.remove(drawn(person)[0])


def other_tool(person: Person) -> None:
    choose(person, "object")
    assert not drawn(person)
    esc_on_canvas(person)


@pytest.mark.parametrize(
    "turn_away", [esc_on_canvas, esc_in_dock, cancel, remove, other_tool]
)
def test_a_polygon_is_given_up(
    person: Person, turn_away: Callable[[Person], None]
) -> None:
    mask = objects(person)
    choose(person, "polygon")
    for corner in CORNERS:
        hands.move(person.viewer, corner, layer=mask)
        hands.click(person.viewer, corner, layer=mask)
    turn_away(person)
    hands.settle(0.1)
    check_brush(person, mask)
    assert not accepted(person).any()
    assert not person.failures


@pytest.mark.parametrize("way", ["object", "polygon"])
def test_nothing_is_left_when_the_image_changes(person: Person, way: str) -> None:
    mask = objects(person)
    choose(person, way)
    person.viewer.add_image(np.zeros((64, 80), np.uint8), name="small")
    hands.choose(person.combo("image_combo"), "small")
    assert not drawn(person)
    assert not clicks_listened_to(person.viewer)
    assert mask.mode == "pan_zoom", "it is locked"
    assert not person.find(QWidget, "review_bar").isVisible()


@pytest.mark.parametrize("way", ["object", "polygon"])
def test_nothing_is_left_when_the_dock_closes(person: Person, way: str) -> None:
    mask = objects(person)
    choose(person, way)
    viewer = person.viewer
    viewer.window.remove_dock_widget(person.dock)
    hands.settle()
    assert all(layer.name != "polygon to review" for layer in viewer.layers)
    assert not clicks_listened_to(viewer)
    assert mask.mode == "paint"
    hands.press_key(viewer, Qt.Key.Key_Escape)


@pytest.mark.parametrize("way", ["object", "polygon"])
def test_the_window_can_be_closed_with_a_tool_in_hand(person: Person, way: str) -> None:
    objects(person)
    choose(person, way)
    workspace = person.workspace
    person.viewer.close()
    hands.settle(0.1)
    assert workspace.session is None
    assert not person.failures


def test_choosing_a_class_or_a_layer_puts_the_tool_down(person: Person) -> None:
    mask = objects(person)
    choose(person, "object")
    classes = person.find(QListWidget, "class_list")
    classes.setFocus()
    QTest.keyClick(classes, Qt.Key.Key_Up)
    hands.settle()
    check_brush(person, mask)
    assert mask.selected_label == 0
    choose(person, "object")
    mask.mode = "fill"
    hands.settle()
    assert not person.find(QWidget, "review_bar").isVisible()
    assert mask.mode == "fill"
    choose(person, "polygon")
    image = person.viewer.layers["plate"]
    person.viewer.layers.selection.active = image
    hands.settle()
    assert not drawn(person)
    assert person.viewer.layers.selection.active is image
    assert mask.mode == "fill"


# Slice, everything, and what cannot be done ------------------------------------


def test_slice_and_everything(stack: Person) -> None:
    objects(stack)
    stack.camera.zoom *= 4
    hands.settle(0.2)
    choose(stack, "plane")
    index = stack.viewer.dims.current_step[0]
    assert [bool(p.all()) for p in accepted(stack)] == [i == index for i in range(3)]
    choose(stack, "everything")
    assert accepted(stack).all()
    choose(stack, "plane", "unaccept_menu")
    assert accepted(stack).sum() == 2 * SIDE**2
    choose(stack, "everything", "unaccept_menu")
    assert not accepted(stack).any()


def test_a_large_image_is_accepted_while_the_user_goes_on(
    viewer: napari.Viewer, model_file: Path
) -> None:
    viewer.add_image(np.zeros((3000, 3000), np.uint8), name="large")
    person = Person(viewer, model_file)
    assert person.workspace.begin()
    mask, ledger = person.mask, person.session.mask
    seen: list[float] = []
    person.workspace.scores_changed.connect(
        lambda: seen.append(ledger.reviewed_fraction)
    )
    choose(person, "everything")
    mask.brush_size = 100
    hands.drag(viewer, [(1000, 1000), (2000, 2000)])
    person.wait(lambda: ledger.reviewed_fraction == 1)
    assert any(0 < fraction < 1 for fraction in seen)
    person.wait(lambda: "reviewed 100%" in person.text("review_label"), 5)
    assert (mask.data == 1).any()
    person.check_scores()
    person.leave()


def test_without_a_mask_the_menus_say_why(person: Person) -> None:
    for name in ("accept_menu_button", "unaccept_menu_button"):
        assert not person.button(name).isEnabled()
        assert "no mask yet" in person.button(name).toolTip()


def test_a_flat_image_has_no_slices(person: Person) -> None:
    objects(person)
    choose(person, "plane")
    assert not accepted(person).any()
    entry = person.find(QMenu, "accept_menu").actions()[2]
    assert not entry.isEnabled()
    assert "single plane" in entry.toolTip()


def test_pointing_needs_a_flat_view(stack: Person) -> None:
    objects(stack)
    stack.viewer.dims.ndisplay = 3
    hands.settle(0.2)
    choose(stack, "polygon")
    assert not drawn(stack)
    entry = stack.find(QMenu, "accept_menu").actions()[1]
    assert "2-D" in entry.toolTip()


# Labels that no class has -----------------------------------------------------


def asked(person: Person) -> bool:
    return bool(person.find(QWidget, "foreign_bar").isVisible())


def test_a_label_without_a_class_is_asked_about(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = objects(person)
    before = person.shown_scores()
    hands.press_key(person.viewer, "m")
    assert mask.selected_label == 2
    hands.drag(person.viewer, [(40, 20), (40, 60)], between=lambda: _not_asked(person))
    person.wait(lambda: asked(person), 5, "the question")
    pixels = int((mask.data == 2).sum())
    text = person.text("foreign_bar_label")
    assert f"{pixels} px have the label 2" in text
    assert set(person.shown_scores()) == set(before)
    assert not (person.session.mask.truth() == 2).any()

    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("rim", True))
    person.press("foreign_add_button")
    assert not asked(person)
    assert person.session.classes == ["background", "nucleus", "rim"]
    assert (person.session.mask.truth() == 2).sum() == pixels
    assert "rim" in person.shown_scores()
    person.check_scores()


def _not_asked(person: Person) -> None:
    assert not asked(person), "not during the stroke"


def test_a_mistake_is_set_right(person: Person) -> None:
    mask = objects(person)
    reference = person.session.mask.reference
    mask.selected_label = 5
    mask.brush_size = 20
    hands.drag(person.viewer, [(20, 10), (60, 60)])
    person.wait(lambda: asked(person), 5, "the question")
    wrong = mask.data == 5
    others = mask.data[~wrong].copy()
    person.press("foreign_mistake_button")
    assert not asked(person)
    np.testing.assert_array_equal(mask.data[wrong], reference[wrong])
    np.testing.assert_array_equal(mask.data[~wrong], others)
    assert mask.selected_label == 1
    assert person.session.classes == ["background", "nucleus"]
    person.check_scores()
    hands.press_key(person.viewer, "z", hands.CTRL)
    person.check_scores()
    assert not (mask.data == 5).any()
    hands.press_key(person.viewer, "z", hands.CTRL | hands.SHIFT)
    person.wait(lambda: asked(person), 5, "the question")


def test_the_question_goes_with_the_pixels(person: Person) -> None:
    mask = objects(person)
    mask.selected_label = 3
    hands.drag(person.viewer, [(40, 20), (40, 60)])
    person.wait(lambda: asked(person), 5, "the question")
    hands.press_key(person.viewer, "z", hands.CTRL)
    person.wait(lambda: not asked(person), 5, "the end of the question")
    hands.press_key(person.viewer, "z", hands.CTRL | hands.SHIFT)
    person.wait(lambda: asked(person), 5, "the question")
    person.viewer.add_image(np.zeros((64, 80), np.uint8), name="small")
    hands.choose(person.combo("image_combo"), "small")
    assert not asked(person)


def test_classes_between_are_added(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = objects(person)
    prompts = []

    def answer(*texts: str, **_: str) -> tuple[str, bool]:
        prompts.append(texts[-1])
        return "nucleus" if len(prompts) == 1 else "rim", True

    monkeypatch.setattr(QInputDialog, "getText", answer)
    new = mask.data.copy()
    new[40:50, 40:50] = 4
    mask.data = new
    person.wait(lambda: asked(person), 5, "the question")
    assert person.text("foreign_bar_label").startswith("100 px have the label 4")
    person.press("foreign_add_button")
    assert "taken" in str(person.failures.pop())
    assert len(person.session.classes) == 2
    person.press("foreign_add_button")
    assert person.session.classes[2:] == ["class 2", "class 3", "rim"]
    assert "class 2, class 3" in prompts[-1]
    assert not asked(person)
    assert not person.failures
