"""Every decision of the dock, without a dock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_seg.corrections.manifest import ReadAs
from napari_seg.errors import InputError, LabelsError, ModelFileError
from napari_seg.inference.predict import PredictOptions
from napari_seg.workspace import ImageSource, View, Workspace, obstacles
from napari_seg.workspace.tasks import run_inline
from tests.workspace.conftest import SIDE, Heard, make_model

VIEW = View((), slice(0, 40), slice(30, SIDE))
EVERYTHING = View((), slice(0, SIDE), slice(0, SIDE))


def _predict(workspace: Workspace, source: ImageSource) -> NDArray[np.uint8]:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    return workspace.session.mask.labels


def _paint(workspace: Workspace, *where: slice, label: int = 1) -> None:
    assert workspace.session is not None
    workspace.session.mask.labels[where] = label
    workspace.edited(where)


# Image and model --------------------------------------------------------------


def test_a_fitting_model_is_chosen(source: ImageSource, user_home: Path) -> None:
    (user_home / "models").mkdir(parents=True)
    make_model(user_home / "models" / "three", in_channels=3)
    workspace = Workspace(run_inline)
    workspace.set_image(source)
    assert workspace.choice is not None
    assert workspace.choice.spec.in_channels == 1 or workspace.choice.spec.gray_as_rgb
    assert obstacles.to_predict(workspace) == ""
    rgb = ImageSource("rgb", np.zeros((64, 64, 3), np.uint8), rgb=True)
    workspace.set_image(rgb)
    assert workspace.misfit == ""
    workspace.close()


def test_the_chosen_model_stays_in_the_list(
    workspace: Workspace, source: ImageSource, tmp_path: Path
) -> None:
    workspace.set_image(source)
    assert workspace.choice in workspace.choices()
    labels = [choice.label for choice in workspace.choices()]
    assert labels.count("tiny") == 1
    other = ImageSource("other", np.zeros((64, 64), np.uint8))
    workspace.set_image(other)
    assert workspace.choice is not None
    assert workspace.choice.label == "tiny"


def test_no_image_no_model_and_what_would_help(workspace: Workspace) -> None:
    assert "Open an image" in obstacles.to_predict(workspace)
    assert "no mask yet" in obstacles.to_review(workspace)
    assert obstacles.to_finetune(workspace) == obstacles.to_review(workspace)
    assert obstacles.to_cancel(workspace)
    assert obstacles.to_stop(workspace)
    workspace.predict(None, everything=True)
    workspace.finetune(0.1)
    workspace.keep()
    workspace.discard()
    workspace.restore("v001")
    workspace.stop_training()
    workspace.cancel()
    workspace.edited()
    workspace.accept(VIEW)
    workspace.unaccept(VIEW)
    assert workspace.next_uncertain() is None
    assert workspace.scores is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((0, 64), np.uint8), "empty"),
        (np.zeros(64, np.uint8), "axes"),
        (np.zeros((64, 64), complex), "complex"),
        (np.zeros((16, 64), np.uint8), "32"),
    ],
)
def test_what_is_no_image(
    workspace: Workspace, heard: Heard, data: Any, words: str
) -> None:
    workspace.set_image(ImageSource("odd", data))
    reason = obstacles.to_predict(workspace)
    assert words in reason
    assert not workspace.begin()
    workspace.predict(None, everything=True)
    assert not heard.failures


def test_a_model_that_does_not_fit_is_named(
    workspace: Workspace, source: ImageSource, tmp_path: Path
) -> None:
    before = _predict(workspace, source).copy()
    workspace.open_model(make_model(tmp_path / "rgb", in_channels=3))
    assert "channel" in obstacles.to_predict(workspace)
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    np.testing.assert_array_equal(workspace.session.mask.labels, before)


def test_files_that_are_no_models(
    workspace: Workspace, heard: Heard, tmp_path: Path
) -> None:
    import pickle

    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps({"weights": [1, 2]}))
    before = workspace.choice
    workspace.open_model(pickled)
    workspace.open_model(tmp_path / "missing.safetensors")
    assert [type(error) for error in heard.failures] == [ModelFileError] * 2
    assert workspace.choice is before


# Prediction and mask ----------------------------------------------------------


def test_view_first_then_all(
    workspace: Workspace, heard: Heard, source: ImageSource
) -> None:
    workspace.set_image(source)
    workspace.predict(VIEW, everything=False)
    assert workspace.session is not None
    reference = workspace.session.mask.reference
    assert (reference[VIEW.region] != 255).all()
    assert (reference != 255).sum() == 40 * (SIDE - 30)
    assert heard.progress[-1] is None
    assert not workspace.predictor.busy
    workspace.predict(VIEW, everything=True)
    assert (reference != 255).all()
    assert not heard.failures


def test_predictions_spare_what_is_vouched_for(
    workspace: Workspace, source: ImageSource, tmp_path: Path
) -> None:
    labels = _predict(workspace, source)
    _paint(workspace, slice(5, 25), slice(5, 25), label=1 - int(labels[5, 5]))
    workspace.accept(View((), slice(50, 90), slice(50, 90)))
    assert workspace.session is not None
    truth = workspace.session.mask.truth()
    workspace.open_model(make_model(tmp_path / "deep", width=4))
    workspace.predict(None, everything=True)
    kept = truth != 255
    np.testing.assert_array_equal(labels[kept], truth[kept])


def test_scores_and_their_curve(workspace: Workspace, source: ImageSource) -> None:
    labels = _predict(workspace, source)
    assert workspace.session is not None
    assert workspace.scores is not None
    assert workspace.scores.mean_dice == 1
    history = workspace.session.history
    points = len(history.points("whole"))
    labels[:10] = 1 - labels[:10]
    workspace.edited((slice(0, 10), slice(None)))
    workspace.stroke_finished()
    workspace.stroke_finished()
    assert workspace.scores.mean_dice < 1
    assert len(history.points("whole")) == points + 1
    workspace.set_scope("reviewed")
    assert np.isnan(workspace.scores.mean_dice)
    assert history.points("reviewed") == []
    workspace.accept(VIEW)
    assert len(history.points("reviewed")) == 1
    assert len(history.points("whole")) == points + 1
    assert workspace.scores.pixels == 40 * (SIDE - 30)
    workspace.unaccept(VIEW)
    assert workspace.scores.pixels == 0


def test_a_slice_is_scored_by_itself(
    workspace: Workspace, image: NDArray[np.uint16]
) -> None:
    stack = np.stack([image] * 3)
    labels = _predict(workspace, ImageSource("stack", stack, read_as=ReadAs("ZYX")))
    workspace.set_scope("slice")
    workspace.look_at_slice((1,))
    labels[1, :10] = 1 - labels[1, :10]
    workspace.edited((slice(1, 2), slice(0, 10)))
    workspace.stroke_finished()
    assert workspace.scores is not None
    assert workspace.scores.pixels == stack[0].size
    assert workspace.scores.mean_dice < 1
    assert workspace.session is not None
    assert len(workspace.session.history.points("slice")) == 2

    workspace.look_at_slice((2,))

    assert workspace.scores.mean_dice == 1
    assert len(workspace.session.history.points("slice")) == 1
    workspace.set_image(ImageSource("flat", stack[0]))
    assert workspace.scope == "whole"


def test_next_uncertain_goes_through_all_places(
    workspace: Workspace, heard: Heard, source: ImageSource
) -> None:
    _predict(workspace, source)
    boxes = []
    while (box := workspace.next_uncertain()) is not None:
        boxes.append(box)
    assert len({str(box) for box in boxes}) == len(boxes) == 4
    assert heard.told[-1].startswith("Every doubtful place")


def test_a_new_model_says_what_to_do(
    workspace: Workspace, heard: Heard, source: ImageSource
) -> None:
    workspace.set_image(source)
    new = next(choice for choice in workspace.choices() if choice.untrained)
    workspace.set_model(new)
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    assert workspace.session.ledger is not None, "one can paint"
    assert "paint some of each" in heard.told[-1]
    assert not workspace.predictor.busy
    assert "nothing to learn from" in obstacles.to_finetune(workspace)


# Classes ----------------------------------------------------------------------


def test_classes_are_added_and_saved(
    workspace: Workspace, heard: Heard, source: ImageSource
) -> None:
    _predict(workspace, source)
    workspace.add_class("rim")
    workspace.add_class(" rim ")
    workspace.add_class("")
    assert [type(error) for error in heard.failures] == [InputError] * 2
    _paint(workspace, slice(0, 9), slice(0, 9), label=2)
    workspace.close()
    workspace.set_image(source)
    assert workspace.begin()
    assert workspace.session is not None
    assert workspace.session.classes == ["background", "nucleus", "rim"]
    assert (workspace.session.mask.labels[:9, :9] == 2).all()


def test_a_model_of_other_classes_does_not_take_corrections_away(
    workspace: Workspace, source: ImageSource, tmp_path: Path
) -> None:
    labels = _predict(workspace, source)
    _paint(workspace, slice(0, 9), slice(0, 9), label=1 - int(labels[0, 0]))
    workspace.open_model(make_model(tmp_path / "cells", classes=["none", "cell"]))
    assert "same classes" in workspace.misfit
    assert workspace.session is not None
    assert workspace.session.mask.corrected_pixels > 0
    assert workspace.session.classes == ["background", "nucleus"]


# Coming back ------------------------------------------------------------------


def test_everything_is_there_again(
    workspace: Workspace, source: ImageSource, model_file: Path
) -> None:
    labels = _predict(workspace, source)
    _paint(workspace, slice(5, 25), slice(5, 25), label=1 - int(labels[5, 5]))
    workspace.accept(VIEW)
    assert workspace.session is not None
    ledger = workspace.session.mask
    saved = labels.copy(), ledger.state(), ledger.reference.copy()
    workspace.close()
    other = Workspace(run_inline)
    other.open_model(model_file)
    other.set_image(ImageSource("plate", source.data.copy()))
    assert other.begin()
    assert other.session is not None
    again = other.session.mask
    for was, now in zip(
        saved, (again.labels, again.state(), again.reference), strict=True
    ):
        np.testing.assert_array_equal(now, was)
    other.close()


def test_a_second_workspace_on_the_same_image_is_told(
    workspace: Workspace, source: ImageSource, model_file: Path
) -> None:
    labels = _predict(workspace, source)
    second = Workspace(run_inline)
    heard = Heard(second)
    second.open_model(model_file)
    second.set_image(ImageSource("plate", source.data.copy()))
    second.predict(None, everything=True)
    assert any("Another viewer" in text for text in heard.told)
    assert "Another viewer" in obstacles.to_predict(second)
    assert "Another viewer" in obstacles.to_finetune(second)
    assert not heard.failures
    second.close()
    assert workspace.session is not None
    assert not workspace.session.read_only
    _paint(workspace, slice(0, 4), slice(0, 4), label=1 - int(labels[0, 0]))
    assert workspace.session.flush(10)


def test_what_waits_belongs_to_the_mask_that_is_left(
    workspace: Workspace, source: ImageSource
) -> None:
    labels = _predict(workspace, source)
    new = 1 - int(labels[0, 0])

    def settle() -> None:
        # As the viewer does with strokes that it has not counted yet.
        if workspace.session is not None:
            workspace.session.mask.labels[:7, :7] = new
            workspace.edited((slice(0, 7), slice(0, 7)))

    workspace.settling.connect(settle)
    workspace.set_image(ImageSource("other", np.zeros((64, 64), np.uint8)))
    workspace.settling.disconnect(settle)
    workspace.set_image(source)
    assert workspace.begin()
    assert workspace.session is not None
    assert (workspace.session.mask.labels[:7, :7] == new).all()
    assert (workspace.session.mask.state()[:7, :7] > 0).any()


def test_a_mask_that_was_removed_begins_again(
    workspace: Workspace, source: ImageSource
) -> None:
    labels = _predict(workspace, source)
    _paint(workspace, slice(0, 9), slice(0, 9), label=1 - int(labels[0, 0]))
    painted = labels.copy()
    workspace.restart()
    assert workspace.session is not None
    assert workspace.session.ledger is None
    assert workspace.begin()
    np.testing.assert_array_equal(workspace.session.mask.labels, painted)


def test_a_replaced_mask_is_taken_in(workspace: Workspace, source: ImageSource) -> None:
    labels = _predict(workspace, source)
    new = 1 - labels
    workspace.replaced(new)
    assert workspace.session is not None
    assert workspace.session.mask.labels is new
    assert workspace.session.mask.corrected_pixels == labels.size
    with pytest.raises(LabelsError):
        workspace.replaced(new[:4])


def test_a_prediction_goes_on_where_the_user_looks(
    workspace: Workspace, source: ImageSource
) -> None:
    workspace.predict_options = PredictOptions(tile=32)
    workspace.set_image(source)
    corner = View((), slice(64, 96), slice(64, 96))
    boxes = []

    def tile(box: Any) -> None:
        if box is not None:
            boxes.append(box)
            workspace.look_at(corner)

    workspace.pixels_changed.connect(tile)
    workspace.predict(View((), slice(0, 32), slice(0, 32)), everything=True)

    assert boxes[0] == (slice(0, 32), slice(0, 32))
    assert boxes[1] == corner.box
    assert len(boxes) == 9
