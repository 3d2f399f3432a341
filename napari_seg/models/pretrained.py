"""Published weights → models: read once from torch's own format, then safetensors.

torchvision's files are pickles, which can run any code when they are opened.  Each is
opened once, after its SHA-256 was found to be the one in
:mod:`napari_seg.models.published`, by torch's restricted unpickler that knows tensors
only; what it holds becomes a safetensors file, and the pickle is removed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm import tqdm

from napari_seg.errors import InputError, ModelFileError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import save_model, save_tensors
from napari_seg.models.fetch import Fetching, fetch
from napari_seg.models.published import (
    ENCODERS,
    MODELS,
    Fetched,
    encoder_path,
    with_imagenet,
)
from napari_seg.models.registry import build, spread_channels
from napari_seg.models.spec import ModelSpec

__all__ = [
    "build_pretrained",
    "fetch_encoder",
    "fetch_model",
    "follow",
    "load_encoder",
    "read_published",
]

#: What scores ImageNet's classes in the residual networks.
_RESNET_CLASSIFIER = ("fc.weight", "fc.bias")


def fetch_model(name: str) -> Fetching:
    """Make sure that the model file of a published model is there.

    Raises
    ------
    DownloadError, ModelFileError, StorageError
        As :func:`~napari_seg.models.fetch.fetch`.
    """
    published = MODELS[name]
    yield from fetch(
        published.file, published.path, partial(_convert_model, published.spec)
    )


def fetch_encoder(encoder: str) -> Fetching:
    """Make sure that the ImageNet weights of an encoder are there.

    Raises
    ------
    DownloadError, ModelFileError, StorageError
        As :func:`~napari_seg.models.fetch.fetch`.
    """
    yield from fetch(ENCODERS[encoder], encoder_path(encoder), _convert_encoder)


def follow(
    fetching: Fetching, on_progress: Callable[[Fetched], None] | None = None
) -> None:
    """Fetch to the end, and tell the progress; None shows a bar in a terminal."""
    if on_progress is not None:
        for state in fetching:
            on_progress(state)
        return
    # Without a terminal (None) nothing is shown.
    with tqdm(unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for state in fetching:
            bar.total = state.total
            bar.set_description(state.name, refresh=False)
            bar.update(state.done - bar.n)


def build_pretrained(
    spec: ModelSpec,
    weights: str,
    on_progress: Callable[[Fetched], None] | None = None,
) -> SegmentationModel:
    """Return the network of `spec` with random weights but for its encoder.

    Parameters
    ----------
    spec : ModelSpec
        Description; the result's says how its encoder wants images to be scaled.
    weights : str
        ``"imagenet"``.
    on_progress : callable or None
        See :func:`follow`.

    Raises
    ------
    InputError
        If there are no such weights for this encoder.
    DownloadError, ModelFileError, StorageError
        If they cannot be fetched.
    """
    if weights != "imagenet":
        raise InputError(f"Encoder weights {weights!r} are unknown; there is imagenet.")
    spec = with_imagenet(spec)
    model = build(spec)
    assert spec.encoder is not None
    follow(fetch_encoder(spec.encoder), on_progress)
    load_encoder(model, _open(encoder_path(spec.encoder)))
    return model


def load_encoder(model: SegmentationModel, state: dict[str, Tensor]) -> None:
    """Put the weights of an ImageNet classifier into the encoder of a model.

    Every weight of the encoder is taken from `state`, and every weight of `state` is
    used but for these: the layers that score ImageNet's classes (``fc`` of the residual
    networks, ``classifier.6`` of VGG-16), and VGG's other two fully connected layers
    where `model` has ``fc6`` and ``fc7`` of another width; else they become those
    convolutions (Long et al. 2015, Sec. 3.1). The first kernels are spread over other
    numbers of input channels.

    Parameters
    ----------
    model : SegmentationModel
        Changed in place.
    state : dict of Tensor
        Of torchvision's classifier with this encoder.

    Raises
    ------
    ModelFileError
        If the weights do not fit the encoder.
    """
    spec, state = model.spec, dict(state)
    try:
        if "features.0.weight" in state:
            _load_vgg(model, state)
            return
        for key in _RESNET_CLASSIFIER:
            del state[key]
        state["conv1.weight"] = spread_channels(state["conv1.weight"], spec.in_channels)
        _encoder(model).load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ModelFileError(
            f"The weights do not fit the encoder {spec.encoder}. "
            f"({str(error).splitlines()[0]})"
        ) from error


def _encoder(model: SegmentationModel) -> nn.Module:
    return getattr(model, "backbone", None) or model.get_submodule("encoder")


def _load_vgg(model: SegmentationModel, state: dict[str, Tensor]) -> None:
    features = {
        key.removeprefix("features."): value
        for key, value in state.items()
        if key.startswith("features.")
    }
    features["0.weight"] = spread_channels(features["0.weight"], model.spec.in_channels)
    model.get_submodule("features").load_state_dict(features)
    for source, name in (("classifier.0", "fc6"), ("classifier.3", "fc7")):
        layer = model.get_submodule(name)
        weight, bias = state[f"{source}.weight"], state[f"{source}.bias"]
        if len(bias) != len(layer.get_parameter("bias")):
            return
        shape = layer.get_parameter("weight").shape
        layer.load_state_dict({"weight": weight.reshape(shape), "bias": bias})


def read_published(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of torch's own format, and run nothing in it.

    Parameters
    ----------
    path : Path
        A file whose content is known by its hash. Those of users are not to be opened
        like this.

    Raises
    ------
    ModelFileError
        If it holds anything but tensors by name.
    """
    try:
        state = torch.load(
            path,
            map_location="cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(path),
        )
    except Exception as error:  # whatever an unpickler makes of other bytes
        raise ModelFileError(
            f"{path.name} holds something else than weights, or is damaged; nothing "
            "in it was run."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise ModelFileError(f"{path.name} holds something else than named weights.")
    return dict(state)


def _convert_model(spec: ModelSpec, source: Path, target: Path) -> None:
    """Write the published weights of a whole network as a model file."""
    model = build(spec)
    try:
        model.load_state_dict(read_published(source))
    except RuntimeError as error:
        raise ModelFileError(
            f"The weights in {source.name} do not fit {spec.label}. "
            f"({str(error).splitlines()[0]})"
        ) from error
    save_model(model, target)


def _convert_encoder(source: Path, target: Path) -> None:
    save_tensors(read_published(source), target, {"source": source.name})


def _open(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
