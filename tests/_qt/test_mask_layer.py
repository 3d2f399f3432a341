"""Whatever is done to a real Labels layer, the ledger's sums equal a full recount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import napari
import numpy as np
import pytest
from napari.components import LayerList
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from sklearn.metrics import confusion_matrix

from napari_seg._qt import mask_edits, mask_layer
from napari_seg._qt.mask_layer import MaskLayer
from napari_seg._qt.palette import class_colors
from napari_seg.corrections.ledger import Ledger
from napari_seg.errors import LabelsError
from napari_seg.scoring.regions import as_box, pixels
from tests._qt import hands

PLANE, STACK = (128, 160), (6, 96, 120)
N_CLASSES = 4


class Desk:
    """A mask, its ledger, and what was heard of it."""

    def __init__(self, layer: Labels, layers: LayerList | None = None) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, N_CLASSES, [-(-n // 8) for n in layer.data.shape])
        reference = coarse.astype(np.uint8)
        for axis, n in enumerate(layer.data.shape):
            reference = reference.repeat(8, axis).take(range(n), axis)
        layer.data[...] = reference
        layer.refresh()
        self.layer = layer
        self.ledger = Ledger(layer.data, reference, N_CLASSES)
        self.boxes: list[Any] = []
        self.finished = 0
        self.mask = MaskLayer(layer, self.edited, self.ledger.replace_labels, layers)
        self.mask.stroke_finished.connect(self.stroke_finished)

    def edited(self, region: Any) -> None:
        self.boxes.append(region)
        self.ledger.edited(region)

    def stroke_finished(self) -> None:
        self.finished += 1

    def forget(self) -> None:
        self.boxes.clear()
        self.finished = 0

    def predict(self, region: Any, label: int) -> None:
        box = as_box(region, self.ledger.shape)
        self.ledger.predicted(box, np.full([s.stop - s.start for s in box], label))
        self.mask.pixels_changed(box)

    def agrees(self) -> bool:
        truth, told = self.layer.data.ravel(), self.ledger.reference.ravel()
        recount = confusion_matrix(truth, told, labels=range(N_CLASSES))
        return np.array_equal(self.ledger.scores("whole").confusion, recount)

    def check(self, *, changed: bool = True) -> None:
        """Compare with a full recount, once nothing waits any more."""
        before = self.boxes.copy()
        hands.wait_until(lambda: not self.mask.counting)
        assert self.agrees()
        if changed:
            assert before or self.boxes, "nothing was reported"
        self.forget()


@pytest.fixture
def desk(viewer: napari.Viewer) -> Iterator[Desk]:
    desk = Desk(viewer.add_labels(np.zeros(PLANE, np.uint8)), viewer.layers)
    yield desk
    desk.mask.close()


@pytest.fixture
def stack(viewer: napari.Viewer) -> Iterator[Desk]:
    desk = Desk(viewer.add_labels(np.zeros(STACK, np.uint8)), viewer.layers)
    hands.wait_until(lambda: not desk.mask.counting)
    yield desk
    desk.mask.close()


@pytest.fixture
def bare(qapp: QApplication) -> Iterator[Desk]:
    """Return a desk without a viewer: quick, for what needs no mouse."""
    desk = Desk(Labels(np.zeros(PLANE, np.uint8)))
    yield desk
    desk.mask.close()


# By hand ----------------------------------------------------------------------


@pytest.mark.smoke
def test_strokes_are_reported_while_they_are_made(
    viewer: napari.Viewer, desk: Desk
) -> None:
    desk.layer.mode, desk.layer.selected_label = "paint", 3
    agreed: list[bool] = []

    def between() -> None:
        assert desk.finished == 0
        agreed.append(bool(desk.boxes) and desk.agrees())

    hands.drag(viewer, [(20, 20), (60, 40), (90, 120)], between=between)
    assert agreed == [True, True, True]
    assert desk.finished == 1
    desk.check()
    assert desk.ledger.corrected_pixels > 500


def test_every_tool_is_noticed(viewer: napari.Viewer, desk: Desk) -> None:
    layer = desk.layer
    layer.selected_label = 2
    layer.mode = "paint"
    hands.drag(viewer, [(20, 20), (60, 100)])
    desk.check()
    layer.mode = "erase"
    hands.drag(viewer, [(20, 100), (60, 20)])
    desk.check()
    layer.mode = "fill"
    hands.click(viewer, (100, 100))
    desk.check()
    layer.mode = "polygon"
    hands.draw_polygon(viewer, [(30, 30), (30, 90), (100, 90), (110, 20)])
    desk.check()


def test_undo_and_redo_by_key_and_by_method(viewer: napari.Viewer, desk: Desk) -> None:
    start = desk.layer.data.copy()
    desk.layer.mode, desk.layer.selected_label = "paint", 1
    for y in (20, 50, 80):
        hands.drag(viewer, [(y, 20), (y + 20, 140)])
    desk.check()
    painted = desk.layer.data.copy()
    for _ in range(3):
        hands.press_key(viewer, "z", hands.CTRL)
        assert desk.finished == 1
        desk.check()
    assert np.array_equal(desk.layer.data, start)
    assert desk.ledger.corrected_pixels == 0
    for _ in range(2):
        hands.press_key(viewer, "z", hands.CTRL | hands.SHIFT)
        desk.check()
    desk.layer.redo()
    desk.check()
    assert np.array_equal(desk.layer.data, painted)
    desk.layer.undo()
    assert desk.agrees(), "undo by method is reported within the call"


def test_a_stroke_that_is_given_up(viewer: napari.Viewer, desk: Desk) -> None:
    """The right button of the brush encircles, and Escape takes it back."""
    if "brush_stroke" not in desk.layer._overlays:
        pytest.skip("this napari has no encircling stroke")
    start = desk.layer.data.copy()
    desk.layer.mode, desk.layer.selected_label = "paint", 3
    path = [(30, 30), (30, 90), (80, 90), (80, 40)]
    hands.click(viewer, path[0], button=hands.RIGHT)
    for point in path:
        hands.move(viewer, point)
    assert not np.array_equal(desk.layer.data, start)
    desk.check()
    hands.press_key(viewer, Qt.Key.Key_Escape)
    assert np.array_equal(desk.layer.data, start)
    desk.check()
    assert desk.ledger.corrected_pixels == 0


# Undo across sessions ---------------------------------------------------------


def _changes(before: Any, after: Any, box: Any) -> tuple[Any, Any, Any]:
    box = as_box(box, before.shape)
    return box, before[box].copy(), after[box].copy()


def _painted(layer: Labels) -> tuple[list[Any], list[Any]]:
    """Paint; return the mask before, between and after, and the steps."""
    masks = [layer.data.copy()]
    layer.paint((20, 30), 3)
    masks.append(layer.data.copy())
    with layer.block_history():
        layer.paint((60, 60), 1)
        layer.paint((70, 100), 1)
    masks.append(layer.data.copy())
    layer.data_setitem(np.nonzero(layer.data < 4), 2)
    masks.append(layer.data.copy())
    one, two, three, four = masks
    halves = np.s_[50:66], np.s_[66:80, 80:]
    return masks, [
        [_changes(one, two, np.s_[10:40, 20:60])],
        [_changes(two, three, half) for half in halves],
        [_changes(three, four, None)],
    ]


def test_undo_goes_on_where_it_was_when_the_mask_was_left(
    viewer: napari.Viewer, desk: Desk
) -> None:
    masks, steps = _painted(desk.layer)
    desk.check()
    again = Desk(viewer.add_labels(masks[-1].copy()), viewer.layers)
    again.layer.data[...] = masks[-1]
    again.layer.refresh()
    viewer.layers.selection = [again.layer]
    again.forget()
    again.mask.restore_undo(steps)
    again.mask.flush()
    assert not again.boxes, "nothing was changed by it"
    for expected in (masks[2], masks[1], masks[0], masks[0]):
        hands.press_key(viewer, "z", hands.CTRL)
        assert np.array_equal(again.layer.data, expected)
        again.check(changed=False)
    for expected in masks[1:]:
        hands.press_key(viewer, "z", hands.CTRL | hands.SHIFT)
        assert np.array_equal(again.layer.data, expected)
        again.check()
    again.mask.close()


def test_older_steps_come_after_new_ones_and_change_only_their_pixels(
    bare: Desk,
) -> None:
    masks, steps = _painted(bare.layer)
    again = Desk(Labels(masks[-1].copy()))
    again.layer.data[...] = masks[-1]
    again.layer.paint((100, 100), 1)
    again.mask.restore_undo(steps[1:2])
    # It lies in the box of the step, but the step did not change it.
    again.layer.data[50, 0] = 0
    again.layer.refresh()
    again.layer.undo()
    assert again.layer.data[100, 100] == 2
    again.layer.undo()
    assert again.agrees()
    changed = masks[1] != masks[2]
    assert np.array_equal(again.layer.data[changed], masks[1][changed])
    assert again.layer.data[50, 0] == 0
    again.layer.redo()
    again.check()
    again.mask.close()


def test_as_many_steps_come_back_as_napari_keeps(bare: Desk) -> None:
    before = bare.layer.data.copy()
    before[0] = 0
    bare.layer.data[0] = 1
    bare.layer.refresh()
    steps = [
        [(np.s_[0:1, i : i + 1], before[:1, i : i + 1], bare.layer.data[:1, :1])]
        for i in range(150)
    ]
    steps.append([(np.s_[0:2, 0:2], before[:2, :2], before[:2, :2])])
    bare.layer.paint((60, 60), 1)
    bare.mask.restore_undo(steps)
    for _ in range(120):
        bare.layer.undo()
    assert bare.layer.data[0].tolist() == [1] * 51 + [0] * 99 + [1] * 10
    bare.check()


def test_steps_that_are_forgotten_are_no_undo(bare: Desk) -> None:
    bare.layer.paint((60, 60), 1)
    bare.layer.paint((20, 30), 3)
    bare.layer.undo()
    bare.check()
    after = bare.layer.data.copy()
    bare.forget()
    bare.mask.forget_undo()
    bare.mask.flush()
    assert not bare.boxes
    bare.layer.undo()
    bare.layer.redo()
    assert np.array_equal(bare.layer.data, after)
    bare.check(changed=False)


def test_a_napari_that_keeps_undo_in_another_way_is_left_alone(
    bare: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, steps = _painted(bare.layer)
    again = Desk(Labels(bare.layer.data.copy()))
    before = again.layer.data.copy()
    mask_edits._napari_replays.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(Labels, "undo", lambda layer: layer._undo_history.pop())
        again.mask.restore_undo(steps)
    mask_edits._napari_replays.cache_clear()
    assert "older steps are lost" in caplog.text
    again.layer.undo()
    assert np.array_equal(again.layer.data, before)
    again.mask.close()


# In three dimensions ----------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_a_stack_in_any_order_of_axes(
    viewer: napari.Viewer, stack: Desk, order: tuple[int, ...]
) -> None:
    viewer.dims.order = order
    viewer.reset_view()
    slider, rows, columns = order
    shape = np.array(STACK)
    stack.layer.selected_label = 3
    for position in (1, 3):
        viewer.dims.set_point(slider, position)
        middle = shape[[rows, columns]] // 2
        for mode in ("paint", "erase", "fill"):
            stack.layer.mode = mode
            hands.drag(viewer, [middle - 2, middle])
            assert all(b[slider] == slice(position, position + 1) for b in stack.boxes)
            stack.check()
        stack.layer.undo()
        stack.check()


def test_a_brush_in_three_dimensions(viewer: napari.Viewer, stack: Desk) -> None:
    layer = stack.layer
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.mode, layer.selected_label = "paint", 2
    viewer.dims.set_point(0, 3)
    hands.drag(viewer, [(40, 40), (40, 60)], between=lambda: stack.agrees() or 1 / 0)
    stack.check()
    layer.undo()
    stack.check()
    assert stack.ledger.corrected_pixels == 0
    layer.mode, layer.contiguous = "fill", False
    rows, columns = np.nonzero(layer.data[3, 20:60, 20:60] != layer.selected_label)
    hands.click(viewer, (20 + rows[0], 20 + columns[0]))
    stack.check()


def test_painting_on_a_volume(viewer: napari.Viewer, stack: Desk) -> None:
    viewer.dims.ndisplay = 3
    stack.layer.mode, stack.layer.selected_label = "paint", 1
    stack.layer.n_edit_dimensions = 3
    hands.settle(0.1)
    stack.check(changed=False)
    hands.drag(viewer, [(0, 48, 60), (0, 52, 70)])
    stack.check()
    assert stack.ledger.corrected_pixels > 0
    stack.layer.undo()
    stack.check()


def test_moving_the_slider_compares_nothing_until_it_rests(
    viewer: napari.Viewer, stack: Desk
) -> None:
    stack.check(changed=False)
    # A busy machine takes its time between two slices: that is no rest yet.
    stack.mask._rest.setInterval(2000)
    for position in (1, 2, 3, 4):
        viewer.dims.set_point(0, position)
        QApplication.processEvents()
    assert not stack.boxes
    stack.layer.data[5] = 1
    viewer.dims.set_point(0, 5)
    assert not stack.boxes
    stack.check()
    assert stack.finished == 0, "looking at a slice is no stroke"


# From a script ----------------------------------------------------------------


def test_the_methods_of_the_layer(bare: Desk) -> None:
    layer = bare.layer
    layer.paint((20, 20), 1)
    assert bare.agrees()
    layer.fill((100, 100), 2)
    assert bare.agrees()
    layer.paint_polygon([(30, 30), (30, 90), (100, 90)], 3)
    assert bare.agrees()
    layer.data_setitem((np.array([3, 120]), np.array([150, 4])), 1)
    assert bare.agrees()
    bare.check()
    # Without a refresh nothing follows the step, which comes before the pixels.
    layer.paint((60, 60), 3, refresh=False)
    bare.check()
    layer.data_setitem((np.array([7]), np.array([9])), 3, refresh=False)
    bare.check()
    with layer.block_history():
        layer.paint((90, 20), 1, refresh=False)
        layer.paint((20, 90), 1, refresh=False)
    bare.check()
    layer.undo()
    layer.undo()
    layer.redo()
    bare.check()


def test_an_assignment_with_refresh(bare: Desk) -> None:
    bare.layer.data[10:40, 20:50] = 3
    bare.layer.refresh()
    assert bare.agrees(), "a small mask is compared within the refresh"
    assert bare.finished == 1
    bare.check()


def test_a_large_assignment_does_not_hold_the_user_up(
    viewer: napari.Viewer, stack: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_layer, "_AT_ONCE", 2 * 96 * 120)
    viewer.dims.set_point(0, 1)
    stack.check(changed=False)
    stack.layer.data[...] = 2
    stack.layer.refresh()
    assert [box[0] for box in stack.boxes] == [slice(1, 2)], "the slice comes first"
    assert stack.mask.counting
    assert stack.finished == 0
    hands.wait_until(lambda: stack.finished == 1)
    stack.check()
    stack.layer.data[...] = 1
    stack.layer.refresh()
    stack.mask.flush()
    assert stack.agrees()


def test_a_hidden_layer_tells_nothing_but_is_read(bare: Desk) -> None:
    bare.layer.paint((60, 60), 3)
    bare.check()
    bare.layer.visible = False
    bare.layer.undo()
    bare.mask.flush()
    bare.check()
    bare.layer.redo()
    bare.layer.visible = True
    bare.check()


def test_data_replaced(bare: Desk) -> None:
    rng = np.random.default_rng(1)
    for kind in (np.uint8, np.int64, bool):
        new = rng.integers(0, 2, PLANE).astype(kind)
        bare.layer.data = new
        assert bare.agrees()
        assert bare.layer.data is bare.mask.labels is bare.ledger.labels
        assert bare.layer.data.dtype == np.uint8
        assert np.array_equal(bare.layer.data, new)
        bare.layer.paint((50, 50), 3)
        bare.check()
    bare.layer.data = da.from_array(rng.integers(0, N_CLASSES, PLANE))
    assert isinstance(bare.layer.data, np.ndarray)
    bare.check(changed=False)
    read_only = rng.integers(0, N_CLASSES, PLANE).astype(np.uint8)
    read_only.flags.writeable = False
    bare.layer.data = read_only
    bare.layer.paint((50, 50), 3)
    bare.check()


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (np.zeros((64, 64), np.uint8), "shape"),
        (np.zeros((3, *PLANE), np.uint8), "shape"),
        (np.full(PLANE, 300), "run from 300"),
        (np.full(PLANE, -1), "run from -1"),
    ],
)
def test_data_that_is_no_mask_is_refused(bare: Desk, new: Any, why: str) -> None:
    bare.layer.paint((60, 60), 3)
    bare.layer.scale = (2, 3)
    before = bare.layer.data.copy()
    with pytest.raises(LabelsError, match=why):
        bare.layer.data = new
    assert np.array_equal(bare.layer.data, before)
    assert bare.layer.data is bare.mask.labels
    assert tuple(bare.layer.scale) == (2, 3)
    bare.layer.paint((20, 20), 1)
    bare.check()


def test_a_refused_plane_leaves_a_stack_in_its_place(qapp: QApplication) -> None:
    desk = Desk(Labels(np.zeros(STACK, np.uint8), scale=(4, 2, 3)))
    desk.layer.translate = (7, 8, 9)
    for _ in range(2):
        with pytest.raises(LabelsError, match="shape"):
            desk.layer.data = np.zeros(STACK[1:], np.uint8)
    assert tuple(desk.layer.scale) == (4, 2, 3)
    assert tuple(desk.layer.translate) == (7, 8, 9)
    desk.mask.close()


def test_layers_that_cannot_be_masks(qapp: QApplication) -> None:
    pyramid = [np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.uint8)]
    nothing: Callable[[Any], None] = lambda _: None  # noqa: E731
    with pytest.raises(LabelsError, match="multiscale"):
        MaskLayer(Labels(pyramid, multiscale=True), nothing, nothing)
    objects = Labels(np.arange(PLANE[0] * PLANE[1]).reshape(PLANE))
    with pytest.raises(LabelsError, match="labels > 0"):
        MaskLayer(objects, nothing, nothing)
    wide = Labels(np.ones(PLANE, np.int32))
    assert MaskLayer(wide, nothing, nothing).labels is wide.data
    assert wide.data.dtype == np.uint8


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence(bare: Desk, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = bare.layer

    def point() -> NDArray[np.int64]:
        return rng.integers(0, PLANE)

    def in_place() -> None:
        y, x = point()
        layer.data[y : y + 20, x : x + 20] = rng.integers(N_CLASSES)
        layer.refresh()

    def replace() -> None:
        layer.data = np.roll(layer.data, 5, axis=1)

    def tile() -> None:
        y, x = point()
        bare.predict(np.s_[y : y + 40, x : x + 40], int(rng.integers(N_CLASSES)))

    def scatter() -> None:
        at = tuple(rng.integers(0, n, 9) for n in PLANE)
        layer.data_setitem(at, int(rng.integers(N_CLASSES)))

    def hide() -> None:
        layer.visible = not layer.visible

    actions = [
        lambda: layer.paint(point(), int(rng.integers(N_CLASSES))),
        lambda: layer.fill(point(), int(rng.integers(N_CLASSES))),
        lambda: layer.paint_polygon([point() for _ in range(5)], 3),
        *(scatter, in_place, tile, hide, replace),
        *(layer.undo, layer.redo) * 2,
    ]
    for _ in range(60):
        actions[rng.integers(len(actions))]()
        bare.mask.flush()
        # What a hidden layer does not tell is an assignment: it follows when shown.
        if layer.visible:
            assert bare.agrees()
    layer.visible = True
    bare.check(changed=False)


# The model --------------------------------------------------------------------


def test_tiles_between_and_during_strokes(viewer: napari.Viewer, desk: Desk) -> None:
    desk.layer.mode, desk.layer.selected_label = "paint", 3
    labels = iter([1, 0, 2, 1])

    def tile() -> None:
        desk.predict(np.s_[10:110, 10:150], next(labels))

    tile()
    hands.settle(0.1)
    assert not desk.boxes, "a prediction is no edit"
    hands.drag(viewer, [(20, 20), (60, 40), (90, 120)], between=tile)
    assert (desk.layer.data[20, 20], desk.layer.data[90, 120]) == (3, 3)
    desk.check()
    desk.layer.undo()
    desk.check()


def test_written_pixels_reach_the_screen(viewer: napari.Viewer, stack: Desk) -> None:
    stack.mask.set_palette(["no", "a", "b", "c"], class_colors(4))
    stack.layer.opacity = 1
    viewer.dims.set_point(0, 2)
    hands.settle(0.4)
    stack.forget()

    def shown_colors() -> set[str]:
        canvas = viewer.screenshot(canvas_only=True, flash=False)
        codes, counts = np.unique(
            canvas[..., :3].astype(int) @ (1 << 16, 1 << 8, 1), return_counts=True
        )
        return {f"#{code:06X}" for code in codes[counts > 2000]}

    assert len(shown_colors()) > 3
    stack.predict(np.s_[2], 3)
    hands.settle(0.1)
    assert shown_colors() == {class_colors(4)[3], "#000000"}
    assert not stack.boxes
    stack.layer.contour = 1
    stack.predict(np.s_[2], 0)
    hands.settle(0.2)
    assert shown_colors() == {"#000000"}


def test_repaints_are_few_and_only_of_what_is_shown(
    viewer: napari.Viewer, stack: Desk
) -> None:
    viewer.dims.set_point(0, 0)
    hands.settle(0.1)
    updates: list[Any] = []
    stack.layer.events.labels_update.connect(lambda event: updates.append(event))
    for _ in range(20):
        stack.predict(np.s_[4], 1)
    hands.settle(0.1)
    assert not updates
    for row in range(0, 80, 4):
        stack.predict(np.s_[0, row : row + 4], 1)
    hands.wait_until(lambda: len(updates) == 2)
    hands.settle(0.2)
    assert len(updates) == 2
    assert list(updates[1].offset) == [4, 0]
    assert updates[1].data.shape == (76, 120)


# The layer's life -------------------------------------------------------------


def test_classes_have_colours_and_names(viewer: napari.Viewer, desk: Desk) -> None:
    heard: list[int] = []
    desk.mask.class_selected.connect(heard.append)
    desk.layer.selected_label = 2
    desk.mask.set_palette(["background", "nucleus", "rim"], class_colors(3))
    desk.layer.selected_label = 1
    assert heard == [2, 1]
    assert not desk.boxes, "a colour is no edit"
    color = desk.layer.get_color(1)
    assert tuple(np.round(color * 255)) == (0xE6, 0x9F, 0x00, 255)
    assert desk.layer.get_color(0) is None
    assert list(desk.layer.features["class"]) == ["background", "nucleus", "rim"]
    desk.check(changed=False)


def test_a_layer_is_known_by_itself(viewer: napari.Viewer, desk: Desk) -> None:
    viewer.layers.selection = [desk.layer]
    gone: list[bool] = []
    desk.mask.removed.connect(lambda: gone.append(True))
    copy = viewer.add_labels(desk.layer.data.copy(), name=desk.layer.name)
    desk.layer.name = "renamed"
    viewer.layers.move(0, 2)
    copy.paint((20, 20), 3)
    hands.settle()
    assert not desk.boxes
    desk.layer.paint((60, 60), 3)
    desk.check()
    viewer.layers.remove(copy)
    assert not gone
    desk.layer.data[:20] = 1
    viewer.layers.remove(desk.layer)
    assert gone == [True]
    desk.forget()
    desk.layer.paint((90, 90), 1)
    hands.settle()
    assert not desk.boxes


# Without napari's private attributes ------------------------------------------


def test_another_napari_costs_time_but_no_pixel(
    viewer: napari.Viewer, stack: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (mask_edits, mask_layer):
        monkeypatch.setattr(module, "shown", lambda layer: None)
    monkeypatch.setattr(mask_edits, "_atom_box", lambda atom, shape: 1 / None)
    stack.layer.mode, stack.layer.selected_label = "paint", 3
    hands.drag(viewer, [(20, 20), (60, 60)])
    stack.check()
    viewer.dims.set_point(0, 3)
    stack.layer.undo()
    stack.check()
    stack.predict(np.s_[3], 2)
    hands.settle(0.1)
    stack.check(changed=False)


def test_both_forms_of_undo_steps_are_read() -> None:
    shape = (6, 96, 120)
    indices = (np.array([2, 2, 3]), np.array([5, 9, 7]), np.array([1, 100, 50]))
    old = [(indices, np.zeros(3), 1)]
    assert mask_edits.step_boxes(old, shape) == [np.s_[2:4, 5:10, 1:101]]

    class Atom(tuple):
        slice_key = np.s_[2:3, 5:10, 1:101]

    new = [Atom((Atom.slice_key, None, np.zeros(3), 1))]
    assert mask_edits.step_boxes(new, shape) == [Atom.slice_key]
    whole = [as_box(None, shape)]
    negative = (np.array([-1]), np.array([0]), np.array([0]))
    for odd in ([(negative, 0, 1)], ["?"], 7, [((0, 0), 0, 1)], [((True,) * 3, 0, 1)]):
        boxes = mask_edits.step_boxes(odd, shape)
        assert boxes == whole or pixels(boxes[0]) < pixels(whole[0])
    assert mask_edits.step_boxes(["?"], shape) == whole


def test_dabs_are_joined_but_not_into_the_whole_image() -> None:
    dabs = [np.s_[i : i + 40, i : i + 40] for i in range(0, 8000, 10)]
    joined = mask_edits.merged(dabs)
    assert len(joined) < 30
    assert sum(map(pixels, joined)) < 8000 * 600
    for dab in dabs:
        assert any(mask_edits.union(box, dab) == box for box in joined)
