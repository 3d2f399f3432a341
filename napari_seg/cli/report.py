"""What a command says: its result on standard output, all else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Report", "complain", "json_ready", "note", "show", "table"]


@dataclass(frozen=True)
class Report:
    """The result of a command.

    Attributes
    ----------
    text : str
        For people; may be empty.
    values : mapping
        The same for programs, the object that ``--json`` prints.
    status : int
        Exit status.
    complaint : str
        What went wrong with a part of the work, for standard error.
    """

    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    complaint: str = ""


def show(report: Report, as_json: bool) -> None:
    """Write the result to standard output."""
    if as_json:
        print(json.dumps(json_ready(report.values), allow_nan=False), flush=True)
    elif report.text:
        print(report.text, flush=True)


def complain(message: str) -> None:
    """Write what is wrong to standard error, on one line."""
    print(" ".join(message.split()), file=sys.stderr, flush=True)


def note(message: str) -> None:
    """Write something worth knowing to standard error, on one line."""
    complain(f"Note: {message}")


def json_ready(value: Any) -> Any:
    """Return `value` as JSON can hold it: NaN and infinity as null, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [json_ready(item) for item in value]
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
