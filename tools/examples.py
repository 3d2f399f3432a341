"""Runs the examples of docs/command-line.md and writes their output below them.

``python tools/examples.py``; examples that open a window have no output and are left
as they are.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
CONSOLE = re.compile(r"```console\n\$ (napari-seg (?!open|demo).*)\n(?:.*\n)*?```\n")
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def output(command: str, folder: Path) -> str:
    """Return what a command prints, with the folders of a usual installation."""
    home = folder / "home"
    done = subprocess.run(
        [sys.executable, "-m", "napari_seg", *shlex.split(command)[1:]],
        cwd=folder,
        env={**os.environ, "NAPARI_SEG_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text = done.stdout.replace(sys.executable, "/usr/bin/python3")
    text = text.replace(str(home), "~/.local/share/napari-seg")
    return text.replace(str(folder), "~").rstrip()


def main() -> None:
    """Run everything in an empty folder."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for code in PYTHON.findall(page):
            subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)

        def filled(match: re.Match[str]) -> str:
            command = match[1]
            sys.stderr.write(f"{command}\n")
            return f"```console\n$ {command}\n{output(command, folder)}\n```\n"

        PAGE.write_text(CONSOLE.sub(filled, page), encoding="utf-8")


if __name__ == "__main__":
    main()
