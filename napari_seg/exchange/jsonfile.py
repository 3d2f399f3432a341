"""JSON files: read with care, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from napari_seg.errors import InputError
from napari_seg.writer import replacing

__all__ = ["load", "save", "save_bytes"]

_MOST_BYTES = 2**30


def load(path: Path, what: str) -> Any:
    """Return what a JSON file holds.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should be, for messages.

    Raises
    ------
    InputError
        If it is no JSON, or too large.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(
            f"The file has {size / 2**30:.1f} GB; up to 1 GB of JSON can be read: "
            "divide it, or use OME-Zarr."
        )
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The file is no JSON ({error}); give {what} as it was saved."
        ) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def save(path: Path, content: Any) -> list[Path]:
    """Write JSON without line breaks; return the path.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return save_bytes(path, text.encode())


def save_bytes(path: Path, data: bytes | memoryview) -> list[Path]:
    """Write a file, as :func:`save`."""
    with replacing(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return [path]
