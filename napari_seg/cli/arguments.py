"""Arguments that several commands share, and options made from dataclasses."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from napari_seg.errors import InputError
from napari_seg.options import Option, Options, describe

__all__ = [
    "above_zero",
    "add_budget",
    "add_device",
    "add_json",
    "add_objects",
    "add_options",
    "add_progress",
    "channel_numbers",
    "check_writable",
    "class_names",
    "existing_folder",
    "given_options",
    "nearest_folder",
    "pixel_sizes",
]

_Options = TypeVar("_Options", bound=Options)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on standard output",
    )


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add ``--progress``."""
    parser.add_argument(
        "--progress",
        choices=("auto", "bar", "json", "none"),
        default="auto",
        help="on standard error: a bar (auto: in a terminal) or JSON lines",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="D",
        help="auto, cpu, cuda, cuda:1 or mps (default: auto)",
    )


def add_objects(parser: argparse.ArgumentParser) -> None:
    """Add what a model learns to tell objects apart from."""
    parser.add_argument(
        "--object-head",
        action="store_true",
        help="give the model a second decoder that tells touching objects apart "
        "(unet, deeplabv3plus); one that is there goes on learning",
    )
    parser.add_argument(
        "--objects",
        type=existing_folder,
        metavar="DIR",
        help="folder of object ids, one file for each image, that it learns from "
        "(default: what is connected in the labels, cut at its waists)",
    )


def add_budget(parser: argparse.ArgumentParser, usual: float) -> None:
    """Add ``--minutes`` and ``--steps``, of which one may be given."""
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=_number(float, 0),
        metavar="M",
        help=f"time for training (default: {usual:g})",
    )
    budget.add_argument(
        "--steps", type=_number(int, 0), metavar="N", help="training steps, instead"
    )


def existing_folder(text: str) -> Path:
    """Return the folder of that name; the type of an argument."""
    path = Path(text).expanduser()
    if not path.is_dir():
        what = "is a file" if path.is_file() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text} {what}; give a folder")
    return path


def nearest_folder(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that exists."""
    wanted = folder.expanduser().absolute()
    return next(path for path in (wanted, *wanted.parents) if path.exists())


def check_writable(folder: Path) -> None:
    """Raise InputError unless files can be made in a folder, which need not exist."""
    nearest = nearest_folder(folder)
    if not nearest.is_dir():
        raise InputError(f"{nearest} is a file, not a folder; choose another -o.")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{nearest} may not be written to; choose another -o.")


def channel_numbers(text: str) -> tuple[int, ...]:
    """Return the channels of ``0,2``.

    Raises
    ------
    argparse.ArgumentTypeError
        If these are no whole numbers.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no channels; give their numbers from 0, such as 0,2"
        ) from error


def class_names(text: str) -> tuple[str, ...]:
    """Return the names in ``background,nucleus``; the type of an argument."""
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of classes; give at least two different names, the "
            "background first, such as background,nucleus"
        )
    return names


def pixel_sizes(text: str) -> tuple[float, ...]:
    """Return micrometres, as in ``2,0.65,0.65``; the type of an argument."""
    try:
        sizes = tuple(float(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(0 < size < float("inf") for size in sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pixel size; give a number above 0 such as 0.65, or one "
            "for each axis such as 2,0.65,0.65"
        )
    return sizes


def above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return the type of an argument that is a number above 0."""
    return _number(kind, 0)


def _number(kind: type[int] | type[float], above: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not above < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be above {above:g}")
        return value

    number.__name__ = kind.__name__
    return number


def add_options(
    parser: argparse.ArgumentParser,
    defaults: Options,
    title: str | None = None,
    prefix: str = "",
) -> None:
    """Add an argument for each option of a configuration.

    ``learning_rate`` becomes ``--learning-rate``, and a bool ``--name`` and
    ``--no-name``; ranges and tooltips write the help.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command.
    defaults : Options
        Their values are the defaults.
    title : str, optional
        Heading in the help; by default they stand among the other options.
    prefix : str
        Set before each name.
    """
    group = parser.add_argument_group(title) if title else parser
    kinds = get_type_hints(type(defaults))
    for name, option in describe(defaults).items():
        group.add_argument(
            f"--{prefix}{name}".replace("_", "-"),
            dest=f"{prefix}{name}",
            default=argparse.SUPPRESS,
            help=_help(option, getattr(defaults, name)),
            **_how(option, kinds[name]),
        )


def given_options(
    given: argparse.Namespace, defaults: _Options, prefix: str = ""
) -> _Options:
    """Return `defaults` with the values that were given on the command line."""
    values = {
        field.name: getattr(given, prefix + field.name)
        for field in fields(defaults)
        if hasattr(given, prefix + field.name)
    }
    return replace(defaults, **values)


def _how(option: Option, kind: Any) -> dict[str, Any]:
    """Return how argparse reads an option of that type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if option.choices is not None:
        return {"choices": option.choices}
    return {"type": _checked(option, kind), "metavar": option.unit.upper() or "N"}


def _checked(option: Option, kind: Any) -> Callable[[str], Any]:
    # `int | None` is an int on the command line, where leaving it out is None.
    convert = float if kind is float else int

    def number(text: str) -> Any:
        value = convert(text)
        try:
            option.check(option.label, value)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
        return value

    number.__name__ = convert.__name__
    return number


def _help(option: Option, default: Any) -> str:
    span = ""
    if option.minimum is not None:
        to = f" to {option.maximum:g}" if option.maximum is not None else " or more"
        span = f"{option.minimum:g}{to}; "
    usual = "automatic" if default is None else default
    if isinstance(default, bool):
        usual = "yes" if default else "no"
    return f"{option.tooltip} ({span}default: {usual})".replace("%", "%%")
