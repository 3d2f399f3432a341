"""A model as a package of the BioImage Model Zoo."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.errors import ImageError, InputError
from napari_seg.inference.axes import as_array, read_axes
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.models.base import SegmentationModel
from napari_seg.zoo.described import (
    Sizes,
    check_expressible,
    input_tensor,
    output_tensor,
    plain_name,
)
from napari_seg.zoo.export import (
    KEY,
    OPSET,
    export_onnx,
    export_torchscript,
    shared_spec,
    whole_file,
)
from napari_seg.zoo.extra import need
from napari_seg.zoo.leaflet import cover, readme

__all__ = ["POSTPROCESSING", "export_bioimage"]

#: What may be asked for after the network.
POSTPROCESSING = ("softmax", "none")
#: Largest side of the test images, unless the network needs larger ones.
_TEST_SIDE = 256


def export_bioimage(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    example: Any,
    authors: Sequence[str | Mapping[str, str]],
    license: str,
    description: str = "",
    name: str = "",
    documentation: str = "",
    cite: Sequence[Mapping[str, str]] = (),
    tags: Sequence[str] = (),
    axes: str | None = None,
    postprocessing: str = "softmax",
) -> Path:
    """Write a package of the BioImage Model Zoo, specification 0.5.

    It holds the weights as ONNX and as TorchScript, a test image with what the model
    makes of it, a cover and a README. bioimageio.core and the programs that are built
    on it predict with it what napari-seg does: percentiles of each channel, bounds,
    mean and standard deviation are described as steps before the network. Three things
    the specification cannot say stand in the README: that a gray image is repeated
    over the channels of an RGB model, that 8-bit images are treated in another way by a
    model with ``full_range``, and what becomes of a channel whose percentiles coincide.

    Parameters
    ----------
    model : SegmentationModel
        Any device, any mode; left as it is.
    path : path-like
        ``.zip`` is added where there is no suffix.
    example : array
        One plane, (Y, X) or (Y, X, C) or as `axes` says. Its middle becomes the test
        image, of 256 pixels or what the network needs at least; what is smaller is
        mirrored.
    authors : sequence of (str or mapping)
        Names, or mappings with ``name``, ``affiliation``, ``orcid``, ``email``.
    license : str
        An SPDX identifier, such as ``CC-BY-4.0`` or ``BSD-3-Clause``.
    description : str
        A sentence; by default the network and its classes.
    name : str
        By default that of the model; characters other than ASCII letters, digits,
        ``_+-()`` and space become ``-``.
    documentation : str
        Markdown that is put into the README: data, training, limits.
    cite : sequence of mapping
        Each with ``text`` and ``doi`` or ``url``.
    tags : sequence of str
        Beside those of task and network.
    axes : str or None
        As in :func:`napari_seg.predict`.
    postprocessing : str
        ``softmax`` gives probabilities, at the model's temperature; ``none`` logits.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the extra ``zoo`` is not installed, something is lacking or not known to the
        specification, or a network of the user's own cannot be traced.
    NotTrainableError
        If the model is a graph of another program.
    ImageError, ChannelError
        If the example does not fit the model, or is no single plane.
    StorageError
        If the file cannot be written.
    """
    need("A package of the BioImage Model Zoo", "bioimageio.core", "onnx")
    model.check_trainable()
    check_expressible(model.spec)
    if not authors or not license:
        raise InputError(
            "A package of the BioImage Model Zoo needs at least one author and a "
            "licence, such as CC-BY-4.0."
        )
    if postprocessing not in POSTPROCESSING:
        raise InputError(
            f"postprocessing is {postprocessing!r}; it can be "
            f"{' or '.join(POSTPROCESSING)}."
        )
    softmax, sizes = postprocessing == "softmax", Sizes.of(model)
    plane = _test_plane(model, example, axes, sizes)
    logits = _logits(model, plane)
    answer = (logits / model.spec.temperature).softmax(1) if softmax else logits
    told = {
        "format_version": "0.5.12",
        "type": "model",
        "name": plain_name(name or model.spec.name),
        "description": description or _sentence(model),
        "authors": [{"name": a} if isinstance(a, str) else dict(a) for a in authors],
        "cite": [dict(each) for each in cite],
        "license": license,
        "tags": ["semantic-segmentation", "napari-seg", model.spec.arch, *tags],
        "documentation": {"source": "README.md"},
        "covers": [{"source": "cover.png"}],
        "inputs": [input_tensor(model.spec, sizes, plane.dtype, "test_input.npy")],
        "outputs": [output_tensor(model.spec, sizes, softmax, "test_output.npy")],
        "weights": {
            "torchscript": {
                "source": "weights.pt",
                "pytorch_version": torch.__version__.partition("+")[0],
            },
            "onnx": {
                "source": "weights.onnx",
                "opset_version": OPSET,
                "parent": "torchscript",
            },
        },
        "config": {
            KEY: {
                "version": version("napari-seg"),
                "spec": _plain(shared_spec(model.spec)),
            }
        },
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        export_torchscript(model, folder / "weights.pt")
        export_onnx(model, folder / "weights.onnx")
        np.save(folder / "test_input.npy", plane[np.newaxis])
        np.save(folder / "test_output.npy", answer.numpy())
        cover(plane, logits[0].argmax(0).numpy()).save(folder / "cover.png")
        text = readme(model, sizes, plane.dtype, documentation)
        (folder / "README.md").write_text(text, encoding="utf-8")
        return whole_file(path, ".zip", lambda file: _pack(told, folder, Path(file)))


def _test_plane(
    model: SegmentationModel, example: Any, axes: str | None, sizes: Sizes
) -> NDArray[Any]:
    """Return the middle of the example, (C, Y, X), in a size that all programs take."""
    image = as_array(example)
    reading = read_axes(image.shape, image.dtype, model.spec, axes)
    if reading.leading:
        raise ImageError(
            f"The example has shape {image.shape}; give a single plane of it."
        )
    plane = np.asarray(reading.plane(image))
    if len(plane) == 1:
        plane = np.repeat(plane, model.spec.in_channels, axis=0)
    most = max(sizes.least, _TEST_SIDE // sizes.step * sizes.step)
    for axis in (1, 2):
        plane = _cut(plane, axis, sizes, most)
    return np.ascontiguousarray(plane)


def _cut(plane: NDArray[Any], axis: int, sizes: Sizes, most: int) -> NDArray[Any]:
    length = plane.shape[axis]
    if length < sizes.least:
        width = [(0, 0)] * plane.ndim
        width[axis] = (0, sizes.least - length)
        return np.pad(plane, width, mode="symmetric")
    side = min(most, length // sizes.step * sizes.step)
    start = (length - side) // 2
    return plane.take(range(start, start + side), axis=axis)


@torch.no_grad()
def _logits(model: SegmentationModel, plane: NDArray[Any]) -> torch.Tensor:
    """Return what a prediction with napari-seg would compute, (1, K, H, W)."""
    spec = model.spec
    reading = read_axes(plane.shape, plane.dtype, spec, "CYX")
    scaled = normalize(
        plane,
        channel_ranges(plane, reading, spec.normalization),
        spec.normalization.clip,
    )
    training, device = model.training, next(model.parameters()).device
    try:
        x = torch.from_numpy(scaled)[None].to(device)
        logits: torch.Tensor = model.eval()(model.standardize(x))
    finally:
        model.train(training)
    return logits.float().cpu()


def _sentence(model: SegmentationModel) -> str:
    classes = ", ".join(model.spec.classes)
    return f"Semantic segmentation ({model.spec.label}) into {classes}."[:1024]


def _plain(value: Any) -> Any:
    """Return a value in what YAML has."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return (
        [_plain(each) for each in value] if isinstance(value, tuple | list) else value
    )


def _pack(told: dict[str, Any], folder: Path, target: Path) -> None:
    """Check a description against the specification, and write the package."""
    # Imported late: it takes seconds, and few have it.
    import bioimageio.spec as zoo

    context = zoo.ValidationContext(
        root=folder, file_name="rdf.yaml", log_warnings=False
    )
    with warnings.catch_warnings(), context:
        # Advice of the specification is for its own pages.
        warnings.simplefilter("ignore")
        described = zoo.build_description(told, context=context)
        if isinstance(described, zoo.InvalidDescr):
            if "index_key" in _reasons(described):
                raise InputError(_misfit())
            raise InputError(
                "The package would not keep to the specification of the BioImage Model "
                f"Zoo: {_reasons(described)}"
            )
        # Written as a zip, it is opened for a last check and left open.
        done = folder / "package"
        zoo.save_bioimageio_package_as_folder(described, output_path=done)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(done.iterdir()):
            archive.write(file, file.name)


def _misfit() -> str:
    """Return what is wrong where bioimageio.spec cannot even read itself."""
    return (
        f"bioimageio.spec {version('bioimageio.spec')} does not work with pydantic "
        f"{version('pydantic')}: pip install 'pydantic<2.14'."
    )


def _reasons(invalid: Any) -> str:
    errors = [
        f"{'.'.join(map(str, error.loc))}: {error.msg}"
        for detail in invalid.validation_summary.details
        for error in detail.errors
    ]
    return "; ".join(errors)
