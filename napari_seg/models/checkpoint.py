"""Model files: safetensors weights and the model's description; never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from safetensors.torch import save_file
from torch import Tensor

from napari_seg.errors import InputError, ModelFileError, StorageError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.catalog import (
    FORMAT,
    SUFFIX,
    find_model,
    is_package,
    packages,
    read_spec,
)
from napari_seg.models.published import MODELS, Fetched
from napari_seg.models.registry import build
from napari_seg.models.spec import ModelSpec

__all__ = ["load_model", "pack_model", "save_model", "save_tensors", "unpack_model"]

_VERSION = 1


def save_model(
    model: SegmentationModel, path: str | os.PathLike[str], *, half: bool = False
) -> Path:
    """Write weights and description to one safetensors file.

    The file appears whole or not at all.

    Parameters
    ----------
    model : SegmentationModel
        Any device, any mode.
    path : path-like
        ``.safetensors`` is added where it lacks.
    half : bool
        Store floating-point weights as float16, which halves the file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StorageError
        If the file cannot be written (disk full, no permission).
    NotTrainableError
        If the model is a graph of another program.
    """
    model.check_trainable()
    target = Path(path).expanduser()
    if target.suffix != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    tensors = {key: _stored(value, half) for key, value in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "version": str(_VERSION),
        "spec": json.dumps(model.spec.to_dict()),
    }
    save_tensors(tensors, target, metadata)
    return target


def save_tensors(
    tensors: dict[str, Tensor], target: Path, metadata: dict[str, str]
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{uuid4().hex[:8]}.part")
        try:
            partial.touch(exist_ok=False)
            mode = partial.stat().st_mode
            save_file(tensors, partial, metadata)
            # safetensors lets no one else read its files; a colleague should.
            partial.chmod(mode)
            _flush(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"The model could not be saved to {target}: {error}. Free some space or "
            "choose another folder; the model in memory is unchanged."
        ) from error


def pack_model(model: SegmentationModel) -> tuple[dict[str, Any], bytes]:
    """Return description and weights, to be sent to :func:`unpack_model`.

    Raises
    ------
    NotTrainableError
        If the model is a graph of another program.
    """
    model.check_trainable()
    state = {key: _stored(value, False) for key, value in model.state_dict().items()}
    return model.spec.to_dict(), save_bytes(state)


def unpack_model(spec: dict[str, Any], weights: bytes) -> SegmentationModel:
    """Return the model that was packed, on the CPU and in eval mode."""
    model = build(ModelSpec.from_dict(spec))
    model.load_state_dict(load_bytes(weights))
    return model.eval()


def _flush(path: Path) -> None:
    """Wait until a file is on the disk, so that a power cut leaves old or new."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not (half and value.is_floating_point()):
        return value
    small = value.half()
    # The variance in a normalisation layer may exceed float16's 65504.
    return small if bool(small.isfinite().all()) else value


def load_model(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    on_progress: Callable[[Fetched], None] | None = None,
) -> SegmentationModel:
    """Load a bundled or published model by name, or a file that napari-seg saved.

    Parameters
    ----------
    name_or_path : str or path-like
        ``"nuclei"``, ``"voc-deeplabv3-resnet50"``, or the path of a ``.safetensors``
        file or of a package of the BioImage Model Zoo (.zip or folder), which predicts
        only. A published model is fetched on first use.
    device : str or torch.device
        Where the weights go.
    on_progress : callable or None
        Called while weights are fetched; None shows a bar in a terminal.

    Returns
    -------
    SegmentationModel
        In eval mode, with ``.spec``.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, pickled or made by another program.
    DownloadError
        If it has to be fetched and cannot be.
    """
    path = find_model(name_or_path)
    if is_package(path):
        imported: SegmentationModel = packages().import_bioimage(path)
        return imported
    if str(name_or_path) in MODELS and not path.exists():
        # Imported late, since it imports this module.
        from napari_seg.models.pretrained import fetch_model, follow

        follow(fetch_model(str(name_or_path)), on_progress)
    spec = read_spec(path)
    try:
        model = build(spec)
    except InputError as error:
        raise ModelFileError(
            f"{path.name} holds a model that this version of napari-seg cannot build: "
            f"{error} A newer version may."
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ModelFileError(
            f"The weights in {path.name} do not fit its description; the file is "
            f"damaged. ({str(error).splitlines()[0]})"
        ) from error
    return model.to(device).eval()
