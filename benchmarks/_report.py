"""Rows of a benchmark as a section of RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

__all__ = [
    "RESULTS",
    "SHARED_DATA",
    "Row",
    "Section",
    "commit",
    "machine",
    "row",
    "write",
]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
#: Real images with masks, beside a checkout.
SHARED_DATA = ROOT.parent / "shared" / "data"
_INTRODUCTION = """\
# Results

Every claim with what was measured. Written by `python -m benchmarks`; each section \
says when, where and by which command. A target that was missed says **no**; a dash \
means that there is no target, or that it could not be measured.
"""

Row = dict[str, Any]


def row(
    claim: str, figure: object, target: str, met: bool | None, detail: str = ""
) -> Row:
    """Return one line of a table; `met` is None where nothing was aimed at."""
    return {
        "claim": claim,
        "figure": figure,
        "target": target,
        "met": met,
        "detail": detail,
    }


@dataclass(frozen=True)
class Section:
    """What one run of one benchmark says.

    Attributes
    ----------
    title : str
        Heading.
    rows : sequence of dict
        With the keys claim, figure, target, met and detail.
    command : str
        How to measure again.
    machine : str
        Where it was measured.
    seconds : float
        How long it took.
    """

    title: str
    rows: Sequence[Row]
    command: str
    machine: str
    seconds: float

    def text(self) -> str:
        """Return the section in Markdown, its heading first."""
        lines = [
            f"## {self.title}",
            "",
            "| claim | figure | target | met | detail |",
            "|---|---|---|---|---|",
            *map(_line, self.rows),
            "",
            f"{time.strftime('%Y-%m-%d %H:%M')}, {self.machine}. Commit {commit()}. "
            f"`{self.command}`, {self.seconds:.0f} s.",
        ]
        return "\n".join(lines) + "\n"


def write(section: Section, order: Sequence[str], path: Path = RESULTS) -> None:
    """Replace one section of the file and leave the others as they are."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = re.split(r"^(?=## )", old, flags=re.MULTILINE)[1:]
    sections = {part.splitlines()[0][3:].strip(): part.strip() for part in parts}
    sections[section.title] = section.text().strip()
    # Sections that nobody measures any more come last instead of vanishing.
    titles = sorted(
        sections, key=lambda t: order.index(t) if t in order else len(order)
    )
    texts = [_INTRODUCTION.strip(), *(sections[title] for title in titles)]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def machine(*, gpu: bool = False) -> str:
    """Return CPU, cores, memory, GPU and the versions that matter."""
    cores = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else psutil.cpu_count()
    )
    parts = [
        f"{_cpu()}, {cores} cores, {psutil.virtual_memory().total / 2**30:.0f} GB RAM",
        f"Python {platform.python_version()}, torch {torch.__version__}",
    ]
    if gpu and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        size = properties.total_memory / 2**30
        parts.insert(1, f"{properties.name}, {size:.0f} GB")
    return ", ".join(parts)


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"^model name\s*: (.+)$", information.read_text(), re.M)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Return the short name of the commit, and whether the code was changed since."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "napari_seg")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def _line(values: Row) -> str:
    met = {True: "yes", False: "**no**", None: "–"}[values["met"]]
    figure = "–" if values["figure"] is None else values["figure"]
    cells = (values["claim"], figure, values["target"], met, values["detail"])
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
