"""The demo: a real sample, the bundled model's prediction on it, and the dock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from napari_seg.errors import InputError

__all__ = ["run_demo", "run_on_virtual_display"]

_SAMPLE = "ihc"
_MINUTES = 1.0


def run_on_virtual_display(arguments: list[str]) -> int:
    """Run this program again under a virtual X server; return its exit status.

    Raises
    ------
    InputError
        If there is none.
    """
    server = shutil.which("xvfb-run")
    if server is None:
        raise InputError(
            "There is no display here, and no virtual one: install it with "
            "'apt-get install xvfb xauth', or run this in a desktop session."
        )
    screen = ["-a", "-s", "-screen 0 1600x1000x24 +extension GLX -noreset"]
    command = [server, *screen, sys.executable, "-m", "napari_seg", *arguments]
    return subprocess.run(command, check=False).returncode


def run_demo(
    tour: bool = False, screenshot: Path | None = None, minutes: float = _MINUTES
) -> dict[str, Any] | None:
    """Open the demo, or play the tour in it.

    Parameters
    ----------
    tour : bool
        Play the loop and close, instead of leaving the window to the user.
    screenshot : Path or None
        Picture of the window that the tour leaves.
    minutes : float
        Training time of the tour.

    Returns
    -------
    dict or None
        What the tour measured.
    """
    import napari

    from napari_seg import samples
    from napari_seg._qt.app import show_dock
    from napari_seg._qt.tour import Tour

    viewer = napari.Viewer(title="napari-seg demo")
    data, settings, _ = samples.ihc()[0]
    viewer.add_image(data, **settings)
    if not tour:
        dock = show_dock(viewer)
        dock.predict_when_ready()
        napari.run()
        return None
    with tempfile.TemporaryDirectory() as home:
        # The tour must not find, or leave, the user's own work.
        os.environ["NAPARI_SEG_HOME"] = home
        dock = show_dock(viewer)
        viewer.window.resize(1500, 950)
        try:
            truth = samples.load_sample(_SAMPLE).mask == 1
            played = Tour(viewer, dock, truth.astype("uint8"), minutes, _say)
            return played.play(screenshot)
        finally:
            dock.shut_down()
            viewer.close()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
