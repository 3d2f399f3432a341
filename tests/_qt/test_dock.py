"""The dock with every kind of image, on a small screen, by keyboard, and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import napari
import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QInputDialog,
    QLabel,
    QListWidget,
    QScrollArea,
    QWidget,
)

from napari_seg.models.catalog import BUNDLED
from tests._qt import hands
from tests._qt.person import SIDE, Person, balanced_model

CONTRACT = {
    "image_combo",
    "model_combo",
    "device_label",
    "predict_view_button",
    "predict_all_button",
    "cancel_button",
    "progress_bar",
    "class_list",
    "accept_view_button",
    "next_uncertain_button",
    "score_scope_combo",
    "score_table",
    "score_plot",
    "finetune_button",
    "finetune_minutes",
    "loss_plot",
    "version_list",
    "keep_button",
    "discard_button",
    "restore_button",
    "export_button",
}


@pytest.fixture
def rgb_file(field: NDArray[np.uint16], tmp_path: Path) -> Path:
    return balanced_model(tmp_path / "color", field, in_channels=3, gray_as_rgb=True)


@pytest.fixture
def empty(viewer: napari.Viewer) -> Iterator[Person]:
    person = Person(viewer)
    yield person
    person.leave()


@pytest.mark.smoke
def test_names_of_the_contract(empty: Person) -> None:
    names = {widget.objectName() for widget in empty.dock.findChildren(QWidget)}
    assert names >= CONTRACT
    assert empty.dock.objectName() == "Segmentation"
    assert empty.text("device_label").startswith(("CPU, ", "GPU", "Apple"))


def test_bundled_models_say_what_they_are_for(
    empty: Person, field: NDArray[np.uint16]
) -> None:
    empty.viewer.add_image(np.stack([field] * 3, -1).astype(np.uint8), rgb=True)
    hands.settle()
    combo = empty.combo("model_combo")
    names = [combo.itemText(row) for row in range(len(BUNDLED))]
    assert names == list(BUNDLED)
    assert combo.currentText() == "nuclei"
    for row, (name, hint) in enumerate(BUNDLED.items()):
        assert combo.itemData(row, Qt.ItemDataRole.ToolTipRole) == hint
        hands.choose(combo, name)
        assert combo.toolTip() == hint
    hands.choose(combo, "New U-Net, small")
    assert combo.toolTip() == "The network that predicts."


# Images -----------------------------------------------------------------------


def _kinds(field: NDArray[np.uint16]) -> dict[str, tuple[Any, tuple[int, ...], dict]]:
    """Return images with the shapes of their masks and the layers' settings."""
    share = field / field.max()
    holes = share.astype(np.float32)
    holes[10:20, 10:20] = np.nan
    stack = np.stack([field, field[::-1], field.T])
    byte = (share * 255).astype(np.uint8)
    plane = (SIDE, SIDE)
    return {
        "uint16": (field, plane, {}),
        "nan": (holes, plane, {}),
        "bool": (share > 0.4, plane, {}),
        "stack": (stack, (3, *plane), {"scale": (3, 0.5, 0.5)}),
        "time": (np.stack([stack, stack]), (2, 3, *plane), {}),
        "dask": (da.from_array(stack, chunks=(1, 64, 64)), (3, *plane), {}),
        "multiscale": ([field, field[::2, ::2]], plane, {"multiscale": True}),
        "rgb": (np.stack([byte] * 3, -1), plane, {"rgb": True}),
        "rgba": (np.stack([byte] * 4, -1), plane, {"rgb": True}),
    }


@pytest.mark.parametrize("kind", _kinds(np.ones((SIDE, SIDE), np.uint16)))
def test_every_kind_of_image(
    viewer: napari.Viewer,
    field: NDArray[np.uint16],
    model_file: Path,
    rgb_file: Path,
    kind: str,
) -> None:
    data, shape, settings = _kinds(field)[kind]
    viewer.add_image(data, name=kind, **settings)
    person = Person(viewer, rgb_file if kind.startswith("rgb") else model_file)
    assert person.button("predict_view_button").isEnabled()
    if len(shape) > 2:
        viewer.dims.set_point(0, viewer.dims.range[0].step)
        hands.settle(0.1)
    mask = person.predict("predict_view_button")
    assert mask.name == f"{kind} mask"
    assert mask.data.shape == shape
    assert mask.data.dtype == np.uint8
    np.testing.assert_allclose(
        mask.scale, viewer.layers[kind].scale[-len(shape) :], err_msg=kind
    )
    reference = person.session.mask.reference
    planes = (reference != 255).any(axis=(-2, -1))
    assert planes.sum() == 1, "the view is one plane"
    if planes.ndim:
        assert planes[tuple([1] + [s // 2 for s in shape[1:-2]])] or planes[1].any()
    person.predict("predict_all_button")
    assert (reference != 255).all()
    person.check_scores()
    mask.brush_size = 12
    hands.drag(viewer, [(40, 40), (40, 60)])
    hands.settle(0.1)
    assert person.session.mask.corrected_pixels > 0
    person.check_scores()
    assert not person.failures
    person.leave()


def test_the_view_is_what_is_on_the_screen(person: Person) -> None:
    viewer = person.viewer
    person.camera.center, person.camera.zoom = (20, 20), 20
    hands.settle(0.3)
    person.predict("predict_view_button")
    known = person.session.mask.reference != 255
    assert known[20, 20]
    assert not known[90, 90]
    rows, columns = np.nonzero(known)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    canvas = viewer.window._qt_viewer.canvas.native
    assert height <= canvas.height() / 20 + 3
    assert known.sum() == height * width
    assert width <= SIDE


# Layers that come and go ------------------------------------------------------


def test_layers_are_followed(empty: Person, field: NDArray[np.uint16]) -> None:
    viewer, combo = empty.viewer, empty.combo("image_combo")

    def names() -> list[str]:
        return [combo.itemText(i) for i in range(combo.count())]

    assert not combo.isEnabled()
    first = viewer.add_image(field, name="first")
    assert names() == ["first"]
    assert combo.isEnabled()
    viewer.add_labels(np.zeros((SIDE, SIDE), np.uint8), name="objects")
    viewer.add_points(np.zeros((1, 2)), name="points")
    assert names() == ["first"], "only images are offered"
    second = viewer.add_image(field.T.copy(), name="second")
    assert names() == ["second", "first"]
    assert combo.currentText() == "first", "the choice stays"
    first.name = "renamed"
    assert combo.currentText() == "renamed"
    viewer.layers.move(0, 4)
    assert combo.currentText() == "renamed"
    viewer.layers.remove(first)
    assert combo.currentText() == "second"
    viewer.layers.remove(second)
    assert not combo.isEnabled()
    assert not empty.button("predict_all_button").isEnabled()
    assert empty.workspace.session is None


def test_renaming_and_duplicating_lose_nothing(person: Person) -> None:
    viewer = person.viewer
    mask = person.predict()
    hands.drag(viewer, [(30, 30), (60, 60)])
    corrected = person.session.mask.corrected_pixels
    viewer.layers["plate"].name = "renamed"
    hands.settle()
    hands.choose(person.combo("image_combo"), "renamed")
    person.dock.source.choose_image(viewer.layers["renamed"])
    viewer.add_image(viewer.layers["renamed"].data.copy(), name="copy")
    viewer.add_labels(mask.data.copy(), name="copy of the mask").data[:] = 1
    hands.settle()
    assert person.dock.mask_view.layer is mask
    assert person.session.mask.corrected_pixels == corrected > 0
    hands.choose(person.combo("image_combo"), "copy")
    assert person.predict().name == "copy mask"
    assert person.session.mask.corrected_pixels == 0
    hands.choose(person.combo("image_combo"), "renamed")
    hands.settle()
    assert person.session.mask.corrected_pixels == corrected
    assert person.mask.name == "renamed mask"
    assert len(viewer.layers) == 5, "the locked mask was replaced, not doubled"


def test_strokes_stay_with_their_image(person: Person) -> None:
    viewer = person.viewer
    mask = person.predict()
    mask.brush_size = 14
    hands.drag(viewer, [(30, 30), (60, 60)])
    painted = mask.data.copy()
    viewer.add_image(np.zeros((64, 80), np.uint8), name="small")
    hands.choose(person.combo("image_combo"), "small")
    other = person.predict()
    assert other.data.shape == (64, 80)
    other.data[:9] = 1
    other.refresh()
    viewer.layers.remove("plate")
    hands.settle()
    assert person.session.mask.shape == (64, 80)
    assert person.dock.mask_view.layer is other
    assert person.session.mask.corrected_pixels > 0
    viewer.layers.remove(mask)
    hands.settle()
    assert person.dock.mask_view.layer is other, "only the mask of another image went"
    assert not person.failures
    assert np.array_equal(mask.data, painted)


def test_a_removed_mask_comes_back(person: Person) -> None:
    viewer = person.viewer
    mask = person.predict()
    hands.drag(viewer, [(30, 30), (60, 60)])
    painted = mask.data.copy()
    viewer.layers.remove(mask)
    hands.settle()
    assert person.dock.mask_view.layer is None
    assert not person.button("accept_view_button").isEnabled()
    assert "no mask yet" in person.button("accept_view_button").toolTip()
    again = person.predict()
    assert again is not mask
    np.testing.assert_array_equal(again.data, painted)
    person.check_scores()
    assert not person.failures


def test_a_removed_image_during_prediction(person: Person) -> None:
    person.press("predict_all_button")
    person.viewer.layers.remove("plate")
    hands.settle(0.2)
    person.wait(lambda: person.dock._runner.running == 0)
    assert person.idle()
    assert person.workspace.session is None
    assert not person.failures


def test_a_new_dock_goes_on(
    person: Person, field: NDArray[np.uint16], tmp_path: Path
) -> None:
    viewer = person.viewer
    mask = person.predict()
    hands.drag(viewer, [(30, 30), (60, 60)])
    person.camera.zoom *= 2
    hands.settle(0.2)
    person.press("accept_view_button")
    person.workspace.add_class("rim")
    tuned = balanced_model(
        tmp_path / "tuned", field, seed=7, classes=["background", "nucleus", "rim"]
    )
    _add_version(person, tuned)
    person.workspace.restore("v001")
    person.wait(person.idle)
    hands.settle(0.1)
    labels, state = mask.data.copy(), person.session.mask.state()
    window = viewer.window
    window.remove_dock_widget(person.dock)
    person.leave()
    viewer.layers.clear()
    viewer.add_image(field.copy(), name="plate")

    again = Person(viewer)
    hands.choose(again.combo("model_combo"), 0)
    again.press("predict_view_button")
    np.testing.assert_array_equal(again.mask.data, labels)
    np.testing.assert_array_equal(again.session.mask.state(), state)
    assert again.session.classes == ["background", "nucleus", "rim"]
    assert again.combo("model_combo").currentText() == "v001, fine-tuned"
    assert again.find(QListWidget, "class_list").count() == 3
    again.wait(again.idle)
    again.check_scores()
    again.leave()


def _add_version(person: Person, model: Path) -> None:
    from napari_seg.corrections.versions import VersionCard

    scores = {"mean_dice": 0.5}
    card = VersionCard(
        parent="tiny", windows=1, before=scores, after=scores, seconds=1, kept=False
    )
    person.session.project.add_version(model, card)
    person.workspace.changed.emit()


# Correcting -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["double click", "F2"])
def test_a_class_is_renamed(
    person: Person, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    person.predict()
    asked = []

    def answer(*arguments: Any, text: str) -> tuple[str, bool]:
        asked.append(text)
        return "cell", True

    monkeypatch.setattr(QInputDialog, "getText", answer)
    classes = person.find(QListWidget, "class_list")
    middle = classes.visualItemRect(classes.item(1)).center()
    QTest.mouseClick(classes.viewport(), hands.LEFT, pos=middle)
    if how == "F2":
        QTest.keyClick(classes, Qt.Key.Key_F2)
    else:
        QTest.mouseDClick(classes.viewport(), hands.LEFT, pos=middle)
    hands.settle(0.1)

    assert asked == ["nucleus"]
    assert classes.item(1).text().startswith("1  cell")
    assert list(person.shown_scores()) == ["background", "cell", "mean"]
    person.predict()
    assert not person.failures
    person.check_scores()


def test_choosing_a_class_sets_the_brush(person: Person) -> None:
    mask = person.predict()
    person.workspace.add_class("rim")
    classes = person.find(QListWidget, "class_list")
    assert classes.count() == 3
    assert classes.currentRow() == 1
    mask.mode = "pan_zoom"
    classes.setFocus()
    QTest.keyClick(classes, Qt.Key.Key_Down)
    assert (mask.selected_label, mask.mode) == (2, "paint")
    mask.selected_label = 0
    hands.settle()
    assert classes.currentRow() == 0
    mask.selected_label = 2
    hands.drag(person.viewer, [(30, 30), (60, 60)])
    person.check_scores()
    assert (mask.data == 2).any()
    person.wait(lambda: "new to it: rim" in person.text("finetune_label"))


def test_nothing_is_accepted_beside_the_image(person: Person) -> None:
    person.predict()
    for centre in [(1000, 40), (40, -1000), (-900, -900)]:
        person.camera.center = centre
        hands.settle(0.2)
        person.press("accept_view_button")
        assert "not on the screen" in person.told[-1]
        assert person.session.mask.accepted_pixels == 0
        person.told.append("")


def test_next_uncertain_moves_the_view(person: Person) -> None:
    assert not person.button("next_uncertain_button").isEnabled()
    person.predict()
    seen = set()
    for _ in range(4):
        person.press("next_uncertain_button")
        seen.add(tuple(np.round(person.camera.center[-2:], 1)))
    assert len(seen) == 4
    person.press("next_uncertain_button")
    assert person.told[-1] == "Every doubtful place was visited."


# Screen and keyboard ----------------------------------------------------------


def _cut_off(dock: QWidget) -> list[str]:
    """Return the widgets that reach over the right edge of what is visible."""
    scroll = dock.findChild(QScrollArea)
    width = scroll.viewport().width()
    assert scroll.widget().minimumSizeHint().width() <= width
    found = []
    for widget in scroll.widget().findChildren(QWidget):
        if widget.isVisible() and not _inside_a_list(widget):
            right = widget.mapTo(scroll.viewport(), widget.rect().topRight()).x()
            if right >= width:
                found.append(f"{type(widget).__name__} {widget.objectName()!r}")
    return found


def _inside_a_list(widget: QWidget) -> bool:
    names = ("qt_scrollarea", "qt_spinbox")
    return widget.objectName().startswith(names)


def test_nothing_is_cut_off_on_a_small_screen(
    viewer: napari.Viewer, field: NDArray[np.uint16], tmp_path: Path
) -> None:
    viewer.window.resize(1366, 768)
    name = "2026-03-12 experiment 17, plate 3, well A01, site 4, channel DAPI.ome.tif"
    classes = [f"class with a rather long name {i}" for i in range(20)]
    viewer.add_image(field, name=name)
    person = Person(viewer, balanced_model(tmp_path / "m", field, classes=classes))
    assert person.dock.minimumWidth() <= 400
    person.predict()
    person.dock._panels[3].show_verdict("A sentence. " * 20, better=True)
    person.dock._panels[3].show_curves(([0, 1], [1, 0]), ([0], [1]))
    for section in ("versions", "export"):
        person.find(QWidget, f"{section}_section").expand(animate=False)
    for form in ("predict", "finetune"):
        person.find(QWidget, f"expert_{form}").expand(animate=False)
    hands.settle(0.3)
    assert _cut_off(person.dock) == []
    assert len(person.shown_scores()) == 21
    window = viewer.window._qt_window
    assert window.width() <= 1366
    assert window.height() <= 768
    person.leave()


def test_the_proposed_answer_is_seen(person: Person) -> None:
    keep, discard = (person.find(QWidget, f"{n}_button") for n in ("keep", "discard"))
    for better in (True, False):
        person.dock._panels[3].show_verdict("Better, or not.", better=better)
        hands.settle(0.1)
        edges = []
        for button in (keep, discard):
            picture = button.grab().toImage()
            edges.append(picture.pixelColor(1, picture.height() // 2).name())
        assert (edges[0] == "#3d8bff") == better, edges
        assert (edges[1] == "#3d8bff") != better, edges


def test_every_action_is_named_and_reached_by_keyboard(person: Person) -> None:
    person.predict()
    for button in person.dock.findChildren(QAbstractButton):
        if not button.isVisibleTo(person.dock):
            continue
        assert button.accessibleName() or button.text(), button.objectName()
        if button.objectName().endswith("_button"):
            assert button.focusPolicy() & Qt.FocusPolicy.TabFocus, button.objectName()
            assert button.toolTip(), button.objectName()
    for kind in (QComboBox, QListWidget):
        for widget in person.dock.findChildren(kind):
            if widget.objectName().endswith(("combo", "list")):
                assert widget.accessibleName(), widget.objectName()
    assert person.find(QWidget, "progress_bar").accessibleName()
    reached = _tab_round(person)
    assert reached >= {
        "image_combo",
        "model_combo",
        "model_file_button",
        "predict_view_button",
        "predict_all_button",
        "class_list",
        "accept_view_button",
        "next_uncertain_button",
        "score_scope_combo",
        "finetune_minutes",
    }


def _tab_round(person: Person) -> set[str]:
    """Follow the tabulator once round the window; return the names on the way."""
    # Without a window manager no window is active, and Qt moves no focus.
    start = widget = person.combo("image_combo")
    reached = set()
    while True:
        takes_tab = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        if takes_tab and widget.isVisible() and widget.isEnabled():
            reached.add(widget.objectName())
        widget = widget.nextInFocusChain()
        if widget is start:
            return reached


def test_buttons_answer_to_the_keyboard(person: Person) -> None:
    button = person.button("predict_all_button")
    button.setFocus()
    QTest.keyClick(button, Qt.Key.Key_Space)
    person.wait(lambda: person.dock.mask_view.layer is not None)
    person.wait(person.idle)
    accept = person.button("accept_view_button")
    # It follows the end of the prediction.
    person.wait(accept.isEnabled)
    accept.setFocus()
    QTest.keyClick(accept, Qt.Key.Key_Space)
    person.wait(lambda: person.session.mask.reviewed_fraction == 1)
    person.wait(
        lambda: "reviewed 100%" in person.text("review_label").replace("\u202f", ""),
        what="the review bar",
    )


def test_themes_are_followed(person: Person) -> None:
    for theme in ("light", "dark"):
        person.viewer.theme = theme
        hands.settle()
    assert person.find(QLabel, "device_label").isVisible()


def test_a_class_is_hidden_and_shown(person: Person) -> None:
    mask = person.predict()
    classes = person.find(QListWidget, "class_list")
    before = mask.data.copy()
    share = np.mean(before == 1)
    assert f"{share:.1%}" in classes.item(1).text()
    assert mask.colormap.map(1)[3] == 1
    states = Qt.CheckState
    classes.item(1).setCheckState(states.Unchecked)
    assert mask.colormap.map(1)[3] == 0
    np.testing.assert_array_equal(mask.data, before)
    # It stays hidden when the list is made anew.
    hands.drag(person.viewer, [(30, 30), (60, 60)])
    hands.settle(0.3)
    assert classes.item(1).checkState() == states.Unchecked
    assert mask.colormap.map(1)[3] == 0
    classes.item(1).setCheckState(states.Checked)
    assert mask.colormap.map(1)[3] == 1
    # The background has nothing to hide.
    assert not classes.item(0).flags() & Qt.ItemFlag.ItemIsUserCheckable


def test_where_the_work_is_saved(person: Person) -> None:
    label = person.find(QLabel, "project_label")
    assert not label.isVisible()
    person.predict()
    folder = person.session.project.folder
    assert label.isVisible()
    assert folder.as_uri() in label.text()
    assert label.toolTip() == str(folder)


def test_without_a_gpu_it_says_how_to_get_one(person: Person) -> None:
    label = person.find(QLabel, "device_label")
    if label.text().startswith("CPU"):
        assert "no GPU?" in label.text()
    label.linkActivated.emit("gpu")
    assert "pytorch.org/get-started" in person.told[-1]
