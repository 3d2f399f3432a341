"""What classes are called, by the user and by models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_seg.errors import InputError
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.classes import ClassNames
from napari_seg.workspace.lesson import Lesson, finetune_command, kept_and_new
from tests.workspace.conftest import Heard

MODEL = ("background", "nucleus")


def test_a_renamed_class_is_still_the_model_s() -> None:
    classes = ClassNames(MODEL)
    classes.add("rim")
    classes.rename(1, "cell")
    classes.rename(1, "blood cell")
    assert classes.names == ["background", "blood cell", "rim"]
    assert classes.known(MODEL)
    assert classes.known(["background", "cell", "rim"])
    assert not classes.known(["background", "rim"])
    assert classes.to_train(MODEL) == ["background", "nucleus", "rim"]


def test_a_former_name_comes_back_to_its_own_class_only() -> None:
    classes = ClassNames(MODEL)
    classes.rename(1, "cell")
    with pytest.raises(InputError, match="'nucleus' is empty, taken"):
        classes.add("nucleus")
    with pytest.raises(InputError, match="taken"):
        classes.rename(0, "nucleus")
    classes.rename(1, "nucleus")
    assert classes.names == list(MODEL)
    assert classes.known(["background", "cell"])


@pytest.mark.parametrize("name", ["", "  ", "background", "a,b"])
def test_impossible_names(name: str) -> None:
    classes = ClassNames(MODEL)
    with pytest.raises(InputError, match="choose another"):
        classes.rename(1, name)
    assert classes.names == list(MODEL)


def test_names_survive_and_the_model_goes_on(
    workspace: Workspace, heard: Heard, source: ImageSource
) -> None:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    workspace.add_class("rim")
    workspace.rename_class(1, "cell")
    workspace.rename_class(0, "cell")
    assert "'cell' is empty, taken" in str(heard.failures.pop())
    workspace.set_image(None)

    workspace.set_image(source)
    workspace.begin()

    assert workspace.session is not None
    assert workspace.session.classes == ["background", "cell", "rim"]
    assert workspace.misfit == ""
    workspace.predict(None, everything=True)
    assert not heard.failures
    assert workspace.choice is not None
    command = finetune_command(
        workspace.session, Lesson(workspace.choice, 0.1, "cpu", ())
    )
    at = command.options.index("--classes")
    assert command.options[at + 1] == "background,nucleus,rim"
    said = kept_and_new(workspace.session, workspace.choice)
    assert said.startswith("Keeps what tiny")
    assert said.endswith("new to it: rim.")
    for untrained in (each for each in workspace.choices() if each.untrained):
        new = replace(untrained, imagenet=False)
        assert "everything" in kept_and_new(workspace.session, new)
        pretrained = replace(untrained, imagenet=True)
        assert "ImageNet" in kept_and_new(workspace.session, pretrained)


def test_labels_keep_their_meaning(workspace: Workspace, source: ImageSource) -> None:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    scores = workspace.scores
    workspace.rename_class(1, "cell")
    assert workspace.scores is not None
    assert scores is not None
    assert (workspace.scores.confusion == scores.confusion).all()
