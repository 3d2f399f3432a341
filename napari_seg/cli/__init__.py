"""The command line: one small module per command, loaded when it is called for.

A command's module has two functions: ``add_arguments(parser)`` and ``run(given)``,
which returns a :class:`~napari_seg.cli.report.Report`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout

from napari_seg.cli.parser import build_parser
from napari_seg.cli.report import Report, complain, show
from napari_seg.errors import InputError, NapariSegError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; by default that of this process. No argument
        at all means ``open``.

    Returns
    -------
    int
        Exit status: 0 done; 2 what the user gave is at fault; 1 anything else.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["open"]
    try:
        return _run(given)
    except BrokenPipeError:
        # The reader of the results left, as in `napari-seg models | head -1`.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        complain("Interrupted.")
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost frame of the program
        return _explain(error, debug="--debug" in given)


def _run(arguments: list[str]) -> int:
    given = build_parser().parse_args(arguments)
    # Standard output is for the result alone: whatever a library prints goes aside.
    with redirect_stdout(sys.stderr):
        report: Report = given.run(given)
    show(report, as_json=getattr(given, "json", False))
    if report.complaint:
        complain(report.complaint)
    return report.status


def _explain(error: Exception, debug: bool) -> int:
    """Say on one line what went wrong; return the exit status."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, NapariSegError):
        complain(str(error))
    else:
        hint = "" if debug else " (--debug shows where)"
        complain(f"{type(error).__name__}: {error}{hint}")
    return 2 if isinstance(error, InputError) else 1
