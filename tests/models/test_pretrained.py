"""Published weights in the models: catalogue, strict loading, what is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_seg import create_model, load_model, predict, save_model
from napari_seg.errors import DownloadError, InputError, ModelFileError
from napari_seg.models.catalog import find_model, read_spec
from napari_seg.models.encoders import create_resnet, vgg_features
from napari_seg.models.pretrained import load_encoder, read_published
from napari_seg.models.published import (
    ENCODERS,
    IMAGENET,
    MODELS,
    VOC_CLASSES,
    Fetched,
    PublishedModel,
    encoder_path,
    weights_folder,
)
from napari_seg.models.registry import build, parameter_count
from tests.weight_server import TINY, as_pth

# The catalogue ----------------------------------------------------------------


FILES = [*(model.file for model in MODELS.values()), *ENCODERS.values()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_names_hold_the_beginning_of_the_hash(file):
    """As torchvision checks it: eight digits between the last dash and .pth."""
    assert file.name.removesuffix(".pth").rpartition("-")[2] == file.sha256[:8]
    assert len(file.sha256) == 64
    assert file.address == f"https://download.pytorch.org/models/{file.name}"


def test_another_server_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("NAPARI_SEG_WEIGHTS_URL", "https://mirror.example/weights/")
    assert ENCODERS["vgg16"].address == (
        "https://mirror.example/weights/vgg16-397923af.pth"
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("voc-fcn-resnet50", 35_322_218),
        ("voc-fcn-resnet101", 54_314_346),
        ("voc-deeplabv3-resnet50", 42_004_074),
        ("voc-deeplabv3-resnet101", 60_996_202),
    ],
)
def test_voc_models_are_described_before_they_are_fetched(name, parameters):
    spec = read_spec(name)
    assert (spec.name, spec.classes, spec.gray_as_rgb) == (name, VOC_CLASSES, True)
    assert (len(VOC_CLASSES), VOC_CLASSES[0], VOC_CLASSES[15]) == (
        21,
        "background",
        "person",
    )
    assert find_model(name) == weights_folder() / f"{name}.safetensors"
    with torch.device("meta"):
        assert parameter_count(build(spec)) == parameters
    # Of float32, with some bytes for names.
    assert 0 < MODELS[name].file.size - 4 * parameters < 600_000


# Whole models -----------------------------------------------------------------


def test_a_published_model_loads_by_name_and_then_offline(voc_tiny, weight_server):
    seen: list[Fetched] = []
    loaded = load_model("voc-tiny", on_progress=seen.append)
    assert seen[-1].share == 1
    assert loaded.spec == TINY
    assert not loaded.training
    for key, value in voc_tiny.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    weight_server.stop()
    seen.clear()
    load_model("voc-tiny", on_progress=seen.append)
    assert seen == []
    assert {path.suffix for path in weights_folder().iterdir()} == {
        ".safetensors",
        ".lock",
    }


def test_offline_is_no_fault_of_the_users(voc_tiny, weight_server):
    weight_server.stop()
    with pytest.raises(DownloadError, match="put it at") as caught:
        load_model("voc-tiny")
    assert not isinstance(caught.value, InputError)


def test_photographs_keep_their_colours(voc_tiny):
    """8-bit pixels are divided by 255 as in torchvision, not stretched."""
    image = np.random.default_rng(0).integers(90, 120, (48, 64, 3), np.uint8)
    colours = TINY.normalization
    mean, std = (torch.tensor(v)[:, None, None] for v in (colours.mean, colours.std))
    x = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        expected = voc_tiny(x[None])[0].argmax(0)
    labels = predict(load_model("voc-tiny"), image, device="cpu").labels
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_of_torch_are_read(tmp_path, legacy):
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    path = tmp_path / "weights.pth"
    path.write_bytes(as_pth(state, legacy=legacy))
    read = read_published(path)
    assert list(read) == ["a", "b"]
    assert all(torch.equal(read[key], value) for key, value in state.items())


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(
    voc_tiny, weight_server, monkeypatch, tmp_path, legacy
):
    """Even where its hash is in the catalogue."""
    folder = tmp_path / "evil"
    monkeypatch.setenv("EVIL_FOLDER", str(folder))
    file = weight_server.offer("evil", as_pth({"a": Evil()}, legacy=legacy))
    monkeypatch.setitem(MODELS, "voc-tiny", PublishedModel(TINY, file))
    with pytest.raises(ModelFileError, match="was run"):
        load_model("voc-tiny")
    assert not folder.exists()
    assert not file.path.exists()


@pytest.mark.parametrize("state", [[torch.zeros(1)], {"a": 1}, {3: torch.zeros(1)}])
def test_other_things_than_named_weights(tmp_path, state):
    path = tmp_path / "odd.pth"
    path.write_bytes(as_pth(state))
    with pytest.raises(ModelFileError, match="named weights"):
        read_published(path)


def test_a_users_own_pickle_stays_refused(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(as_pth({"a": torch.zeros(1)}))
    with pytest.raises(ModelFileError, match="pickled"):
        load_model(path)


@pytest.mark.parametrize("change", ["missing", "surplus", "shape"])
def test_weights_must_fit_exactly(voc_tiny, weight_server, monkeypatch, change):
    state = voc_tiny.state_dict()
    if change == "missing":
        del state["head.bias"]
    elif change == "surplus":
        state["other"] = torch.zeros(1)
    else:
        state["head.bias"] = torch.zeros(7)
    file = weight_server.offer("tiny", as_pth(state))
    monkeypatch.setitem(MODELS, "voc-tiny", PublishedModel(TINY, file))
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model("voc-tiny")
    assert not MODELS["voc-tiny"].path.exists()


# Encoders ---------------------------------------------------------------------


def test_a_model_starts_from_a_published_encoder(published_resnet18, resnet18):
    seen: list[Fetched] = []
    model = create_model(
        "unet",
        3,
        encoder="resnet18",
        encoder_weights="imagenet",
        on_progress=seen.append,
    )
    encoder = model.get_submodule("encoder").state_dict()
    assert encoder.keys() == resnet18.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(encoder[key], resnet18[key]) for key in encoder)
    assert model.spec.normalization == IMAGENET
    assert seen[-1].done == ENCODERS["resnet18"].size
    published_resnet18.stop()
    create_model("deeplabv3plus", 3, encoder="resnet18", encoder_weights="imagenet")


def test_the_description_travels_with_the_file(published_resnet18, tmp_path):
    model = create_model("unet", 2, encoder="resnet18", encoder_weights="imagenet")
    again = load_model(save_model(model, tmp_path / "model"))
    assert again.spec == model.spec
    assert again.spec.normalization.mean == (pytest.approx(0.449),)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_gray_in_all_channels_gives_what_gray_as_rgb_gives(
    published_resnet18, resnet18, channels
):
    """The first layer is kept in sum, whatever the number of channels is."""
    model = create_model(
        "unet", channels, encoder="resnet18", encoder_weights="imagenet"
    )
    torch.manual_seed(2)
    gray = torch.rand(1, 1, 32, 32)
    first = model.get_submodule("encoder.conv1")
    kernels = resnet18["conv1.weight"]
    expected = F.conv2d(gray.expand(-1, 3, -1, -1), kernels, None, 2, 3)
    torch.testing.assert_close(first(gray.expand(-1, channels, -1, -1)), expected)


def published_shapes(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of torchvision's classifier with this encoder."""
    with torch.device("meta"):
        if name.startswith("vgg"):
            state, prefix = vgg_features(name, 3).state_dict(), "features."
            sizes = {"classifier.0": (4096, 25088), "classifier.3": (4096, 4096)}
            sizes["classifier.6"] = (1000, 4096)
        else:
            encoder = create_resnet(name, 3)
            state, prefix = encoder.state_dict(), ""
            sizes = {"fc": (1000, encoder.channels[-1])}
    for key, value in state.items():
        yield f"{prefix}{key}", tuple(value.shape)
    for key, (outputs, inputs) in sizes.items():
        yield f"{key}.weight", (outputs, inputs)
        yield f"{key}.bias", (outputs,)


@pytest.mark.parametrize(
    ("name", "arch", "parameters"),
    [
        ("resnet18", "unet", 11_689_512),
        ("resnet34", "unet", 21_797_672),
        ("resnet50", "unet", 25_557_032),
        ("resnet101", "fcn", 44_549_160),
        ("vgg16", "fcn8s", 138_357_544),
        ("vgg16_bn", "fcn32s", 138_365_992),
    ],
)
def test_every_encoder_takes_all_of_its_published_layout(name, arch, parameters):
    """The layouts are those of ``test_published_layouts``; here they are loaded."""
    fixed = ("running_mean", "running_var", "num_batches_tracked")
    shapes = dict(published_shapes(name))
    learned = {key: each for key, each in shapes.items() if not key.endswith(fixed)}
    assert sum(torch.Size(each).numel() for each in learned.values()) == parameters
    assert 0 < ENCODERS[name].size - 4 * parameters < 700_000
    # Numbers that take no memory; some files are from before batches were counted.
    state = {
        key: torch.full((), 0.5).expand(each)
        for key, each in shapes.items()
        if not key.endswith("num_batches_tracked")
    }
    with torch.device("meta"):
        model = create_model(arch, 3, encoder=name, width=8)
    model.to_empty(device="cpu")
    load_encoder(model, state)
    part = {"unet": "encoder", "fcn": "backbone"}.get(arch, "features")
    values = model.get_submodule(part).parameters()
    assert all(bool((value == 0.5).all()) for value in values)


def test_vggs_full_layers_become_convolutions():
    """On the 7×7 map of a 224×224 image both compute the same."""
    torch.manual_seed(3)
    model = create_model("fcn32s", 3, width=6).eval()
    features = model.get_submodule("features").state_dict()
    full = {"classifier.0": (6, 512 * 49), "classifier.3": (6, 6)}
    state = {f"features.{key}": value for key, value in features.items()}
    for name, shape in full.items():
        state |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(6)}
    load_encoder(model, state)
    pooled = torch.rand(1, 512, 7, 7)
    expected = pooled.flatten(1)
    for name in full:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        expected = F.relu(F.linear(expected, weight, bias))
    fc6, fc7 = model.get_submodule("fc6"), model.get_submodule("fc7")
    with torch.no_grad():
        mine = F.relu(fc7(F.relu(fc6(pooled))))[:, :, 3, 3]
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_narrower_fcns_leave_the_full_layers_out():
    torch.manual_seed(4)
    model = create_model("fcn32s", 3, width=8)
    before = model.get_submodule("fc6").state_dict()["weight"].clone()
    shapes = dict(published_shapes("vgg16"))
    load_encoder(model, {k: torch.zeros(()).expand(v) for k, v in shapes.items()})
    assert torch.equal(model.get_submodule("fc6").state_dict()["weight"], before)
    assert not model.get_submodule("features").state_dict()["0.weight"].any()


def test_weights_of_another_encoder_are_refused(resnet18):
    with pytest.raises(ModelFileError, match="do not fit the encoder resnet34"):
        load_encoder(create_model("unet", 3, encoder="resnet34"), resnet18)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"arch": "unet", "encoder_weights": "imagenet"},
            "no ImageNet weights",
        ),
        ({"arch": "fcn", "encoder_weights": "coco"}, "there is imagenet"),
    ],
)
def test_what_there_is_not(arguments, message, weight_server):
    with pytest.raises(InputError, match=message):
        create_model(**arguments)
    assert weight_server.ranges == []
    assert not encoder_path("resnet50").exists()


def test_the_cache_lies_in_the_users_folder(user_home: Path):
    assert weights_folder() == user_home / "cache" / "weights"
