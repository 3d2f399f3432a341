"""Models taken away for other programs, and packages of other programs opened."""

from __future__ import annotations

import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from napari_seg import load_model
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.exports import EXPORTS, export
from napari_seg.workspace.models_out import Signature
from tests.workspace.conftest import Heard

SIGNED = Signature("Ada Lovelace, Charles Babbage", "CC-BY-4.0")


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    return workspace


def test_graphs_compute_what_the_model_does(
    ready: Workspace, heard: Heard, model_file: Path, tmp_path: Path
) -> None:
    assert export(ready, "model-onnx", tmp_path / "cells")
    assert export(ready, "model-torchscript", tmp_path / "cells.pt")
    assert heard.told == [
        f"Saved {tmp_path / 'cells.onnx'}",
        f"Saved {tmp_path}/cells.pt",
    ]
    x = torch.rand(1, 1, 64, 80)
    with torch.no_grad():
        expected = load_model(model_file)(x).numpy()
        with warnings.catch_warnings():
            # That TorchScript is on its way out of PyTorch.
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(tmp_path / "cells.pt")(x).numpy()
    graph = onnxruntime.InferenceSession(tmp_path / "cells.onnx")
    (found,) = graph.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(script, expected, atol=1e-4)
    assert not heard.failures


def test_a_package_comes_back_as_it_went(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    assert not export(ready, "model-zoo", tmp_path / "cells.zip")
    assert "author" in str(heard.failures.pop())
    assert export(ready, "model-zoo", tmp_path / "cells.zip", SIGNED)
    assert not heard.failures
    assert ready.session is not None
    before = ready.session.mask.reference.copy()
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(tmp_path / "cells.zip") as archive:
        archive.extractall(folder)
    names = {"bioimageio.yaml", "rdf.yaml"} & {file.name for file in folder.iterdir()}
    for path in (tmp_path / "cells.zip", folder, folder / names.pop()):
        ready.open_model(path)
        assert ready.choice is not None
        assert not ready.choice.trainable
        ready.predict(None, everything=True)
        np.testing.assert_array_equal(ready.session.mask.reference, before)
    assert not heard.failures
    # A finished graph is nobody's to give in another form.
    assert not export(ready, "model-onnx", tmp_path / "again.onnx")
    assert "another program" in str(heard.failures.pop())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"rdf.yaml": "type: model"}, "specification|cannot be used|is not what"),
        ({"notes.txt": "hello"}, "no package of the BioImage Model Zoo"),
        ({"rdf.yaml": ":\n  - ]"}, "damaged.zip"),
    ],
)
def test_a_package_that_fails_says_so_once(
    ready: Workspace, heard: Heard, tmp_path: Path, content: dict[str, str], words: str
) -> None:
    chosen = ready.choice
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    ready.open_model(path)
    (error,) = heard.failures
    with pytest.raises(ValueError, match=words):
        raise ValueError(str(error))
    assert "damaged.zip" in str(error)
    assert ready.choice == chosen


@pytest.mark.parametrize(("key", "module"), [("onnx", "onnx"), ("zoo", "bioimageio")])
def test_what_is_not_installed_is_named(
    ready: Workspace,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    module: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("napari_seg.zoo.extra.find_spec", lambda name: None)
    assert not export(ready, f"model-{key}", tmp_path / "model", SIGNED)
    (error,) = heard.failures
    assert module in str(error)
    assert "pip install 'napari-seg[zoo]'" in str(error)
    assert not list(tmp_path.glob("model*"))


def test_untrained_models_cannot_be_taken_away(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    ready.set_model(next(each for each in ready.choices() if each.untrained))
    for key, each in EXPORTS.items():
        if key.startswith("model"):
            assert not export(ready, key, tmp_path / f"none{each.suffix}", SIGNED)
            assert "no weights" in str(heard.failures.pop())
