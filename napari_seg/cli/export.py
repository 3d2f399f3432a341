"""``napari-seg export``: a model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_seg.cli.arguments import add_json, add_progress, check_writable
from napari_seg.cli.progress import show_fetching
from napari_seg.cli.report import Report
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.models.base import SegmentationModel

__all__ = ["add_arguments", "run"]

#: What each suffix stands for.
_FORMATS = {
    ".onnx": "ONNX",
    ".pt": "TorchScript",
    ".zip": "package of the BioImage Model Zoo",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model file, or name of a bundled or published model",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="the file: .onnx, .pt (TorchScript) or .zip (BioImage Model Zoo)",
    )
    group = parser.add_argument_group("for a .zip")
    group.add_argument(
        "--image", type=Path, help="an image that becomes test image and cover"
    )
    group.add_argument(
        "--axes", metavar="A", help="one letter for each axis of the image, such as YXC"
    )
    group.add_argument(
        "--author",
        action="append",
        default=[],
        metavar="NAME",
        help="may be given more than once",
    )
    group.add_argument("--license", metavar="SPDX", help="such as CC-BY-4.0")
    group.add_argument("--name", default="", help="(default: that of the model)")
    group.add_argument("--description", default="", help="a sentence")
    group.add_argument(
        "--documentation",
        type=Path,
        metavar="FILE",
        help="Markdown for the README: data, training, limits",
    )
    group.add_argument(
        "--postprocessing",
        choices=("softmax", "none"),
        default="softmax",
        help="what comes after the network: softmax gives probabilities, none logits "
        "(default: softmax)",
    )
    add_json(parser)
    add_progress(parser)


def run(given: argparse.Namespace) -> Report:
    """Write the model in the format that the suffix names."""
    from napari_seg.models.checkpoint import load_model

    output = given.output.expanduser()
    if output.suffix not in _FORMATS:
        raise InputError(
            f"{output.name} names no format; give -o a file that ends in "
            f"{', '.join(_FORMATS)}."
        )
    if output.suffix == ".zip":
        _check_package(given)
    check_writable(output.parent)
    with show_fetching(given.progress) as on_progress:
        model = load_model(given.model, on_progress=on_progress)
    path = _written(given, model, output)
    name = _FORMATS[output.suffix]
    return Report(
        f"{path} ({name}, {path.stat().st_size / 1e6:.1f} MB)",
        {"model": given.model, "format": output.suffix[1:], "path": path},
    )


def _check_package(given: argparse.Namespace) -> None:
    if given.image is None or not given.author or not given.license:
        raise InputError(
            "A .zip needs --image FILE, --author NAME and --license SPDX, such as "
            "CC-BY-4.0."
        )


def _written(given: argparse.Namespace, model: SegmentationModel, output: Path) -> Path:
    from napari_seg.zoo.export import export_onnx, export_torchscript

    if output.suffix == ".onnx":
        return export_onnx(model, output)
    if output.suffix == ".pt":
        return export_torchscript(model, output)
    from napari_seg.cli.files import read_picture
    from napari_seg.zoo.package import export_bioimage

    picture = read_picture(given.image)
    return export_bioimage(
        model,
        output,
        example=picture.data,
        axes=given.axes or picture.axes,
        authors=given.author,
        license=given.license,
        name=given.name,
        description=given.description,
        documentation=_text(given.documentation),
        postprocessing=given.postprocessing,
    )


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as text ({error}); give a Markdown file."
        ) from error
