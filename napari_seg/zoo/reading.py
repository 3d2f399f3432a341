"""The description of a package: what it wants, and whether that can be had here."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError, ModelFileError
from napari_seg.models.catalog import PACKAGE_ARCH
from napari_seg.models.spec import MIN_SIDE, ModelSpec
from napari_seg.zoo.answers import Answer, answer_of
from napari_seg.zoo.archive import Files
from napari_seg.zoo.extra import need
from napari_seg.zoo.forms import Form, Side, Unfit, input_form, output_form
from napari_seg.zoo.steps import Step, preparation

__all__ = [
    "KEY",
    "Description",
    "as_form",
    "planes",
    "read_description",
    "read_graph",
]

#: Under which packages that were made here hold the model's own description.
KEY = "napari_seg"
#: Largest description, test output and graph, in bytes. No ONNX file has more.
_TEXT, _ARRAY, _GRAPH = 1 << 20, 1 << 30, 2 << 30
#: A text of 1 MB could otherwise stand for gigabytes, since YAML has references.
_MOST_VALUES = 50_000
#: Context of a tile where nobody says how much is needed, in pixels.
_HALO = 64


@dataclass(frozen=True)
class Description:
    """A package that can be used.

    Attributes
    ----------
    spec : ModelSpec
        For the rest of the program.
    given, returned : Form
        Of input and output.
    steps : tuple of Step
        What is done to a scaled image.
    answer : Answer
        What the output means.
    source, sha256 : str
        The ONNX file, and what its content is known by; the latter may be empty.
    """

    spec: ModelSpec
    given: Form
    returned: Form
    steps: tuple[Step, ...]
    answer: Answer
    source: str
    sha256: str

    @property
    def stride(self) -> int:
        """Pixels by which the sides of an image may grow."""
        return lcm(*(side.step for side in self.given.sides))

    @property
    def halo(self) -> int:
        """Context of a tile in pixels, a multiple of the stride."""
        return -(-(self.returned.halo or _HALO) // self.stride) * self.stride


def read_description(files: Files) -> Description:
    """Read a package's description, and refuse what cannot be used.

    Raises
    ------
    ModelFileError
        If so; the message says why.
    """
    name = files.path.name
    told = _parsed(files)
    try:
        return _described(files, told)
    except Unfit as error:
        raise ModelFileError(
            f"{name} {error}. napari-seg can use packages with one two-dimensional "
            "image in, of any size, and the classes of its pixels out, with ONNX "
            "weights."
        ) from error
    except InputError as error:
        raise ModelFileError(f"{name} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelFileError(
            f"The description in {name} is not what the specification of the BioImage "
            f"Model Zoo asks for ({type(error).__name__}: {error}); `bioimageio test "
            f"{name}` says more."
        ) from error


def read_graph(files: Files, description: Description) -> bytes:
    """Return the network of a package, as ONNX.

    Raises
    ------
    ModelFileError
        If it is missing or not the one that was published.
    """
    graph = files.read(description.source, _GRAPH)
    found = hashlib.sha256(graph).hexdigest()
    if description.sha256 and found != description.sha256.lower():
        raise ModelFileError(
            f"{description.source} in {files.path.name} is not what its description "
            "says (another SHA-256); the package is damaged or was changed. Get it "
            "again."
        )
    return graph


def _parsed(files: Files) -> Mapping[str, Any]:
    need("Opening a package of the BioImage Model Zoo", "yaml")
    # Imported late: few need it.
    import yaml

    text = files.read(files.description, _TEXT)
    try:
        told = yaml.safe_load(text)
        _check_amount(told)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, Unfit) as error:
        reason = str(error).splitlines()[0] if str(error) else "it has no end"
        raise ModelFileError(
            f"{files.description} in {files.path.name} cannot be read ({reason}); the "
            "package is damaged. Get it again."
        ) from error
    if not isinstance(told, Mapping) or told.get("type", "model") != "model":
        raise ModelFileError(
            f"{files.path.name} holds no model, but something else of the BioImage "
            "Model Zoo. Choose the package of a model."
        )
    version = str(told.get("format_version", ""))
    if not version.startswith(("0.4.", "0.5.")):
        raise ModelFileError(
            f"{files.path.name} keeps to specification {version or 'unknown'}; "
            "napari-seg knows 0.4 and 0.5. bioimageio.spec can update older packages."
        )
    return told


def _check_amount(told: Any) -> None:
    """Raise Unfit where references make more of a text than it is."""
    waiting, seen = [told], 0
    while waiting:
        each = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise Unfit("it has too many values")
        if isinstance(each, Mapping):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _described(files: Files, told: Mapping[str, Any]) -> Description:
    source, sha256 = _graph_of(files, told["weights"])
    inputs, outputs = told["inputs"], told["outputs"]
    if len(inputs) != 1 or len(outputs) != 1:
        raise Unfit(f"has {len(inputs)} inputs and {len(outputs)} outputs")
    given = input_form(inputs[0])
    returned = output_form(outputs[0], inputs[0])
    own = _own_spec(told, given, returned)
    if own is not None:
        answer = Answer(own.classes, tuple(range(own.n_classes)), False, False)
        # What others have to keep to, so that they can cut off the halo, is more.
        sides = tuple(
            Side(-(-MIN_SIDE // s.step) * s.step, s.step) for s in given.sides
        )
        given = replace(given, sides=sides)
        return Description(own, given, returned, (), answer, source, sha256)
    normalization, steps = preparation(inputs[0], given.channels)
    tags = [str(tag) for tag in told.get("tags") or ()]
    example = _example(files, told, outputs[0], returned)
    answer = answer_of(outputs[0], returned, tags, example)
    spec = ModelSpec(
        arch=PACKAGE_ARCH,
        encoder=None,
        in_channels=given.channels,
        classes=answer.classes,
        name=str(told.get("name") or files.path.stem),
        pixel_size=given.pixel_size,
        normalization=normalization,
    )
    return Description(spec, given, returned, steps, answer, source, sha256)


def _graph_of(files: Files, weights: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and SHA-256 of the ONNX file.

    Nothing else is opened: a state dict of PyTorch and a Keras file run code of their
    own when they are opened or built; TorchScript holds a pickle too, and its code can
    read and write files.
    """
    chosen = weights.get("onnx")
    if chosen is None:
        raise ModelFileError(
            f"{files.path.name} has no ONNX weights, only {', '.join(weights)}: these "
            "are or hold pickles, or need another framework, and napari-seg opens "
            "none that could run code. In a program that you trust the package with, "
            "add ONNX weights: `bioimageio add-weights`."
        )
    if chosen.get("external_data"):
        raise Unfit("keeps weights outside of its ONNX file")
    return str(chosen["source"]).removeprefix("./"), str(chosen.get("sha256") or "")


def _own_spec(told: Mapping[str, Any], given: Form, returned: Form) -> ModelSpec | None:
    """Return the description that napari-seg has put into a package, if any."""
    own = (told.get("config") or {}).get(KEY)
    if not own:
        return None
    spec = ModelSpec.from_dict(own["spec"])
    if (spec.in_channels, spec.n_classes) != (given.channels, returned.channels):
        raise Unfit("has other channels than napari-seg has written into it")
    return replace(
        spec, arch=PACKAGE_ARCH, encoder=None, auxiliary_head=False, output_stride=None
    )


def _example(
    files: Files, told: Mapping[str, Any], output: Mapping[str, Any], form: Form
) -> NDArray[Any] | None:
    """Return the test output as (C, Y, X), or None if there is none."""
    test: Any = output.get("test_tensor")
    name = test.get("source") if isinstance(test, Mapping) else test
    if name is None:
        name = next(iter(told.get("test_outputs") or ()), None)
    if name is None:
        return None
    content = io.BytesIO(files.read(str(name).removeprefix("./"), _ARRAY))
    array: NDArray[Any] = np.load(content, allow_pickle=False)
    first: NDArray[Any] = planes(array, form)[0]
    return first


def planes(array: NDArray[Any], form: Form) -> NDArray[Any]:
    """Return an array of some form as (N, C, Y, X)."""
    missing = [axis for axis in "bc" if axis not in form.axes]
    axes = "".join(missing) + form.axes
    full = array[(np.newaxis,) * len(missing)]
    return full.transpose([axes.index(axis) for axis in "bcyx"])


def as_form(array: NDArray[Any], form: Form) -> NDArray[Any]:
    """Return one image (1, C, Y, X) in the layout of a form."""
    axes = "bcyx"
    for axis in "bc":
        if axis not in form.axes:
            array, axes = array.take(0, axes.index(axis)), axes.replace(axis, "")
    return array.transpose([axes.index(axis) for axis in form.axes])
