"""The model for other programs: written beside the main thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_seg.errors import InputError
from napari_seg.inference.axes import as_array
from napari_seg.workspace.workspace import Workspace

__all__ = [
    "LICENSES",
    "Signature",
    "model_file",
    "write_onnx",
    "write_package",
    "write_torchscript",
]

#: Licences to propose, by their SPDX identifiers.
LICENSES = ("CC-BY-4.0", "CC0-1.0", "BSD-3-Clause", "MIT", "Apache-2.0")
#: Side of the example in a package, at most, in pixels; its middle is used.
_EXAMPLE = 1024


@dataclass(frozen=True)
class Signature:
    """Who publishes a package, and under which terms.

    Attributes
    ----------
    author : str
        A name, or several with commas between them.
    license : str
        SPDX identifier.
    """

    author: str = ""
    license: str = LICENSES[0]

    @property
    def authors(self) -> list[str]:
        """The names."""
        return [name.strip() for name in self.author.split(",") if name.strip()]


def model_file(workspace: Workspace) -> Path:
    """Return the file of the model in use.

    Raises
    ------
    InputError
        If it has none yet, or comes from another program.
    """
    choice = workspace.choice
    if choice is None or choice.path is None:
        raise InputError("This model has no weights yet: fine-tune it first.")
    if choice.to_fetch is not None:
        raise InputError("This model was not fetched yet: predict with it first.")
    if not choice.trainable:
        raise InputError(
            f"This model comes from another program; its file is {choice.path}."
        )
    return choice.path


def write_onnx(workspace: Workspace, path: Path) -> Callable[[], Path]:
    """Return what writes the model as ONNX."""
    file = model_file(workspace)

    def write() -> Path:
        # Late, as torch is met beside the main thread.
        from napari_seg.models.checkpoint import load_model
        from napari_seg.zoo.export import export_onnx

        return export_onnx(load_model(file), path)

    return write


def write_torchscript(workspace: Workspace, path: Path) -> Callable[[], Path]:
    """Return what writes the model as TorchScript."""
    file = model_file(workspace)

    def write() -> Path:
        from napari_seg.models.checkpoint import load_model
        from napari_seg.zoo.export import export_torchscript

        return export_torchscript(load_model(file), path)

    return write


def write_package(
    workspace: Workspace, path: Path, signature: Signature | None
) -> Callable[[], Path]:
    """Return what writes the model as a package of the BioImage Model Zoo.

    The middle of the image that is worked on becomes its test image and cover.
    """
    file, session = model_file(workspace), workspace.session
    if session is None or workspace.misfit:
        raise InputError(
            "A package shows what the model does: open an image that it can predict. "
            + workspace.misfit
        )
    if signature is None or not signature.authors:
        raise InputError("A package names its author: give a name.")
    reading, source = session.reading, session.source
    index = tuple(n // 2 for n in reading.leading_shape)
    height, width = (
        slice(max(0, (n - _EXAMPLE) // 2), (n + _EXAMPLE) // 2)
        for n in reading.plane_shape
    )

    def write() -> Path:
        from napari_seg.models.checkpoint import load_model
        from napari_seg.zoo.package import export_bioimage

        return export_bioimage(
            load_model(file),
            path,
            example=reading.plane(as_array(source.data), index, (height, width)),
            axes="CYX",
            authors=signature.authors,
            license=signature.license,
        )

    return write
