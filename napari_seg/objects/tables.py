"""Tables of objects → CSV and Parquet files, never half written."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from napari_seg.errors import InputError
from napari_seg.writer import replacing

__all__ = ["FORMATS", "check_table_path", "write_table"]

FORMATS = (".csv", ".parquet")


def check_table_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a table if one can be written in its format.

    Raises
    ------
    InputError
        If its suffix is neither .csv nor .parquet, or a package is missing for it.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InputError(
            f"{target.name} says no format for a table; name it {target.stem}.csv or "
            f"{target.stem}.parquet."
        )
    if target.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InputError(
                "Parquet needs a further package: pip install "
                f'"napari-seg[parquet]"; or name the file {target.stem}.csv.'
            ) from error
    return target


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table; one that is there is replaced only when the new one is complete.

    Parameters
    ----------
    frame : DataFrame
        Its index is left out.
    path : path-like
        Ending in .csv (comma, point, UTF-8, empty for NaN) or .parquet.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the suffix is another one, or pyarrow is missing for Parquet.
    StorageError
        If the file cannot be written.
    """
    target = check_table_path(path)
    with replacing(target) as part, part.open("wb") as file:
        if target.suffix.lower() == ".csv":
            frame.to_csv(file, index=False, lineterminator="\n", encoding="utf-8")
        else:
            frame.to_parquet(file, index=False, engine="pyarrow")
        file.flush()
        os.fsync(file.fileno())
    return target
