"""A model in the words of the BioImage Model Zoo (specification 0.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_seg.errors import InputError
from napari_seg.models.base import MIN_SIDE, SegmentationModel
from napari_seg.models.spec import ModelSpec
from napari_seg.zoo.export import INPUT, OUTPUT

__all__ = ["Sizes", "check_expressible", "input_tensor", "output_tensor", "plain_name"]

#: What bioimageio.core adds to a range before it divides by it; it knows no other.
_EPS = 1e-6
#: Characters of a name that the specification does not know, and its length.
_OTHER, _SHORTEST, _LONGEST = re.compile(r"[^A-Za-z0-9_+\- ()]"), 5, 64


@dataclass(frozen=True)
class Sizes:
    """Sides of an image that others may give to the network, in pixels.

    Attributes
    ----------
    least, step : int
        Sides are `least` plus multiples of `step`, the stride.
    halo : int
        What is to be cut from each side of a tile.
    """

    least: int
    step: int
    halo: int

    @classmethod
    def of(cls, model: SegmentationModel) -> Sizes:
        """Return those of a model; without its halo something of a tile is left."""
        least = max(MIN_SIDE, 2 * model.halo + 1)
        step = model.stride
        return cls(-(-least // step) * step, step, model.halo)


def check_expressible(spec: ModelSpec) -> None:
    """Check that the specification has words for how a model sees an image.

    Raises
    ------
    InputError
        If it has none.
    """
    scale = spec.normalization
    if spec.ndim == 3:
        raise InputError(
            f"{spec.name} sees volumes, and packages of planes are written here; "
            "export ONNX or TorchScript instead."
        )
    if spec.slices > 1:
        raise InputError(
            f"{spec.name} sees {spec.slices} neighbouring slices at a time, for which "
            "the BioImage Model Zoo has no words; export ONNX or TorchScript instead."
        )
    if scale.high <= 1 or scale.low >= 100:
        raise InputError(
            f"The percentiles {scale.low:g} and {scale.high:g} are none that the "
            "BioImage Model Zoo knows; export ONNX or TorchScript instead."
        )


def plain_name(name: str) -> str:
    """Return a name in the characters that the specification knows."""
    plain = _OTHER.sub("-", name)[:_LONGEST]
    return plain if len(plain) >= _SHORTEST else f"napari-seg {plain}".strip()


def input_tensor(
    spec: ModelSpec, sizes: Sizes, dtype: np.dtype[Any], test_file: str
) -> dict[str, Any]:
    """Return the description of the input.

    Parameters
    ----------
    spec : ModelSpec
        Of the model.
    sizes : Sizes
        What it takes.
    dtype : dtype
        Of the example.
    test_file : str
        Name of its file in the package.
    """
    names = [f"channel {i}" for i in range(spec.in_channels)]
    if spec.gray_as_rgb:
        names = ["red", "green", "blue"]
    size = {"min": sizes.least, "step": sizes.step}
    return {
        "id": INPUT,
        "description": "Gray images: repeat the one channel in all three."
        if spec.gray_as_rgb
        else "",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({**_space(axis, spec), "size": size} for axis in "yx"),
        ],
        "data": {"type": dtype.name},
        "test_tensor": {"source": test_file},
        "preprocessing": _preprocessing(spec, dtype),
    }


def output_tensor(
    spec: ModelSpec, sizes: Sizes, softmax: bool, test_file: str
) -> dict[str, Any]:
    """Return the description of the output: logits, or probabilities by softmax."""
    halo = {"halo": sizes.halo} if sizes.halo else {}
    steps: list[dict[str, Any]] = []
    if softmax:
        if spec.temperature != 1:
            steps.append(_step("scale_linear", gain=1 / spec.temperature))
        steps.append(_step("softmax", axis="channel"))
    return {
        "id": "probabilities" if softmax else OUTPUT,
        "description": "Of each class, in the order of the channels."
        if softmax
        else "The largest is the class; softmax gives probabilities.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(spec.classes)},
            *(
                {
                    **_space(axis, spec),
                    "size": {"tensor_id": INPUT, "axis_id": axis},
                    **halo,
                }
                for axis in "yx"
            ),
        ],
        "data": {"type": "float32", **({"range": [0.0, 1.0]} if softmax else {})},
        "test_tensor": {"source": test_file},
        "postprocessing": steps,
    }


def _space(axis: str, spec: ModelSpec) -> dict[str, Any]:
    known = {"scale": spec.pixel_size, "unit": "micrometer"} if spec.pixel_size else {}
    return {"type": "space", "id": axis, **known}


def _preprocessing(spec: ModelSpec, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """Return what :mod:`napari_seg.inference.normalization` does, step by step.

    An 8-bit image is divided by 255 for a network that was trained on photographs,
    other ones are scaled by their percentiles: the steps are those of the example.
    """
    scale = spec.normalization
    # float32 holds 16-bit integers exactly; see normalize().
    small = dtype.kind in "bui" and dtype.itemsize <= 2
    steps = [_step("ensure_dtype", dtype="float32" if small else "float64")]
    if scale.full_range and dtype == np.uint8:
        steps.append(_step("scale_linear", gain=1 / 255))
    elif dtype.kind != "b":
        steps.append(
            _step(
                "scale_range",
                min_percentile=scale.low,
                max_percentile=scale.high,
                axes=["y", "x"],
                eps=_EPS,
            )
        )
    if scale.clip is not None:
        low, high = scale.clip
        steps.append(_step("clip", min=low, max=high))
    if scale.mean is not None and scale.std is not None:
        steps.append(_standardizing(list(scale.mean), list(scale.std)))
    return [*steps, _step("ensure_dtype", dtype="float32")]


def _standardizing(mean: list[float], std: list[float]) -> dict[str, Any]:
    if len(mean) == 1:
        return _step("fixed_zero_mean_unit_variance", mean=mean[0], std=std[0])
    return _step("fixed_zero_mean_unit_variance", mean=mean, std=std, axis="channel")


def _step(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "kwargs": values}
