"""The model files that can be found here, and what is in them; loads no torch."""

from __future__ import annotations

import json
import os
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_seg.errors import InputError, ModelFileError
from napari_seg.models.published import MODELS
from napari_seg.models.spec import ModelSpec
from napari_seg.resources import bundled_models_folder

__all__ = [
    "BUNDLED",
    "FORMAT",
    "PACKAGES",
    "PACKAGE_ARCH",
    "PACKAGE_NAMES",
    "SUFFIX",
    "bundled_models",
    "find_model",
    "is_package",
    "packages",
    "read_spec",
]

FORMAT = "napari-seg model"
SUFFIX = ".safetensors"

#: Files by which a package of the BioImage Model Zoo is known, at its top, and how its
#: file is called.
PACKAGE_NAMES = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
PACKAGES = ".zip"
#: What stands for an architecture in their descriptions: a finished graph.
PACKAGE_ARCH = "bioimage.io"
#: What reads packages; by name, for it stands above this module.
_READER = "napari_seg.zoo.importing"

#: What each bundled model is for, in the order in which they are offered.
BUNDLED = {
    "nuclei": "Finds nuclei: fluorescence, histology, stained smears; gray or RGB.",
    "nuclei-fast": "Finds nuclei, smaller and faster: for large images without a GPU.",
    "generic": "A start for classes of your own: it has seen many kinds of image. "
    "Predict, paint a little of each class, fine-tune.",
}


def bundled_models() -> dict[str, Path]:
    """Return the model files that come with the package, by name; the default first."""
    folder = bundled_models_folder()
    files = {name: folder / f"{name}{SUFFIX}" for name in BUNDLED}
    return {name: path for name, path in files.items() if path.exists()}


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a bundled or published model's name, or of a path.

    The file of a published model may still have to be fetched.

    Raises
    ------
    ModelFileError
        If there is neither such a name nor such a file.
    """
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if str(name_or_path) in MODELS:
        return MODELS[str(name_or_path)].path
    path = Path(name_or_path).expanduser()
    if path.is_file() or is_package(path):
        return path
    names = ", ".join([*bundled, *MODELS])
    raise ModelFileError(
        f"No model {str(name_or_path)!r}: give a {SUFFIX} file saved by napari-seg, a "
        "package of the BioImage Model Zoo, "
        f"or the name of a bundled or published model ({names})."
    )


def read_spec(name_or_path: str | os.PathLike[str]) -> ModelSpec:
    """Return the description in a model file without reading its weights.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, pickled or made by another program.
    """
    path = find_model(name_or_path)
    if str(name_or_path) in MODELS and not path.exists():
        return MODELS[str(name_or_path)].spec
    if is_package(path):
        spec = packages().read_package_spec(path)
        assert isinstance(spec, ModelSpec)
        return spec
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        _refuse_pickle(path)
        raise ModelFileError(
            f"{path.name} is not a readable safetensors file ({error}); it may be "
            "damaged, or cut off while it was copied."
        ) from error
    if metadata.get("format") != FORMAT:
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


def is_package(path: Path) -> bool:
    """Return whether a folder, or a zip by its content, is such a package."""
    try:
        if path.is_dir():
            return any((path / name).is_file() for name in PACKAGE_NAMES)
    except OSError:
        return False
    return bool(set(PACKAGE_NAMES) & _names(path))


def _names(path: Path) -> set[str]:
    """Return the names in an archive; none where it is no archive."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()
    return set()


def packages() -> Any:
    """Return the module that reads packages."""
    return import_module(_READER)


def _refuse_pickle(path: Path) -> None:
    """Raise for torch's own formats, which can run any code when they are opened.

    Asked only of what is not a safetensors file: the length that one begins with can
    have the same first bytes.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix == PACKAGES and not any(n.endswith(".pkl") for n in _names(path)):
        raise ModelFileError(
            f"{path.name} is no package of the BioImage Model Zoo: there is no "
            f"{' or '.join(PACKAGE_NAMES[:2])} at its top."
        )
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise ModelFileError(
            f"{path.name} is a pickled file (torch.save), which can run any code when "
            "it is opened; napari-seg opens safetensors files only. In the program "
            "that made it, save the weights with safetensors."
        )
