"""A monkey at the dock: whatever it does, nothing breaks and nothing is stuck."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QInputDialog,
    QListWidget,
    QWidget,
)

from napari_seg.errors import NapariSegError
from napari_seg.inference.predict import PredictOptions
from napari_seg.synthetic import synthetic_nuclei
from tests._qt import hands
from tests._qt.person import SIDE, Person

#: ``NAPARI_SEG_MONKEY_SEED`` repeats a run that failed, or tries another one.
SEED = int(os.environ.get("NAPARI_SEG_MONKEY_SEED", "7"))
ACTIONS = 300

CTRL, SHIFT, ALT = (
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)


class Monkey:
    """Does what a user could do, in any order.

    Parameters
    ----------
    person : Person
        At whose dock it sits.
    seed : int
        Of its moods.
    """

    def __init__(self, person: Person, seed: int) -> None:
        self.person, self.rng = person, random.Random(seed)
        self.trained = 0
        self.diary: list[str] = []
        often = {
            self.predict: 5,
            self.cancel: 3,
            self.paint: 12,
            self.undo: 5,
            self.choose_class: 5,
            self.review: 4,
            self.look_around: 8,
            self.press_something: 10,
            self.turn_switches: 5,
            self.choose_something: 5,
            self.change_layers: 4,
            self.finetune: 2,
            self.wait: 2,
        }
        self.actions = [action for action, n in often.items() for _ in range(n)]

    def act(self) -> None:
        action: Callable[[], Any] = self.rng.choice(self.actions)
        self.diary.append(action.__name__)
        action()
        hands.settle(self.rng.choice((0, 0, 0.01, 0.05)))

    # What it can do -----------------------------------------------------------

    def predict(self) -> None:
        name = self.rng.choice(("predict_view_button", "predict_all_button"))
        self._press(self.person.button(name))

    def cancel(self) -> None:
        self._press(self.person.button("cancel_button"))

    def paint(self) -> None:
        layer = self.person.dock.mask_view.layer
        session = self.person.workspace.session
        if layer is None or session is None or not layer.visible or not layer.editable:
            return
        self.person.viewer.layers.selection.active = layer
        layer.mode = self.rng.choice(("paint", "paint", "paint", "fill", "erase"))
        layer.brush_size = self.rng.choice((1, 5, 15))
        view = self.person.dock.link.view(layer, session.reading)
        if min(s.stop - s.start for s in view.box) < 8:
            return
        points = [
            tuple(self.rng.uniform(s.start + 2, s.stop - 3) for s in view.box)
            for _ in range(self.rng.randint(1, 4))
        ]
        hands.drag(self.person.viewer, [(*view.index, *point) for point in points])

    def undo(self) -> None:
        again = CTRL | SHIFT if self.rng.random() < 0.3 else CTRL
        hands.press_key(self.person.viewer, Qt.Key.Key_Z, again)

    def choose_class(self) -> None:
        key = self.rng.choice((Qt.Key.Key_0, Qt.Key.Key_1, Qt.Key.Key_2))
        hands.press_key(self.person.viewer, key, ALT)

    def review(self) -> None:
        for name in ("accept_view_button", "next_uncertain_button"):
            if self.rng.random() < 0.5:
                self._press(self.person.button(name))

    def look_around(self) -> None:
        viewer = self.person.viewer
        viewer.dims.set_current_step(0, self.rng.randint(0, 2))
        if self.rng.random() < 0.3:
            viewer.reset_view()
            return
        camera = self.person.camera
        camera.center = tuple(self.rng.uniform(0, SIDE) for _ in range(2))
        camera.zoom = self.rng.uniform(2, 12)

    def press_something(self) -> None:
        names = (
            "uncertainty_button",
            "accept_view_button",
            "keep_button",
            "discard_button",
            "restore_button",
            "compare_button",
            "revert_button",
            "add_class_button",
            "foreign_add_button",
            "foreign_mistake_button",
            "measure_button",
            "keys_button",
            "finetune_stop_button",
        )
        self._press(self.person.find(QAbstractButton, self.rng.choice(names)))

    def turn_switches(self) -> None:
        if self.rng.random() < 0.4:
            self._press(self.person.find(QCheckBox, "live_check"))
        classes = self.person.find(QListWidget, "class_list")
        if classes.count() > 1 and self.rng.random() < 0.5:
            item = classes.item(1)
            shown = item.checkState() == Qt.CheckState.Checked
            states = Qt.CheckState
            item.setCheckState(states.Unchecked if shown else states.Checked)

    def choose_something(self) -> None:
        name = self.rng.choice(("image_combo", "model_combo", "score_scope_combo"))
        combo: QComboBox = self.person.combo(name)
        last = min(combo.count(), 4) - 1
        if combo.isEnabled() and last >= 0:
            combo.setCurrentIndex(self.rng.randint(0, last))
            combo.activated.emit(combo.currentIndex())

    def change_layers(self) -> None:
        layers = self.person.viewer.layers
        mood = self.rng.random()
        mask = self.person.dock.mask_view.layer
        if mood < 0.25 and mask is not None:
            layers.remove(mask)
        elif mood < 0.5 and len(layers) < 6:
            other = synthetic_nuclei((SIDE, SIDE), n=4, seed=len(layers)).image
            self.person.viewer.add_image(other, name=f"other {len(self.diary)}")
        elif mood < 0.7 and len(layers) > 3:
            layers.remove(self.rng.choice(layers))
        elif mood < 0.85 and layers:
            layer = self.rng.choice(layers)
            layer.visible = not layer.visible
        elif layers:
            self.rng.choice(layers).name = f"renamed {len(self.diary)}"

    def finetune(self) -> None:
        if self.trained < 3 and self.person.button("finetune_button").isEnabled():
            self.trained += 1
            self.person.find(QWidget, "finetune_minutes").setValue(0.05)
            self._press(self.person.button("finetune_button"))

    def wait(self) -> None:
        hands.settle(0.4)

    def _press(self, button: QAbstractButton | None) -> None:
        # A button that is disabled, or hidden, cannot be pressed by hand either.
        if button is not None and button.isEnabled() and button.isVisible():
            button.click()


@pytest.fixture
def monkey(person: Person, monkeypatch: pytest.MonkeyPatch) -> Monkey:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("another", True))
    monkeypatch.setattr(QWidget, "show", _show_in_the_back)
    stack = np.stack(
        [synthetic_nuclei((SIDE, SIDE), n=6, seed=s).image for s in (1, 2)]
    )
    person.viewer.add_image(stack, name="stack")
    person.workspace.predict_options = PredictOptions(tile=32)
    return Monkey(person, SEED)


_show = QWidget.show


def _show_in_the_back(widget: QWidget) -> None:
    """Show a window without taking the focus from the canvas."""
    widget.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
    _show(widget)


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.timeout(400)
def test_300_actions(monkey: Monkey, tmp_path: Path) -> None:
    person = monkey.person
    threads = set(hands.running())
    try:
        for _ in range(ACTIONS):
            monkey.act()
        # It loses interest; what is under way ends.
        live = person.find(QCheckBox, "live_check")
        live.setChecked(False)
        person.wait(person.idle, 60, "the end of the prediction")
        person.wait_for_training()
        person.wait(lambda: person.dock._runner.running == 0, 60)
    except Exception as error:
        error.add_note(f"seed {SEED}, after {monkey.diary[-20:]}")
        raise
    unexpected = [e for e in person.failures if not isinstance(e, NapariSegError)]
    assert not unexpected, monkey.diary
    # Nothing is stuck: the image can be predicted, the mask painted.
    image = synthetic_nuclei((SIDE, SIDE), n=6, seed=9).image
    layer = person.viewer.add_image(image, name="after")
    person.dock.source.choose_image(layer)
    person.workspace.set_model(next(c for c in person.workspace.choices() if c.path))
    person.predict()
    assert isinstance(person.mask, Labels)
    person.check_scores()
    person.dock.shut_down()
    hands.wait_until(lambda: set(hands.running()) <= threads, 20, f"{hands.running()}")
