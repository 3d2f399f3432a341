"""``napari-seg open``: napari with images and the dock."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_seg.cli.report import Report
from napari_seg.cli.screen import check_qt, check_screen
from napari_seg.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "paths", type=Path, nargs="*", metavar="PATH", help="images to open"
    )


def run(given: argparse.Namespace) -> Report:
    """Open the viewer, and return when it is closed."""
    missing = [str(path) for path in given.paths if not path.exists()]
    if missing:
        raise InputError(f"There is no file or folder {', '.join(missing)}.")
    check_qt()
    check_screen()
    from napari_seg._qt.app import open_viewer

    open_viewer(given.paths)
    return Report()
