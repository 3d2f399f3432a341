"""``napari-seg demo``: the program on a real sample, or the whole loop by itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_seg.cli.arguments import add_json, check_writable
from napari_seg.cli.report import Report, to_json
from napari_seg.cli.screen import check_qt, check_screen, has_display
from napari_seg.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--tour",
        action="store_true",
        help="predict, correct, fine-tune and predict again in the real window, print "
        "what was measured and close; without a display, on a virtual one",
    )
    parser.add_argument(
        "--screenshot",
        type=Path,
        metavar="PNG",
        help="picture of the window that the tour leaves",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """Show the demo, or play the tour."""
    if given.screenshot is not None:
        if not given.tour:
            raise InputError("--screenshot belongs to the tour: add --tour.")
        check_writable(given.screenshot.parent)
    check_qt()
    from napari_seg._qt.demo import run_demo, run_on_virtual_display

    if given.tour and not has_display():
        return Report(status=run_on_virtual_display(_arguments(given)))
    check_screen()
    measured = run_demo(given.tour, given.screenshot)
    return Report() if measured is None else Report(to_json(measured), measured)


def _arguments(given: argparse.Namespace) -> list[str]:
    """Return the command line once more; its results are JSON either way."""
    picture = ["--screenshot", str(given.screenshot)] if given.screenshot else []
    debug = ["--debug"] if given.debug else []
    return ["demo", "--tour", *picture, *debug]
