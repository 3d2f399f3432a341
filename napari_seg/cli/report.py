"""What a command says: its result on standard output, all else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Report", "complain", "note", "show", "table", "to_json"]


@dataclass(frozen=True)
class Report:
    """The result of a command.

    Attributes
    ----------
    text : str
        For people; may be empty.
    values : mapping or None
        The same for programs, the object that ``--json`` prints; None where another
        process has printed it.
    status : int
        Exit status.
    complaint : str
        What went wrong with a part of the work, for standard error.
    """

    text: str = ""
    values: Mapping[str, Any] | None = None
    status: int = 0
    complaint: str = ""


def show(report: Report, as_json: bool) -> None:
    """Write the result to standard output."""
    if as_json and report.values is not None:
        print(to_json(report.values), flush=True)
    elif not as_json and report.text:
        print(report.text, flush=True)


def complain(message: str) -> None:
    """Write what is wrong to standard error, on one line."""
    print(" ".join(message.split()), file=sys.stderr, flush=True)


def note(message: str) -> None:
    """Write something worth knowing to standard error, on one line."""
    complain(f"Note: {message}")


def to_json(values: Mapping[str, Any]) -> str:
    """Return one JSON object: NaN and infinity as null, paths as text."""
    return json.dumps(_plain(values), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as text in columns, the first row being the heading."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )
