"""The last layer is fitted to classes that a model does not know yet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_seg.errors import TrainingError
from napari_seg.models.registry import adapt_model, create_model
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.head import fit_new_classes
from napari_seg.training.loop import Budget, TrainOptions, train
from napari_seg.training.sampling import CropSampler, Example

OPTIONS = TrainOptions(
    learning_rate=1e-2,
    batch=4,
    crop=32,
    average=0.9,
    norm_statistics="auto",
    augmentation=AugmentOptions(rotation=0, scale=1, intensity=0, blur=0),
)


@pytest.fixture(scope="module")
def known():
    """A network whose features tell squares apart that its classes do not."""
    torch.manual_seed(0)
    model = create_model("unet", classes=["ground", "bright", "dim"], width=4, depth=2)
    both = sampler(*example(bright=True, dim=True))
    list(train(model, both, OPTIONS, Budget(steps=80)))
    return adapt_model(model, classes=["ground", "bright"]).eval()


def example(*, bright: bool, dim: bool = False) -> list[Example]:
    """Return an image with squares of class 1, and of class 2, which are dim."""
    rng = np.random.default_rng(0)
    labels = np.zeros((96, 96), np.uint8)
    if bright:
        labels[8:40, 8:40] = 1
    if dim:
        labels[50:82, 50:82] = 2
    image = np.array([0.2, 0.9, 0.5])[labels] + rng.normal(0, 0.03, labels.shape)
    return [Example(image[None].astype(np.float32), labels)]


def sampler(*examples: Example) -> CropSampler:
    return CropSampler(examples, OPTIONS.crop, seed=0)


def found(model, image) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(image)[None])[0].argmax(dim=0).numpy()


def test_a_new_class_is_found_before_training_begins(known):
    (both,) = example(bright=True, dim=True)
    model = adapt_model(known, classes=[*known.spec.classes, "dim"]).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert 2 not in found(model, both.image)
    assert fit_new_classes(model, sampler(both), OPTIONS)
    assert not model.training
    assert (found(model, both.image)[55:78, 55:78] == 2).mean() > 0.5
    assert (found(model, both.image)[12:36, 12:36] == 1).mean() > 0.5
    changed = {
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == {"head.weight", "head.bias"}


def test_what_is_known_stays_as_it_is(known):
    before = {key: value.clone() for key, value in known.state_dict().items()}
    assert not fit_new_classes(known, sampler(*example(bright=True)), OPTIONS)
    for key, value in known.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not known.training


@pytest.mark.parametrize(
    ("arch", "encoder", "fitted"),
    [("unet", "resnet18", True), ("deeplabv3plus", "resnet18", False)],
)
def test_other_networks(arch, encoder, fitted):
    torch.manual_seed(0)
    model = create_model(arch, encoder=encoder, classes=["ground", "a", "b"]).eval()
    head = model.state_dict()
    with torch.no_grad():
        for key, value in head.items():
            if key.endswith("head.bias"):
                value[2] -= 50
    (both,) = example(bright=True, dim=True)
    assert fit_new_classes(model, sampler(both), OPTIONS) is fitted


def test_too_little_memory_is_told(known, monkeypatch):
    def run_out(*_):
        raise MemoryError

    monkeypatch.setattr(type(known), "forward", run_out)
    with pytest.raises(TrainingError, match="fewer or smaller"):
        fit_new_classes(known, sampler(*example(bright=True)), OPTIONS)
