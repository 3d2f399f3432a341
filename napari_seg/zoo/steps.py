"""What a package does to an image before the network, and to its answer after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from napari_seg.models.spec import Normalization
from napari_seg.zoo.forms import Unfit

__all__ = ["Affine", "Binarize", "Clip", "Step", "preparation", "steps_of"]

_EPS = 1e-6


@dataclass(frozen=True)
class Affine:
    """``x * gain + offset``, with one value for all channels or one for each."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) after this step."""
        return x * _by_channel(self.gain, x) + _by_channel(self.offset, x)


@dataclass(frozen=True)
class Clip:
    """Values below `low` become `low`, those above `high` become `high`."""

    low: float | None
    high: float | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) after this step."""
        return x.clamp(self.low, self.high)


@dataclass(frozen=True)
class Binarize:
    """1 above the threshold, else 0."""

    threshold: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) after this step."""
        return (x > _by_channel(self.threshold, x)).to(x.dtype)


@dataclass(frozen=True)
class Named:
    """A step of an answer that has no values: ``sigmoid`` or ``softmax``."""

    name: str


@dataclass(frozen=True)
class Statistic:
    """A step that depends on the whole image."""

    normalization: Normalization


Step = Affine | Clip | Binarize
_AnyStep = Step | Named | Statistic


def _by_channel(values: tuple[float, ...], x: Tensor) -> Tensor:
    return torch.tensor(values, dtype=x.dtype, device=x.device)[:, None, None]


def preparation(
    tensor: Mapping[str, Any], channels: int
) -> tuple[Normalization, tuple[Step, ...]]:
    """Return how an input is scaled, and the steps after that.

    Parameters
    ----------
    tensor : mapping
        The input's description.
    channels : int
        How many it has.

    Raises
    ------
    Unfit
        If it is prepared in a way that is not known here.
    """
    found = steps_of(tensor.get("preprocessing") or (), str(tensor.get("axes")))
    places = [i for i, step in enumerate(found) if isinstance(step, Statistic)]
    if len(places) > 1:
        raise Unfit("scales an image by its own values more than once")
    if not places:
        return _fixed(found)
    before, statistic, after = (
        found[: places[0]],
        found[places[0]],
        found[places[0] + 1 :],
    )
    assert isinstance(statistic, Statistic)
    scale = statistic.normalization
    for step in before:
        # Whatever is scaled by its own values after that is the same, but for eps.
        if not (isinstance(step, Affine) and len(step.gain) == 1 and step.gain[0] > 0):
            raise Unfit("changes an image before it is scaled by its own values")
        scale = replace(scale, margin=scale.margin / step.gain[0])
    return scale, _plain(after)


def _fixed(found: list[_AnyStep]) -> tuple[Normalization, tuple[Step, ...]]:
    """Return the preparation of images that are all scaled alike."""
    zero, one = 0.0, 1.0
    first = found[0] if found else None
    if isinstance(first, Affine) and len(first.gain) == len(first.offset) == 1:
        gain, offset = first.gain[0], first.offset[0]
        if gain > 0:
            zero, one = -offset / gain, (1 - offset) / gain
            found = found[1:]
    return Normalization(fixed=(zero, one), clip=None), _plain(found)


def _plain(found: Sequence[_AnyStep]) -> tuple[Step, ...]:
    kept = tuple(step for step in found if isinstance(step, Step))
    if len(kept) < len(found):
        raise Unfit("applies sigmoid or softmax to its input")
    return kept


def steps_of(told: Sequence[Mapping[str, Any]], axes: str) -> list[_AnyStep]:
    """Return described steps in their order.

    Parameters
    ----------
    told : sequence of mapping
        Each with ``id`` (in specification 0.4 ``name``) and ``kwargs``.
    axes : str
        Of the tensor in specification 0.4; anything else in 0.5.

    Raises
    ------
    Unfit
        If one is not known here.
    """
    found: list[_AnyStep] = []
    for each in told:
        name, values = each.get("id", each.get("name")), each.get("kwargs") or {}
        if name == "ensure_dtype":
            # Numbers are float32 here anyway; rounding would be another step.
            if not str(values.get("dtype", "")).startswith(("float", "bool")):
                raise Unfit(f"rounds its values to {values.get('dtype')}")
        elif name in _MAKERS:
            found.append(_MAKERS[name](values))
        else:
            raise Unfit(f"needs the step {name!r}")
    return found


def _affine(values: Mapping[str, Any]) -> Affine:
    _check_axis(values)
    return Affine(_tuple(values.get("gain", 1.0)), _tuple(values.get("offset", 0.0)))


def _clip(values: Mapping[str, Any]) -> Clip:
    if "min_percentile" in values or "max_percentile" in values:
        given = (values.get("min_percentile"), values.get("max_percentile"))
        if given != (None, None):
            raise Unfit("clips an image at its own percentiles")
    low, high = (values.get(key) for key in ("min", "max"))
    return Clip(*(None if value is None else float(value) for value in (low, high)))


def _binarize(values: Mapping[str, Any]) -> Binarize:
    _check_axis(values)
    return Binarize(_tuple(values["threshold"]))


def _standardize(values: Mapping[str, Any]) -> Affine:
    _check_axis(values)
    mean, std = _tuple(values["mean"]), _tuple(values["std"])
    deviations = [each + float(values.get("eps", _EPS)) for each in std]
    if len(mean) != len(std) or not all(each > 0 for each in deviations):
        raise Unfit("has a mean and a standard deviation that do not fit together")
    return Affine(
        tuple(1 / each for each in deviations),
        tuple(-m / s for m, s in zip(mean, deviations, strict=True)),
    )


def _moments(values: Mapping[str, Any]) -> _AnyStep:
    if values.get("mode") == "fixed":
        # Specification 0.4 has one name for both.
        return _standardize(values)
    return Statistic(
        Normalization(
            moments=True,
            together=_together(values),
            margin=float(values.get("eps", _EPS)),
            clip=None,
        )
    )


def _percentiles(values: Mapping[str, Any]) -> Statistic:
    # An input that refers to another tensor has a second one; to itself is allowed.
    low, high = values.get("min_percentile", 0.0), values.get("max_percentile", 100.0)
    return Statistic(
        Normalization(
            low=float(low),
            high=float(high),
            together=_together(values),
            margin=float(values.get("eps", _EPS)),
            clip=None,
        )
    )


def _softmax(values: Mapping[str, Any]) -> Named:
    _check_axis(values)
    return Named("softmax")


def _together(values: Mapping[str, Any]) -> bool:
    """Return whether channels share what is found in the image.

    An image here is what others call a sample, so the batch does not matter.
    """
    axes = values.get("axes")
    if axes is None:
        return True
    names = {"y" if a == "y" else "x" if a == "x" else a[0] for a in map(str, axes)}
    if not {"y", "x"} <= names:
        raise Unfit("scales single rows or columns by their own values")
    return "c" in names


def _check_axis(values: Mapping[str, Any]) -> None:
    axis = values.get("axis", "channel")
    if axis not in ("channel", "c", None):
        raise Unfit(f"has values that change along {axis!r}")


def _tuple(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),)


_MAKERS: dict[str, Any] = {
    "scale_linear": _affine,
    "clip": _clip,
    "binarize": _binarize,
    "fixed_zero_mean_unit_variance": _standardize,
    "zero_mean_unit_variance": _moments,
    "scale_range": _percentiles,
    "sigmoid": lambda _: Named("sigmoid"),
    "softmax": _softmax,
}
