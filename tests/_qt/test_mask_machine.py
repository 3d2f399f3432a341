"""Whatever is done in any order, the ledger knows what a recount of the layer finds.

hypothesis makes up sequences of actions on a real Labels layer in a viewer's model.
After them the ledger is compared with plain numpy: every flag, every score, every
count.  ``NAPARI_SEG_EXAMPLES=2000`` makes as many sequences up, other ones each time.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_seg._qt import idle, mask_layer
from napari_seg._qt.mask_layer import MaskLayer
from napari_seg._qt.palette import class_colors
from napari_seg.corrections.ledger import ACCEPTED, CORRECTED, Ledger
from napari_seg.scoring.regions import Box, box_shape

SHAPES = (24, 32), (5, 14, 18), (3, 2, 10, 12)
UNKNOWN = 255
FOREIGN = 9, 62, 63, 64, 200, 254, UNKNOWN
"""Labels that no class has at first; from 63 on the ledger needs two bytes."""

_EXAMPLES = os.environ.get("NAPARI_SEG_EXAMPLES", "")
PROFILE = settings(
    max_examples=int(_EXAMPLES or 120),
    stateful_step_count=40,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    # Explaining a failure traces every line, for minutes.
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

FAR = 12
Places = Sequence[int]
"""Where on each axis, 0 to FAR; there may be more than the mask has axes."""

places = st.tuples(*[st.integers(0, FAR)] * 4)
corners = st.tuples(places, places)
labels = st.integers(0, 3) | st.sampled_from(FOREIGN)
paths = st.lists(places, min_size=1, max_size=4)


def untouched(reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the label of pixels that nobody touched: the model's, else background."""
    return np.where(reference == UNKNOWN, 0, reference).astype(np.uint8)


@contextmanager
def napari_may_fail() -> Iterator[None]:
    """Let napari fail to show pixels of a hidden layer, after it has written them."""
    try:
        yield
    except IndexError as error:
        if Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts[-3:] != (
            "layers",
            "labels",
            "labels.py",
        ):
            raise


class Plain:
    """The rules of the ledger once more, over whole arrays.

    An edit that is taken back before the ledger looks may be seen or not, and what
    it leaves differs: a correction that the model agrees with by now ceases to be
    one when it is painted over and back.  Both are right; `touched` are the pixels
    that may be either.
    """

    def __init__(self, data: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
        self.reference = reference.copy()
        self.seen = data.copy()
        self.last = data.copy()
        self.touched = np.zeros(data.shape, bool)
        self.flags = (data != untouched(reference)).astype(np.uint8)

    def note(self, data: NDArray[np.uint8]) -> None:
        """Note what an action changed."""
        self.touched |= data != self.last
        self.last = data.copy()

    def step(
        self,
        ledger: Ledger,
        box: Box,
        action: Callable[[], object],
        become: Callable[[Any, Any], tuple[Any, Any]],
    ) -> None:
        """Do `action`, and compare what became of the box's pixels.

        `become` makes (labels, flags) after it of those before it, edits included.
        """
        data = ledger.labels
        self.note(data)
        labels, changed = data[box].copy(), (data != self.seen)[box]
        outside = [a.copy() for a in (data, self.flags)]
        action()
        told = data[box], ledger.state(box)
        right = np.zeros(labels.shape, bool)
        for edited in (changed, changed | self.touched[box]):
            flags = self.flags[box]
            wrong = labels != untouched(self.reference[box])
            flags = np.where(edited, flags & ACCEPTED | wrong * CORRECTED, flags)
            expected = become(labels, flags)
            right |= (expected[0] == told[0]) & (expected[1] == told[1])
        assert right.all(), f"wrong at {np.argwhere(~right)[:5].tolist()} in {box}"
        for array in outside:
            array[box] = 0
        self.seen[box], self.flags[box] = told
        self.last[box], self.touched[box] = told[0], False
        now = [a.copy() for a in (data, self.flags)]
        for array, before in zip(now, outside, strict=True):
            array[box] = 0
            assert np.array_equal(array, before), "changed outside of the box"


def confusion(
    labels: NDArray[np.uint8], reference: NDArray[np.uint8], n_classes: int
) -> NDArray[np.int64]:
    """Count pixels per label and reference, as far as both are classes."""
    table = np.zeros((256, 256), np.int64)
    np.add.at(table, (labels, reference), 1)
    return table[:n_classes, :n_classes]


class MaskMachine(RuleBasedStateMachine):
    """A viewer, a mask in it, its ledger, and the same in plain numpy."""

    @initialize(
        shape=st.sampled_from(SHAPES),
        seed=st.integers(0, 3),
        at_once=st.sampled_from([1 << 22, 40]),
        deeper=st.booleans(),
    )
    def start(
        self, shape: tuple[int, ...], seed: int, at_once: int, deeper: bool
    ) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(mask_layer, "_AT_ONCE", at_once)
        for limit in ("_SMALLEST", "_LARGEST", "_AT_ONCE"):
            self.patch.setattr(idle, limit, at_once)
        rng = np.random.default_rng(seed)
        reference = rng.integers(0, 3, shape).astype(np.uint8)
        reference[..., : shape[-1] // 3] = UNKNOWN
        data = untouched(reference)
        data[..., ::7, ::5] = 1
        self.shape, self.lazy, self.n_classes = shape, False, 3
        self.viewer = ViewerModel()
        # A mask may lie in a viewer with more axes than it has.
        self.viewer.add_image(np.zeros((2, *shape) if deeper else shape))
        self.layer: Labels = self.viewer.add_labels(data)
        self.focus = tuple(slice(0, n) for n in shape)
        self.ledger = Ledger(data, reference, self.n_classes)
        self.follow()
        self.plain = Plain(data, reference)

    def follow(self) -> None:
        self.gone = False
        self.mask = MaskLayer(
            self.layer,
            self.ledger.edited,
            self.ledger.replace_labels,
            self.viewer.layers,
        )
        self.mask.removed.connect(self.leave)

    def leave(self) -> None:
        self.gone = True

    def teardown(self) -> None:
        if hasattr(self, "mask"):
            self.patch.undo()
            self.mask.close()
            self.viewer.layers.clear()

    # Where --------------------------------------------------------------------

    @property
    def data(self) -> NDArray[np.uint8]:
        data: NDArray[np.uint8] = self.layer.data
        return data

    def point(self, at: Places) -> tuple[int, ...]:
        return tuple(p * (n - 1) // FAR for p, n in zip(at, self.shape, strict=False))

    def box(self, ends: tuple[Places, Places]) -> Box:
        pairs = zip(*map(self.point, ends), strict=True)
        return tuple(slice(min(pair), max(pair) + 1) for pair in pairs)

    def shown_at(self) -> tuple[int, ...]:
        """Return where the sliders stand, 0 for the displayed axes."""
        slicing = self.layer._slice_input
        here = np.round(self.layer.world_to_data(slicing.world_slice.point))
        here[list(slicing.displayed)] = 0
        return tuple(map(int, here))

    def visible_point(self, at: Places) -> tuple[int, ...]:
        """Return a point in the displayed slice, or in the one next to it."""
        here, point = self.shown_at(), [*self.point(at)]
        for axis in self.layer._slice_input.not_displayed:
            point[axis] = min(max(here[axis], 0), self.shape[axis] - 1)
        return tuple(point)

    # The comparison -----------------------------------------------------------

    def done(self) -> None:
        """After an action: compare, unless more of them shall pile up."""
        self.plain.note(self.data)
        if not self.lazy:
            self.compare()

    def compare(self) -> None:
        whole = tuple(slice(0, n) for n in self.shape)
        self.plain.step(self.ledger, whole, self.mask.flush, lambda *same: same)
        assert not self.mask.counting
        assert np.array_equal(self.plain.seen, self.data)
        assert self.ledger.labels is self.data
        assert self.data.dtype == np.uint8
        accepted = self.plain.flags & ACCEPTED > 0
        focused = np.zeros(self.shape, bool)
        focused[self.focus] = True
        for scope, where in (
            ("whole", np.ones(self.shape, bool)),
            ("reviewed", accepted),
            ("slice", focused),
        ):
            expected = confusion(
                self.data[where], self.plain.reference[where], self.n_classes
            )
            told = self.ledger.scores(scope).confusion
            assert np.array_equal(told, expected), scope
        assert np.array_equal(self.plain.reference, self.ledger.reference)
        assert self.ledger.accepted_pixels == accepted.sum()
        corrected = self.plain.flags & CORRECTED > 0
        assert self.ledger.corrected_pixels == corrected.sum()
        per_label = np.bincount(self.data.ravel(), minlength=256)
        per_class = per_label[: self.n_classes]
        assert np.array_equal(self.ledger.pixels_per_class, per_class)

    # The user's tools ---------------------------------------------------------

    @rule(at=places, label=labels, size=st.integers(1, 9), refresh=st.booleans())
    def paint(self, at: Places, label: int, size: int, refresh: bool) -> None:
        self.layer.brush_size = size
        with napari_may_fail():
            self.layer.paint(self.visible_point(at), label, refresh=refresh)
        self.done()

    @rule(at=places, label=labels)
    def paint_elsewhere(self, at: Places, label: int) -> None:
        """Paint from a script, in slices that may not be displayed."""
        with napari_may_fail():
            self.layer.paint(self.point(at), label)
        self.done()

    @rule(at=places, label=labels, contiguous=st.booleans())
    def fill(self, at: Places, label: int, contiguous: bool) -> None:
        self.layer.contiguous = contiguous
        with napari_may_fail():
            self.layer.fill(self.visible_point(at), label)
        self.done()

    @rule(path=st.lists(places, min_size=3, max_size=6), label=labels)
    def polygon(self, path: list[Places], label: int) -> None:
        if self.layer.n_edit_dimensions == 2:
            points = [self.visible_point(at) for at in path]
            with napari_may_fail():
                self.layer.paint_polygon(points, label)
        self.done()

    @rule(
        path=st.lists(places, min_size=1, max_size=6),
        label=labels,
        several=st.booleans(),
        refresh=st.booleans(),
    )
    def set_items(
        self, path: list[Places], label: int, several: bool, refresh: bool
    ) -> None:
        points = sorted({self.point(at) for at in path})
        value: Any = [(label + i) % 4 for i in range(len(points))] if several else label
        at = tuple(np.array(points).T)
        with napari_may_fail():
            self.layer.data_setitem(at, np.array(value) if several else value, refresh)
        self.done()

    @rule(path=paths, label=labels, flush=st.booleans())
    def several_in_one_step(self, path: list[Places], label: int, flush: bool) -> None:
        with self.layer.block_history():
            for at in path:
                with napari_may_fail():
                    self.layer.paint(self.visible_point(at), label, refresh=False)
                if flush:
                    self.plain.note(self.data)
                    self.compare()
        self.done()

    @rule(
        path=paths,
        label=labels,
        mode=st.sampled_from(["paint", "erase", "fill"]),
        between=st.lists(
            st.sampled_from(["tile", "slide", "undo", "flush", "turn", "accept"]),
            max_size=3,
        ),
        box=corners,
        tile=st.integers(0, 2),
    )
    def drag(
        self,
        path: list[Places],
        label: int,
        mode: str,
        between: list[str],
        box: tuple[Places, Places],
        tile: int,
    ) -> None:
        """Draw by mouse, as far as the layer hears of it."""
        layer = self.layer
        dims = self.viewer.dims
        # napari cannot follow the mouse to a volume in a viewer with more axes.
        lost = dims.ndisplay == 3 and dims.ndim > len(self.shape)
        if lost or not (layer.editable and layer.visible):
            return
        layer.selected_label, layer.mode = label, mode
        meanwhile: dict[str, Callable[[], object]] = {
            "tile": lambda: self.take_prediction(self.box(box), tile),
            "slide": lambda: self.slide(0, box[0][0]),
            "undo": layer.undo,
            "flush": self.mask.flush,
            "turn": self.turn,
            "accept": lambda: self.take_review(self.box(box), "accept"),
        }
        event = self.mouse(path[0])
        self.strokes = [tool(layer, event) for tool in layer.mouse_drag_callbacks]
        self.go_on()
        for at, what in zip(path[1:], [*between, *[""] * len(path)], strict=False):
            self.plain.note(self.data)
            if what:
                meanwhile[what]()
                self.plain.note(self.data)
            vars(event).update(vars(self.mouse(at)), type="mouse_move")
            self.go_on()
        event.type = "mouse_release"
        self.go_on()
        layer.mode = "pan_zoom"
        self.done()

    def mouse(self, at: Places) -> SimpleNamespace:
        layer, dims = self.layer, self.viewer.dims
        world = np.asarray(dims.point, float)
        world[-layer.ndim :] = layer.data_to_world(self.visible_point(at))
        direction = np.zeros(dims.ndim)
        direction[dims.displayed[0]] = 1
        return SimpleNamespace(
            type="mouse_press",
            button=1,
            modifiers=(),
            position=tuple(world),
            view_direction=direction if dims.ndisplay == 3 else None,
            dims_displayed=list(dims.displayed),
            dims_point=list(dims.point),
        )

    def go_on(self) -> None:
        """Let the strokes go on, and look at the live score, which is right at once."""
        for stroke in self.strokes:
            with napari_may_fail():
                next(stroke, None)
        if not self.lazy and self.data.size < mask_layer._AT_ONCE:
            live = confusion(self.data, self.plain.reference, self.n_classes)
            assert np.array_equal(self.ledger.scores("whole").confusion, live)

    @rule(times=st.integers(1, 3))
    def undo(self, times: int) -> None:
        for _ in range(times):
            self.layer.undo()
            self.plain.note(self.data)
        self.done()

    @rule(times=st.integers(1, 3))
    def redo(self, times: int) -> None:
        for _ in range(times):
            self.layer.redo()
            self.plain.note(self.data)
        self.done()

    @rule(at=places, label=labels, then=st.sampled_from(["", "paint", "redo", "lock"]))
    def undo_while_hidden(self, at: Places, label: int, then: str) -> None:
        with napari_may_fail():
            self.layer.paint(self.visible_point(at), label)
        self.done()
        self.layer.visible = False
        self.layer.undo()
        self.plain.note(self.data)
        if then == "paint":
            with napari_may_fail():
                self.layer.paint(self.visible_point(at[::-1]), 3)
        elif then == "redo":
            self.layer.redo()
        elif then == "lock":
            self.layer.editable = False
        self.done()

    @rule(
        n_edit=st.sampled_from([2, 3]),
        preserve=st.booleans(),
        contour=st.sampled_from([0, 0, 1]),
        show_one=st.booleans(),
    )
    def settings_of_the_layer(
        self, n_edit: int, preserve: bool, contour: int, show_one: bool
    ) -> None:
        if self.viewer.dims.ndisplay == 2:
            self.layer.contour = contour
        self.layer.n_edit_dimensions = min(n_edit, len(self.shape))
        self.layer.preserve_labels = preserve
        self.layer.show_selected_label = show_one
        self.done()

    # A script -----------------------------------------------------------------

    @rule(box=corners, label=labels)
    def assign(self, box: tuple[Places, Places], label: int) -> None:
        self.data[self.box(box)] = label
        # A hidden layer does not tell of a refresh.
        self.layer.visible = True
        self.layer.refresh()
        self.done()

    @rule(
        box=corners,
        label=labels,
        at=places,
        then=st.sampled_from(["slide", "undo", "paint", "turn"]),
    )
    def assign_while_hidden(
        self, box: tuple[Places, Places], label: int, at: Places, then: str
    ) -> None:
        self.layer.visible = False
        self.data[self.box(box)] = label
        self.plain.note(self.data)
        self.layer.refresh()
        if then == "slide":
            self.slide(0, at[0])
        elif then == "undo":
            self.layer.undo()
        elif then == "paint":
            with napari_may_fail():
                self.layer.paint(self.visible_point(at), 1)
        else:
            self.turn()
        self.layer.visible = True
        self.done()

    @rule(at=places, label=labels)
    def assign_and_come_by(self, at: Places, label: int) -> None:
        """Nothing is refreshed, but a slice that is shown again is looked at."""
        dims, here = self.viewer.dims, self.shown_at()
        inside = all(0 <= i < n for i, n in zip(here, self.shape, strict=True))
        if not (inside and self.layer.visible):
            return
        steps = dims.current_step
        self.data[self.visible_point(at)] = label
        for axis in dims.not_displayed:
            dims.set_current_step(axis, steps[axis] - 1 if steps[axis] else 1)
        went_away = self.shown_at() != here
        dims.current_step = steps
        assert self.shown_at() == here
        if not went_away:
            self.layer.refresh()
        self.done()

    @rule(boxes=st.lists(corners, min_size=1, max_size=3), label=labels)
    def undo_of_another_session(
        self, boxes: list[tuple[Places, Places]], label: int
    ) -> None:
        steps = []
        for ends in boxes:
            box = self.box(ends)
            before = self.data[box].copy()
            self.data[box] = label
            steps.append([(box, before, self.data[box].copy())])
        self.layer.visible = True
        self.layer.refresh()
        self.mask.restore_undo(steps)
        self.done()

    @rule(
        how=st.sampled_from(["same", "other", "wide", "bool", "dask", "locked", "odd"]),
        axis=st.integers(0, 3),
    )
    def replace(self, how: str, axis: int) -> None:
        other = np.roll(self.data, 1, axis % len(self.shape))
        if how == "same":
            other = self.data
        elif how == "wide":
            other = other.astype(np.int64)
        elif how == "bool":
            other = other > 0
        elif how == "dask":
            other = da.from_array(other)
        elif how == "locked":
            other.flags.writeable = False
        elif how == "odd":
            other = np.asfortranarray(other)[..., ::-1]
        self.layer.data = other
        self.done()

    @rule(times=st.integers(0, 2))
    def turn(self, times: int = 1) -> None:
        """Let Qt do something of what waits."""
        for _ in range(times):
            QApplication.processEvents()

    # The model ----------------------------------------------------------------

    @rule(box=corners, label=st.integers(0, 3) | st.just(UNKNOWN))
    def tile(self, box: tuple[Places, Places], label: int) -> None:
        self.take_prediction(self.box(box), label)
        self.done()

    @rule(box=corners, seed=st.integers(0, 5), whole=st.booleans())
    def varied_tiles(self, box: tuple[Places, Places], seed: int, whole: bool) -> None:
        rng = np.random.default_rng(seed)
        self.take_prediction(self.box(box), rng)
        self.take_prediction(self.box((box[1], box[1])), rng)
        if whole:
            self.mask.pixels_changed(None)
        self.done()

    def take_prediction(self, box: Box, what: Any) -> None:
        new = np.full(box_shape(box), UNKNOWN, np.uint8)
        if isinstance(what, np.random.Generator):
            new = what.integers(0, self.n_classes, new.shape).astype(np.uint8)
        elif what < self.n_classes:
            new[...] = what

        def predict() -> None:
            self.ledger.predicted(box, new)
            self.plain.reference[box] = new
            self.mask.pixels_changed(box)

        def become(labels: Any, flags: Any) -> tuple[Any, Any]:
            return np.where(flags == 0, untouched(new), labels), flags

        reference = self.plain.reference.copy()

        def action() -> None:
            predict()
            # What an edit makes of a pixel depends on the reference before.
            self.plain.reference[box] = reference[box]

        self.plain.step(self.ledger, box, action, become)
        self.plain.reference[box] = new

    @rule(box=corners, kind=st.sampled_from(["accept", "unaccept"]))
    def review(self, box: tuple[Places, Places], kind: str) -> None:
        self.take_review(self.box(box), kind)
        self.done()

    def take_review(self, box: Box, kind: str) -> None:
        wrong_as = untouched(self.plain.reference[box])

        def become(labels: Any, flags: Any) -> tuple[Any, Any]:
            if kind == "accept":
                return labels, flags | ACCEPTED
            wrong = (labels != wrong_as) & (flags & ACCEPTED > 0)
            return labels, flags & CORRECTED | wrong * CORRECTED

        act = getattr(self.ledger, kind)
        self.plain.step(self.ledger, box, lambda: act(box), become)

    @rule(n_classes=st.integers(2, 6) | st.just(70))
    def classes(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.ledger.set_classes(n_classes)
        self.rename_classes("class")
        self.done()

    @rule(name=st.sampled_from(["cell", "rim"]))
    def rename_classes(self, name: str) -> None:
        names = [f"{name} {i}" for i in range(self.n_classes)]
        self.mask.set_palette(names, class_colors(self.n_classes))

    @rule(box=corners)
    def focus_on(self, box: tuple[Places, Places]) -> None:
        self.focus = self.box(box)
        self.ledger.focus(self.focus)
        self.done()

    # The viewer ---------------------------------------------------------------

    @rule(axis=st.integers(0, 4), to=st.integers(0, FAR))
    def slide(self, axis: int, to: int) -> None:
        dims = self.viewer.dims
        axis %= dims.ndim
        dims.set_current_step(axis, to * (dims.nsteps[axis] - 1) // FAR)

    @rule(data=st.data())
    def order_of_axes(self, data: st.DataObject) -> None:
        dims = self.viewer.dims
        how = data.draw(st.sampled_from(["roll", "transpose", "order"]))
        if how == "order":
            dims.order = data.draw(st.permutations(range(dims.ndim)))
        else:
            getattr(dims, how)()
        self.done()

    @rule(ndisplay=st.sampled_from([2, 3]))
    def dimensions_shown(self, ndisplay: int) -> None:
        self.layer.contour = 0
        self.viewer.dims.ndisplay = ndisplay
        self.done()

    @rule(
        scale=st.sampled_from([1.0, 2.0, 0.5]), shift=st.sampled_from([0.0, 1.0, 9.0])
    )
    def place(self, scale: float, shift: float) -> None:
        self.layer.scale = [scale] * len(self.shape)
        self.layer.translate = [shift] * len(self.shape)
        self.done()

    @rule()
    def hide_or_show(self) -> None:
        self.layer.visible = not self.layer.visible
        self.done()

    @rule(editable=st.booleans())
    def lock(self, editable: bool) -> None:
        self.layer.editable = editable
        self.done()

    @rule(at=places)
    def duplicate_and_paint_the_copy(self, at: Places) -> None:
        copy = Labels(self.data.copy(), name=self.layer.name)
        self.viewer.layers.append(copy)
        before = self.data.copy()
        copy.paint(self.visible_point(at), 2)
        self.layer.name = "renamed"
        self.viewer.layers.move(len(self.viewer.layers) - 1, 0)
        self.viewer.layers.remove(copy)
        assert np.array_equal(self.data, before)
        self.done()

    @rule(at=places)
    def remove_and_start_again(self, at: Places) -> None:
        was_lazy, self.lazy = self.lazy, False
        self.viewer.layers.remove(self.layer)
        assert self.gone
        self.done()
        with napari_may_fail():
            self.layer.paint(self.visible_point(at), 1)
        state = self.ledger.state()
        QApplication.processEvents()
        assert np.array_equal(self.ledger.state(), state), "still listening"
        self.layer.undo()
        self.viewer.layers.append(self.layer)
        self.ledger.edited()
        self.follow()
        self.done()
        self.lazy = was_lazy

    @rule()
    @precondition(lambda self: not self.lazy)
    def let_things_pile_up(self) -> None:
        self.lazy = True

    @rule()
    @precondition(lambda self: self.lazy)
    def take_everything_in(self) -> None:
        self.lazy = False
        self.compare()


TestMask = MaskMachine.TestCase
TestMask.settings = PROFILE
TestMask.pytestmark = [
    pytest.mark.usefixtures("qapp"),
    pytest.mark.timeout(0 if _EXAMPLES else 300),
]
