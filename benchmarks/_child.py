"""Code in a process of its own, with a screen where it needs one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["has_screen", "on_screen"]

ROOT = Path(__file__).resolve().parents[1]


def has_screen() -> bool:
    """Return whether there is a display, or a virtual one can be started."""
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown or sys.platform != "linux" or shutil.which("Xvfb"))


def on_screen(module: str, *arguments: str) -> dict[str, Any]:
    """Run ``python -m module`` on a virtual screen and return the JSON that it prints.

    Neither settings nor projects of the user are read or written.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    script = ROOT / "tools" / "with_screen.sh"
    with TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "NAPARI_SEG_HOME": home,
            "NAPARI_CONFIG": "",
            "QT_API": os.environ.get("QT_API", "pyqt5"),
        }
        done = subprocess.run(
            [str(script), *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
