"""Tensors of a package: their axes and sizes, in specification 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Form", "Side", "Unfit", "input_form", "output_form"]

#: Axes of one letter, as in specification 0.4, for the names of 0.5.
_LETTERS = {"batch": "b", "channel": "c", "y": "y", "x": "x"}
_KNOWN = frozenset("bcyx")
_MICROMETRE = "micrometer"


class Unfit(Exception):
    """What of a package does not fit; the message is the middle of a sentence."""


@dataclass(frozen=True)
class Side:
    """Which lengths an axis may have: `least` plus multiples of `step`."""

    least: int
    step: int


@dataclass(frozen=True)
class Form:
    """How a tensor is laid out.

    Attributes
    ----------
    axes : str
        Of ``b``, ``c``, ``y``, ``x``, in its order; ``b`` and ``c`` may lack.
    channels : int
        1 where there is no axis of channels.
    names : tuple of str
        Of the channels; empty where nobody says.
    sides : tuple of Side
        Of y and x; empty for an output, whose sides are those of the input.
    halo : int
        What is to be cut from each side of an output.
    pixel_size : float or None
        In micrometres.
    """

    axes: str
    channels: int
    names: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()
    halo: int = 0
    pixel_size: float | None = None


def input_form(tensor: Mapping[str, Any]) -> Form:
    """Return the form of an input.

    Raises
    ------
    Unfit
        If it is no single image of two dimensions.
    """
    if isinstance(tensor["axes"], str):
        return _old_input(tensor)
    axes = _new_axes(tensor)
    spaces = {axis.get("id"): axis for axis in tensor["axes"]}
    names = _channel_names(tensor)
    sides = tuple(_side(spaces[axis]["size"], spaces) for axis in "yx")
    scales = {
        spaces[axis].get("scale", 1.0)
        for axis in "yx"
        if spaces[axis].get("unit") == _MICROMETRE
    }
    pixel = float(scales.pop()) if len(scales) == 1 else None
    return Form(axes, len(names) or 1, names, sides, pixel_size=pixel)


def output_form(tensor: Mapping[str, Any], given: Mapping[str, Any]) -> Form:
    """Return the form of an output; `given` is the input.

    Raises
    ------
    Unfit
        If it is no image of the size of the input.
    """
    if isinstance(tensor["axes"], str):
        return _old_output(tensor, input_form(given))
    axes = _new_axes(tensor)
    spaces = {axis.get("id"): axis for axis in tensor["axes"]}
    inputs = {axis.get("id"): axis for axis in given["axes"]}
    for axis in "yx":
        size = spaces[axis].get("size")
        refers = isinstance(size, Mapping) and "axis_id" in size
        same_scale = spaces[axis].get("scale", 1.0) == inputs[axis].get("scale", 1.0)
        if (
            not refers
            or size["axis_id"] != axis
            or size.get("offset")
            or not same_scale
        ):
            raise Unfit("gives an output of another size than its input")
    names = _channel_names(tensor)
    halo = max(int(spaces[axis].get("halo", 0)) for axis in "yx")
    return Form(axes, len(names) or 1, names, halo=halo)


def _new_axes(tensor: Mapping[str, Any]) -> str:
    letters = []
    for axis in tensor["axes"]:
        kind = axis.get("type")
        name = axis.get("id") if kind == "space" else kind
        if name not in _LETTERS:
            raise Unfit(f"has an axis {axis.get('id', kind)!r}")
        letters.append(_LETTERS[name])
    return _checked("".join(letters))


def _checked(axes: str) -> str:
    odd = set(axes) - _KNOWN
    if odd:
        raise Unfit(f"has an axis {min(odd)!r}")
    if not {"y", "x"} <= set(axes) or len(set(axes)) < len(axes):
        raise Unfit(f"has the axes {axes!r}")
    return axes


def _channel_names(tensor: Mapping[str, Any]) -> tuple[str, ...]:
    for axis in tensor["axes"]:
        if axis.get("type") == "channel":
            names = axis.get("channel_names", ())
            if isinstance(names, str):
                names = [names.format(i=i + 1) for i in range(int(axis["size"]))]
            return tuple(str(name) for name in names)
    return ()


def _side(size: Any, axes: Mapping[str, Any]) -> Side:
    if isinstance(size, Mapping) and size.get("axis_id", "") in axes:
        # As long as another axis.
        if size.get("offset"):
            raise Unfit("takes images of certain proportions only")
        size = axes[size["axis_id"]]["size"]
    if isinstance(size, Mapping) and int(size.get("step", 0)) > 0:
        return Side(int(size["min"]), int(size["step"]))
    raise Unfit("takes images of one size only")


def _old_input(tensor: Mapping[str, Any]) -> Form:
    axes, shape = _checked(tensor["axes"]), tensor["shape"]
    if isinstance(shape, Sequence):
        raise Unfit("takes images of one size only")
    least, step = shape["min"], shape["step"]
    places = [axes.index(axis) for axis in "yx"]
    if not all(step[place] > 0 for place in places):
        raise Unfit("takes images of one size only")
    channels = int(least[axes.index("c")]) if "c" in axes else 1
    sides = tuple(Side(int(least[place]), int(step[place])) for place in places)
    return Form(axes, channels, (), sides)


def _old_output(tensor: Mapping[str, Any], given: Form) -> Form:
    axes, shape = _checked(tensor["axes"]), tensor["shape"]
    places = [axes.index(axis) for axis in "yx"]
    if isinstance(shape, Sequence):
        raise Unfit("gives an output of another size than its input")
    scale, offset = shape["scale"], shape["offset"]
    if any(scale[place] != 1 or offset[place] != 0 for place in places):
        raise Unfit("gives an output of another size than its input")
    channels = 1
    if "c" in axes:
        place = axes.index("c")
        # The offset is that at either end.
        channels = round((scale[place] or 0) * given.channels + 2 * offset[place])
    halo = tensor.get("halo") or [0] * len(axes)
    return Form(axes, channels, halo=max(int(halo[place]) for place in places))
