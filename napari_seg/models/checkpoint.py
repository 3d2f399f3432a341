"""Model files: safetensors weights and the model's description; never pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_seg.errors import InputError, ModelFileError, StorageError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import build
from napari_seg.models.spec import ModelSpec
from napari_seg.resources import bundled_models_folder

__all__ = ["bundled_models", "find_model", "load_model", "read_spec", "save_model"]

_FORMAT = "napari-seg model"
_VERSION = 1
_SUFFIX = ".safetensors"


def bundled_models() -> dict[str, Path]:
    """Return the model files that come with the package, by name."""
    return {
        path.stem: path for path in sorted(bundled_models_folder().glob(f"*{_SUFFIX}"))
    }


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a bundled model's name or of a path.

    Raises
    ------
    ModelFileError
        If there is neither such a name nor such a file.
    """
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    names = ", ".join(bundled) or "none"
    raise ModelFileError(
        f"No model {str(name_or_path)!r}: give a {_SUFFIX} file saved by napari-seg, "
        f"or the name of a bundled model ({names})."
    )


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
    """
    target = Path(path).expanduser()
    if target.suffix != _SUFFIX:
        target = target.with_name(target.name + _SUFFIX)
    tensors = {key: _stored(value, half) for key, value in model.state_dict().items()}
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "spec": json.dumps(model.spec.to_dict()),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
        try:
            save_file(tensors, partial, metadata)
            os.replace(partial, target)
        finally:
            Path(partial).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"The model could not be saved to {target}: {error}. Free some space or "
            "choose another folder; the model in memory is unchanged."
        ) from error
    return target


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value


def read_spec(name_or_path: str | os.PathLike[str]) -> ModelSpec:
    """Return the description in a model file without reading its weights.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, pickled or made by another program.
    """
    path = find_model(name_or_path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path.name} is not a readable safetensors file ({error}); it may be "
            "damaged, or cut off while it was copied."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise ModelFileError(
            f"{path.name} was made by another program: napari-seg opens model files "
            "that were saved by napari-seg (save_model, or Export in the dock)."
        )
    try:
        return ModelSpec.from_dict(json.loads(metadata["spec"]))
    except (KeyError, json.JSONDecodeError, InputError) as error:
        raise ModelFileError(
            f"The description in {path.name} cannot be read: {error}"
        ) from error


def load_model(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> SegmentationModel:
    """Load a bundled model by name, or a file that napari-seg saved.

    Parameters
    ----------
    name_or_path : str or path-like
        ``"nuclei"``, or the path of a ``.safetensors`` file.
    device : str or torch.device
        Where the weights go.

    Returns
    -------
    SegmentationModel
        In eval mode, with ``.spec``.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, pickled or made by another program.
    """
    path = find_model(name_or_path)
    model = build(read_spec(path))
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ModelFileError(
            f"The weights in {path.name} do not fit its description; the file is "
            f"damaged. ({str(error).splitlines()[0]})"
        ) from error
    return model.to(device).eval()


def _refuse_pickle(path: Path) -> None:
    """Raise for torch's own formats, which can run any code when they are opened."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise ModelFileError(
            f"{path.name} is a pickled file (torch.save), which can run any code when "
            "it is opened; napari-seg opens safetensors files only. In the program "
            "that made it, save the weights with safetensors."
        )
