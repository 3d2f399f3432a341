"""From one image to the next: what the model learned on the first is not lost."""

from __future__ import annotations

import pytest

from napari_seg.synthetic import synthetic_nuclei
from napari_seg.workspace import ImageSource, View, Workspace
from tests.workspace.conftest import SIDE, Heard

QUICK = ("--batch", "2", "--crop", "32")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_second_image_s_card_tells_of_the_first(
    workspace: Workspace, heard: Heard
) -> None:
    """With real child processes, as the dock runs them."""
    workspace.finetune_arguments = QUICK
    for name, seed in (("first", 1), ("second", 2)):
        image = synthetic_nuclei((SIDE, SIDE), n=6, seed=seed).image
        workspace.set_image(ImageSource(name, image))
        workspace.predict(None, everything=True)
        workspace.accept(View((), slice(0, SIDE), slice(0, SIDE)))
        workspace.finetune(0.03)
        assert not heard.failures
        assert workspace.verdict is not None
        replayed = workspace.verdict["earlier"]
        assert (replayed is not None) == (name == "second")
        workspace.keep()
    assert replayed["pixels"] > 0
    assert workspace.choice is not None
    projects = [run.get("project", "") for run in workspace.choice.spec.history]
    assert [name.partition("-")[0] for name in projects] == ["first", "second"]
