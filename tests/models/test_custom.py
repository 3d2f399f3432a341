"""A network of the user's own is an architecture like the others."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

import napari_seg
from napari_seg.cli import main
from napari_seg.errors import InputError, ModelFileError
from napari_seg.models.registry import unregister_model
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.workspace.choices import ModelShelf


class Net(nn.Module):
    """Two levels, batch normalisation and dropout."""

    def __init__(self, channels, classes):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1))
        self.drop = nn.Dropout(0.1)
        self.last = nn.Conv2d(16, classes, 1)

    def forward(self, x):
        near = self.down(x)
        far = nn.functional.interpolate(self.deep(near), scale_factor=2.0)
        return self.last(self.drop(torch.cat([near, far], 1)))


@pytest.fixture
def registered():
    napari_seg.register_model("mine", Net, classes=["background", "cell"], stride=2)
    yield "mine"
    unregister_model("mine")


@pytest.fixture
def model(registered):
    torch.manual_seed(0)
    return napari_seg.create_model(registered).eval()


def test_its_own_channels_and_classes_are_the_default(model):
    assert (model.spec.in_channels, model.spec.classes) == (1, ("background", "cell"))
    assert (model.stride, model.halo) == (2, 64)
    other = napari_seg.create_model("mine", 3, ["a", "b", "c"])
    assert other(torch.rand(1, 3, 33, 47)).shape == (1, 3, 33, 47)


def test_tiles_do_not_show(model):
    image = synthetic_nuclei((150, 131), n=8).image
    whole = napari_seg.predict(model, image, confidence=True)
    tiled = napari_seg.predict(model, image, confidence=True, tile=32)
    assert np.array_equal(whole.labels, tiled.labels)
    np.testing.assert_allclose(whole.confidence, tiled.confidence, atol=1e-5)


def test_file_opens_where_it_is_registered(model, tmp_path):
    path = napari_seg.save_model(model, tmp_path / "own")
    x = torch.rand(1, 1, 40, 40)
    assert torch.equal(napari_seg.load_model(path)(x), model(x))
    unregister_model("mine")
    with pytest.raises(ModelFileError, match="register_model"):
        napari_seg.load_model(path)


def test_learns(model):
    sample = synthetic_nuclei((96, 96), n=8)
    options = FinetuneOptions(crop=48, batch=2)
    tuned = napari_seg.finetune(
        model, [sample.image], [sample.mask], steps=30, options=options
    )
    assert tuned.history[-1].loss < 0.9 * tuned.history[0].loss
    assert tuned.model.spec.arch == "mine"


def test_keeps_what_fits_with_other_channels_and_classes(model):
    x = torch.rand(1, 1, 32, 32)
    wide = napari_seg.adapt_model(model, 3, ["background", "new", "cell"]).eval()
    with torch.no_grad():
        old, new = model(x), wide(x.repeat(1, 3, 1, 1))
    torch.testing.assert_close(new[:, [0, 2]], old)
    assert (new.argmax(1) != 1).all()


def test_onnx_is_the_same(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra zoo")
    session = onnxruntime.InferenceSession(
        napari_seg.export_onnx(model, tmp_path / "own.onnx")
    )
    x = torch.rand(2, 1, 37, 50)
    with torch.no_grad():
        expected = model(x).numpy()
    (answer,) = session.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_dock_offers_it(registered, tmp_path):
    labels = [choice.label for choice in ModelShelf(tmp_path).new(1, ("a", "b"))]
    assert labels[-1] == "New mine"


MODULE = """
from torch import nn
from napari_seg import register_model

register_model("theirs", lambda c, k: nn.Conv2d(c, k, 3, padding=1), stride=1)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name a module that registers a network, as for another process."""
    (tmp_path / "their_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NAPARI_SEG_MODELS", "their_networks")
    yield "their_networks"
    unregister_model("theirs")
    sys.modules.pop("their_networks", None)


def test_command_line_knows_what_a_module_registers(module, capsys):
    assert main(["models"]) == 0
    assert "theirs" in capsys.readouterr().out


def test_single_layer_is_first_and_last(module):
    model = napari_seg.create_model("theirs", 2)
    wide = napari_seg.adapt_model(model, 3, ["background", "more", "foreground"])
    assert wide(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_module_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SEG_MODELS", "nowhere_to_be_found")
    with pytest.raises(InputError, match=r"nowhere_to_be_found.*PYTHONPATH"):
        napari_seg.create_model("theirs")
    assert ModelShelf(tmp_path).new(1, ("a", "b"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("unet", {}, "network of napari-seg"),
            ("my net!", {}, "letters, digits"),
            ("mine", {"stride": 0}, "stride is 0"),
            ("mine", {"stride": 8, "halo": 20}, "multiple"),
            ("mine", {"classes": ["one"]}, "2 to 255 classes"),
            ("mine", {"in_channels": 0}, "at least 1"),
        ],
    )
    def test_what_is_out_of_range(self, name, options, words):
        with pytest.raises(InputError, match=words):
            napari_seg.register_model(name, Net, **options)

    @pytest.mark.parametrize(
        ("factory", "words"),
        [
            (lambda c, k: "no network", "has to return a torch.nn.Module"),
            (lambda c, k: nn.Conv2d(c, k + 1, 1), r"shape \(1, 3, 32, 32\)"),
            (lambda c, k: nn.Conv2d(c, k, 3, stride=2), r"shape \(1, 2, 15, 15\)"),
        ],
    )
    def test_factory_of_something_else(self, registered, factory, words):
        napari_seg.register_model(registered, factory, stride=1)
        with pytest.raises(InputError, match=words):
            napari_seg.create_model(registered)(torch.rand(1, 1, 32, 32))

    def test_channels_of_a_network_that_takes_what_it_takes(self, registered):
        napari_seg.register_model(registered, lambda c, k: nn.Conv2d(1, 2, 1), stride=1)
        with pytest.raises(InputError, match="whatever the number"):
            napari_seg.adapt_model(napari_seg.create_model(registered), 2)
