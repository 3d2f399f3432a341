"""Graphs for other programs say what the model says, on images of any size."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import napari_seg
from napari_seg.errors import InputError, StorageError
from napari_seg.zoo import extra
from napari_seg.zoo.export import KEY, OPSET, export_onnx, export_torchscript

#: Odd sides, no multiple of any stride, more than one image.
SHAPES = [(1, 33, 47), (3, 64, 96), (1, 130, 77)]


@pytest.fixture(params=["small_unet", "small_deeplab"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def images(model):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.rand(n, model.spec.in_channels, h, w, generator=generator)
        for n, h, w in SHAPES
    ]


@torch.no_grad()
def _answers(model, images):
    return [model(x).numpy() for x in images]


def test_onnx_runtime_computes_the_same(model, images, tmp_path):
    path = export_onnx(model, tmp_path / "net")
    assert path.name == "net.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for x, expected in zip(images, _answers(model, images), strict=True):
        (answer,) = session.run(None, {"image": x.numpy()})
        np.testing.assert_allclose(answer, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is:DeprecationWarning")
def test_torchscript_computes_the_same(model, images, tmp_path):
    path = export_torchscript(model, tmp_path / "net")
    extra_files = {KEY: ""}
    loaded = torch.jit.load(path, _extra_files=extra_files)
    for x, expected in zip(images, _answers(model, images), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(loaded(x).numpy(), expected, atol=1e-4)
    assert json.loads(extra_files[KEY])["spec"]["classes"] == list(model.spec.classes)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is:DeprecationWarning")
def test_models_of_volumes_are_graphs_of_volumes(tmp_path):
    model = napari_seg.create_model(
        "unet3d", in_channels=1, classes=["background", "x"], width=4, anisotropy=2
    ).eval()
    session = onnxruntime.InferenceSession(
        export_onnx(model, tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    script = torch.jit.load(export_torchscript(model, tmp_path / "net.pt"))
    for shape in ((1, 1, 4, 64, 48), (2, 1, 11, 33, 70), (1, 1, 1, 40, 40)):
        x = torch.rand(shape)
        (expected,) = _answers(model, [x])
        (answer,) = session.run(None, {"image": x.numpy()})
        np.testing.assert_allclose(answer, expected, atol=1e-4)
        with torch.no_grad():
            np.testing.assert_allclose(script(x).numpy(), expected, atol=1e-4)
    with pytest.raises(InputError, match="sees volumes"):
        napari_seg.export_bioimage(
            model,
            tmp_path / "net.zip",
            example=np.zeros((4, 64, 64)),
            authors=["A"],
            license="MIT",
        )


def test_file_describes_itself_and_keeps_names_of_images_to_itself(
    small_unet, tmp_path, monkeypatch
):
    spec = small_unet.spec.with_history({"regions": ["patient-7.tif"]})
    monkeypatch.setattr(small_unet, "spec", spec)
    path = export_onnx(small_unet, tmp_path / "net.onnx")
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    assert graph.opset_import[0].version == OPSET
    (told,) = graph.metadata_props
    assert told.key == KEY
    assert json.loads(told.value)["spec"]["normalization"]["high"] == 99.8
    assert b"patient-7" not in path.read_bytes()


def test_model_is_left_as_it_is(small_unet, tmp_path):
    small_unet.train()
    before = {key: value.clone() for key, value in small_unet.state_dict().items()}
    export_torchscript(small_unet, tmp_path / "net.pt")
    export_onnx(small_unet, tmp_path / "net.onnx")
    assert small_unet.training
    assert all(p.requires_grad for p in small_unet.parameters())
    for key, value in small_unet.state_dict().items():
        assert torch.equal(value, before[key]), key
    small_unet.eval()


def test_what_cannot_be_written_is_told_and_leaves_nothing(small_unet, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        napari_seg.export_torchscript(small_unet, tmp_path / "file" / "net.pt")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "file"
    ]


def test_missing_extra_is_named(small_unet, tmp_path, monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"needs onnx: pip install 'napari-seg\[zoo\]'"
    ):
        export_onnx(small_unet, tmp_path / "net.onnx")
