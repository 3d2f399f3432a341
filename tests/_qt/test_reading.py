"""The dock says how it reads the axes, and lets the user change it."""

from __future__ import annotations

from pathlib import Path

import napari
import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtWidgets import QWidget

from napari_seg import load_model, predict
from napari_seg.synthetic import synthetic_nuclei
from tests._qt import hands
from tests._qt.person import SIDE, Person


@pytest.fixture
def stack() -> NDArray[np.uint16]:
    """Return three fields, (3, Y, X): a stack, or channels."""
    fields = [synthetic_nuclei((SIDE, SIDE), n=8, seed=seed) for seed in range(3)]
    return np.stack([field.image for field in fields])


@pytest.fixture
def reader(viewer: napari.Viewer, model_file: Path, stack: NDArray[np.uint16]):
    person = Person(viewer, model_file)
    viewer.add_image(stack, name="stack")
    viewer.reset_view()
    hands.settle(0.1)
    yield person
    person.leave()


def _shown(person: Person, name: str) -> bool:
    widget = person.find(QWidget, name)
    return widget is not None and widget.isVisible()


def _call_axis(person: Person, axis: int, letter: str) -> None:
    if not _shown(person, "axes_editor"):
        hands.press_button(person.find(QWidget, "axes_button"))
    hands.choose(person.combo(f"axis_combo_{axis}"), letter)
    hands.settle(0.1)


def test_a_stack_becomes_channels_and_back(
    reader: Person, model_file: Path, stack: NDArray[np.uint16]
) -> None:
    assert "Z 3 × Y 96 × X 96" in reader.text("axes_label")
    assert not _shown(reader, "channel_combo")
    assert reader.predict().data.shape == (3, SIDE, SIDE)
    of_stack = reader.mask.data.copy()

    _call_axis(reader, 0, "C")

    assert "3 channels" in reader.text("axes_label")
    assert reader.combo("channel_combo").currentText() == "channel 0"
    hands.choose(reader.combo("channel_combo"), "channel 2")
    mask = reader.predict().data
    assert mask.shape == (SIDE, SIDE)
    alone = predict(load_model(model_file), stack[2]).labels
    np.testing.assert_array_equal(mask, alone)

    # Nothing of the first mask is lost.
    _call_axis(reader, 0, "T")
    assert "T 3" in reader.text("axes_label")
    np.testing.assert_array_equal(reader.mask.data, of_stack)
    assert not reader.failures


def test_letters_change_places(reader: Person, stack: NDArray[np.uint16]) -> None:
    reader.viewer.add_image(np.stack([stack, stack]), name="film")
    hands.choose(reader.combo("image_combo"), "film")
    assert "T 2 × Z 3" in reader.text("axes_label")
    _call_axis(reader, 0, "Z")
    assert "Z 2 × T 3" in reader.text("axes_label")


def test_channels_in_the_middle_are_refused(
    reader: Person, stack: NDArray[np.uint16]
) -> None:
    reader.viewer.add_image(np.stack([stack, stack]), name="film")
    hands.choose(reader.combo("image_combo"), "film")
    before = reader.predict().data.copy()

    with pytest.raises(AssertionError, match="cannot be chosen"):
        _call_axis(reader, 1, "C")

    (failure,) = {str(each) for each in reader.failures}
    assert "np.moveaxis(image, 1, 0)" in failure
    assert reader.combo("axis_combo_1").currentText() == "Z"
    np.testing.assert_array_equal(reader.mask.data, before)
    assert reader.button("predict_all_button").isEnabled()
    reader.failures.clear()


def test_an_image_that_was_left_is_read_as_before(
    reader: Person, stack: NDArray[np.uint16]
) -> None:
    _call_axis(reader, 0, "C")
    hands.choose(reader.combo("channel_combo"), "channel 1")
    mask = reader.predict().data.copy()
    reader.viewer.add_image(stack[0], name="other")
    hands.choose(reader.combo("image_combo"), "other")
    hands.settle(0.1)

    hands.choose(reader.combo("image_combo"), "stack")
    hands.settle(0.1)

    assert reader.combo("channel_combo").currentText() == "channel 1"
    np.testing.assert_array_equal(reader.mask.data, mask)


def test_channels_are_remembered(reader: Person, stack: NDArray[np.uint16]) -> None:
    _call_axis(reader, 0, "C")
    hands.choose(reader.combo("channel_combo"), "channel 1")
    mask = reader.predict().data.copy()
    reader.viewer.layers.clear()
    hands.settle(0.2)

    reader.viewer.add_image(stack, name="stack")
    reader.wait(lambda: "channels" in reader.text("axes_label"))

    assert reader.combo("channel_combo").currentText() == "channel 1"
    reader.press("go_on_button")
    np.testing.assert_array_equal(reader.mask.data, mask)


def test_labels_of_the_layer_name_the_axes(
    reader: Person, stack: NDArray[np.uint16]
) -> None:
    if "axis_labels" not in dir(napari.layers.Image):
        pytest.skip("napari knows labels of axes since 0.5.4")
    layer = reader.viewer.add_image(
        stack, name="labelled", axis_labels=("channel", "y", "x")
    )
    hands.choose(reader.combo("image_combo"), layer.name)
    assert "3 channels" in reader.text("axes_label")


def test_labels_that_put_rows_first(reader: Person, stack: NDArray[np.uint16]) -> None:
    if "axis_labels" not in dir(napari.layers.Image):
        pytest.skip("napari knows labels of axes since 0.5.4")
    turned = np.moveaxis(stack, 0, -1)
    layer = reader.viewer.add_image(
        turned, name="turned", rgb=False, axis_labels=("y", "x", "c")
    )
    hands.choose(reader.combo("image_combo"), layer.name)
    assert not reader.button("predict_all_button").isEnabled()
    assert "np.moveaxis(image, 2, 0)" in reader.text("axes_label")


def test_a_photograph_gives_one_of_its_channels(
    viewer: napari.Viewer, model_file: Path, stack: NDArray[np.uint16]
) -> None:
    person = Person(viewer, model_file)
    photo = (np.moveaxis(stack, 0, -1) / stack.max() * 255).astype(np.uint8)
    viewer.add_image(photo, name="photo", rgb=True)
    hands.settle(0.1)
    hands.choose(person.combo("model_combo"), "tiny")
    # Which channel a model of one takes is for the user to say.
    assert not person.button("predict_all_button").isEnabled()
    hands.choose(person.combo("channel_combo"), "blue")
    assert person.predict().data.shape == (SIDE, SIDE)
    assert person.combo("channel_combo").currentText() == "blue"
    person.leave()


def test_a_new_model_learns_from_neighbouring_slices(reader: Person) -> None:
    assert not _shown(reader, "slices_combo")
    hands.choose(reader.combo("model_combo"), "New U-Net, small")
    hands.choose(reader.combo("slices_combo"), "3 at a time (2.5-D)")
    assert "3 slices at a time" in reader.text("axes_label")
    assert reader.combo("model_combo").currentText() == "New U-Net, small"

    reader.press("predict_view_button")
    hands.drag(reader.viewer, [(20, 20), (70, 70)])
    reader.mask.selected_label = 0
    reader.workspace.review.at_once = True
    reader.press("accept_view_button")
    reader.finetune()
    reader.press("keep_button")
    reader.wait(reader.idle)

    assert reader.workspace.choice is not None
    assert reader.workspace.choice.spec.slices == 3
    assert reader.mask.data.shape == (3, SIDE, SIDE)
    assert not reader.failures
