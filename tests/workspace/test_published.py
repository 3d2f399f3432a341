"""Published weights in the workspace: what is offered, fetched, trained and told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from napari_seg.errors import DownloadError, InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.models.published import IMAGENET, MODELS, Fetched
from napari_seg.training import child
from napari_seg.training.child import FinetuneCommand
from napari_seg.training.loop import Step
from napari_seg.workspace import ImageSource, ModelChoice, View, Workspace
from napari_seg.workspace.exports import export
from tests.weight_server import WeightServer
from tests.workspace.conftest import SIDE, Heard


def choice_named(workspace: Workspace, label: str) -> ModelChoice:
    return next(c for c in workspace.choices() if c.label == label)


def test_published_models_come_last_and_are_chosen_by_nobody_else(
    workspace: Workspace, source: ImageSource
) -> None:
    workspace.set_image(source)
    assert [c.label for c in workspace.choices()][-len(MODELS) :] == list(MODELS)
    assert workspace.choice is not None
    assert not workspace.choice.published


def test_a_published_model_is_fetched_before_the_first_tile(
    workspace: Workspace, source: ImageSource, heard: Heard, voc_tiny: SegmentationModel
) -> None:
    workspace.set_image(source)
    choice = choice_named(workspace, "voc-tiny")
    assert choice.to_fetch == MODELS["voc-tiny"].file
    workspace.set_model(choice)
    workspace.predict(None, everything=True)
    assert not heard.failures
    kinds = [type(state).__name__ for state in heard.progress if state is not None]
    assert kinds.index("Fetched") < kinds.index("Progress", 1)
    labels = [c.label for c in workspace.choices()]
    assert labels.count("voc-tiny") == 1
    assert workspace.choice == choice_named(workspace, "voc-tiny")
    assert choice.to_fetch is None
    assert workspace.session is not None
    assert set(workspace.session.classes) >= {"background", "cat", "dog"}
    heard.progress.clear()
    workspace.predict(None, everything=True)
    assert not any(isinstance(state, Fetched) for state in heard.progress)


def test_offline_is_told_and_leaves_the_dock_idle(
    workspace: Workspace,
    source: ImageSource,
    heard: Heard,
    voc_tiny: SegmentationModel,
    weight_server: WeightServer,
    tmp_path,
) -> None:
    weight_server.stop()
    workspace.set_image(source)
    workspace.set_model(choice_named(workspace, "voc-tiny"))
    workspace.predict(None, everything=True)
    (failure,) = heard.failures
    assert isinstance(failure, DownloadError)
    assert not workspace.predictor.busy
    export(workspace, "model", tmp_path / "model.safetensors")
    assert isinstance(heard.failures[-1], InputError)


def test_only_new_models_with_a_known_encoder_start_from_imagenet(
    workspace: Workspace, source: ImageSource
) -> None:
    workspace.set_image(source)
    offered = {c.label for c in workspace.choices() if c.imagenet_file is not None}
    assert offered == {
        "New U-Net, ResNet-18",
        "New DeepLab v3+, ResNet-18",
        "New DeepLab v3, ResNet-50",
        "New FCN, ResNet-50",
        "New FCN-8s, VGG-16",
    }
    workspace.start_from_imagenet(True)
    assert workspace.choice is not None
    assert not workspace.choice.imagenet, "nuclei has learned already"


class PlayedChild:
    """Stands in for the process, and keeps the model to start from."""

    starts: list[SegmentationModel] = []  # noqa: RUF012

    def __init__(self, command: FinetuneCommand) -> None:
        self.result = None
        self.starts.append(load_model(command.model))

    def steps(self) -> Iterator[Step]:
        yield Step(1, 1.0, 1.0, 1.0)

    def cancel(self) -> None:
        """Do nothing: it ends by itself."""


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[SegmentationModel]:
    monkeypatch.setattr(child, "FinetuneChild", PlayedChild)
    monkeypatch.setattr(PlayedChild, "starts", [])
    return PlayedChild.starts


@pytest.fixture
def with_labels(workspace: Workspace, source: ImageSource) -> Workspace:
    """Return the workspace with something to learn from."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    workspace.accept(View((), slice(0, 64), slice(0, SIDE)))
    return workspace


def test_training_begins_with_the_fetched_encoder(
    with_labels: Workspace,
    heard: Heard,
    starts: list[SegmentationModel],
    published_resnet18: WeightServer,
    resnet18: dict[str, torch.Tensor],
) -> None:
    workspace = with_labels
    told: list[object] = []
    workspace.training.connect(told.append)
    workspace.set_model(choice_named(workspace, "New U-Net, ResNet-18"))
    workspace.start_from_imagenet(True)
    assert workspace.choice is not None
    assert workspace.choice.to_fetch is not None
    workspace.finetune(0.5)
    assert not heard.failures
    assert isinstance(told[0], Fetched)
    (start,) = starts
    key = "layer4.1.conv2.weight"
    torch.testing.assert_close(
        start.get_submodule("encoder").state_dict()[key], resnet18[key]
    )
    assert start.spec.normalization == IMAGENET.for_channels(1)
    workspace.start_from_imagenet(False)
    workspace.finetune(0.5)
    assert starts[-1].spec.normalization.mean is None


def test_stop_ends_the_download_before_training(
    with_labels: Workspace,
    heard: Heard,
    starts: list[SegmentationModel],
    published_resnet18: WeightServer,
) -> None:
    workspace = with_labels
    workspace.set_model(choice_named(workspace, "New U-Net, ResNet-18"))
    workspace.start_from_imagenet(True)

    def stop(_: object) -> None:
        workspace.stop_training()

    workspace.training.connect(stop)
    workspace.finetune(0.5)
    assert (starts, heard.failures) == ([], [])
    assert not workspace.teacher.busy
    assert workspace.choice is not None
    file = workspace.choice.to_fetch
    assert file is not None
    assert file.part.exists()
