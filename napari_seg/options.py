"""Options as data: range, default and tooltip of a setting live in one place.

A configuration is a frozen dataclass whose fields are declared with
:func:`option`.  The same declaration checks the value (:class:`Options`), fills the
form in the dock (``_qt/forms.py``, through magicgui) and writes the command line's
help.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from napari_seg.errors import InputError

__all__ = ["Option", "Options", "as_arguments", "describe", "option", "rebased"]

_KEY = "napari_seg.option"

_Given = TypeVar("_Given", bound="Options")


@dataclass(frozen=True)
class Option:
    """What a person needs to know to set a value.

    Attributes
    ----------
    label : str
        Name in forms, in sentence case.
    tooltip : str
        What the setting does, in the user's words.
    minimum, maximum : float or None
        Inclusive bounds; None leaves the side open.
    step : float or None
        Step of the spin box.
    choices : tuple or None
        Allowed values, where the setting is a choice.
    unit : str
        Unit, shown behind the number.
    """

    label: str
    tooltip: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    unit: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise :class:`~napari_seg.errors.InputError` unless `value` is allowed."""
        if value is None:
            return
        if self.choices is not None:
            if value not in self.choices:
                allowed = ", ".join(str(choice) for choice in self.choices)
                raise InputError(f"{name} is {value!r}; it can be one of {allowed}.")
            return
        low, high = self.minimum, self.maximum
        # "not (low <= value)" also refuses NaN.
        if (low is not None and not low <= value) or (
            high is not None and not value <= high
        ):
            span = f"from {low:g}" if high is None else f"{low:g} to {high:g}"
            unit = f" {self.unit}" if self.unit else ""
            raise InputError(f"{name} is {value!r}; it can be {span}{unit}.")


def option(
    default: Any,
    label: str,
    tooltip: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: tuple[Any, ...] | None = None,
    unit: str = "",
) -> Any:
    """Declare a dataclass field that carries its own range, label and tooltip."""
    described = Option(label, tooltip, minimum, maximum, step, choices, unit)
    return field(default=default, metadata={_KEY: described})


def describe(options: type[Options] | Options) -> dict[str, Option]:
    """Return the :class:`Option` of each field declared with :func:`option`."""
    return {f.name: f.metadata[_KEY] for f in fields(options) if _KEY in f.metadata}


@dataclass(frozen=True)
class Options:
    """Base of the configuration dataclasses: checks every declared range."""

    def __post_init__(self) -> None:
        for name, described in describe(self).items():
            described.check(name, getattr(self, name))


def as_arguments(options: Options, defaults: Options, prefix: str = "") -> list[str]:
    """Return the command line's arguments for what differs from the defaults.

    ``learning_rate=0.01`` becomes ``--learning-rate 0.01``, a bool ``--name`` or
    ``--no-name``.

    Parameters
    ----------
    options, defaults : Options
        Two of the same kind.
    prefix : str
        Set before each name.
    """
    arguments: list[str] = []
    for name in describe(options):
        value = getattr(options, name)
        if value == getattr(defaults, name) or value is None:
            continue
        flag = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


def rebased(options: _Given, before: _Given, now: _Given) -> _Given:
    """Return other defaults, with what somebody has changed of the earlier ones.

    Parameters
    ----------
    options, before, now : Options
        As they stand, the defaults that they were made from, and those of now: three
        of the same kind.
    """
    changed = {}
    for name in (each.name for each in fields(options)):
        mine, theirs = getattr(options, name), getattr(before, name)
        if isinstance(mine, Options):
            changed[name] = rebased(mine, theirs, getattr(now, name))
        elif mine != theirs:
            changed[name] = mine
    return replace(now, **changed)
