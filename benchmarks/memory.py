"""How much memory ``napari-seg predict`` takes, from zarr to zarr.

Each image is predicted in a fresh process, by the function behind the command.  What
counts is the peak of its resident memory above that just before: Python, torch, zarr
and the modules of the command are loaded by then, the model is not.  Linux keeps the
peak itself (``VmHWM``) and sets it back on demand, so nothing is missed between two
samples.  Files in the system's cache do not count.

    python -m benchmarks --only memory
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._child import ROOT
from benchmarks._fields import write_zarr
from benchmarks._report import Row, row
from napari_seg.inference.openvino_runtime import is_installed

__all__ = ["dock_row", "run"]

SIDES = (4096, 8192, 16384)
DOCK_SIDE = 8192
MODEL = "nuclei"
MEGABYTES, GROWTH = 800.0, 1.1
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run() -> list[Row]:
    """Return a row for each runtime and size, and one that compares the sizes."""
    claim = f"peak memory of `napari-seg predict`, zarr to zarr, `{MODEL}`"
    if not _STATUS.exists():
        return [row(claim, None, f"≤ {MEGABYTES:g} MB", None, "measured on Linux only")]
    runtimes = ("torch", "openvino") if is_installed() else ("torch",)
    rows = [row for runtime in runtimes for row in _rows(claim, runtime)]
    return rows


def _rows(claim: str, runtime: str) -> list[Row]:
    claim = f"{claim}, {runtime}"
    found = {side: _predict(side, runtime) for side in SIDES}
    raised = {side: told["raised"] for side, told in found.items()}
    growth = raised[SIDES[-1]] / raised[SIDES[0]]
    return [
        *(_row(f"{claim}, {side}²", found[side]) for side in SIDES),
        row(
            f"the same at {SIDES[-1]}² against {SIDES[0]}²",
            f"{growth:.2f} ×",
            f"≤ {GROWTH} ×",
            growth <= GROWTH,
            "independent of the image's size",
        ),
    ]


def dock_row() -> Row:
    """Return the row of **Predict all** in the dock, whose mask lies in memory."""
    told = _predict(DOCK_SIDE, "dock")
    masks = 2 * DOCK_SIDE**2 / 1e6
    return row(
        f"peak memory of **Predict all** in the dock, {DOCK_SIDE}² zarr, `{MODEL}`",
        f"+{told['raised']:.0f} MB",
        f"≤ {masks + MEGABYTES:.0f} MB",
        told["raised"] <= masks + MEGABYTES,
        f"{masks:.0f} MB of it mask and reference, one byte for each pixel; saved on "
        "the way; without the viewer's own; "
        f"{told['seconds']:.0f} s, {told['classes']:.0f} classes found",
    )


def _row(claim: str, told: dict[str, float]) -> Row:
    return row(
        claim,
        f"+{told['raised']:.0f} MB",
        f"≤ {MEGABYTES:g} MB",
        told["raised"] <= MEGABYTES,
        f"{told['before']:.0f} MB before, {told['peak']:.0f} MB at the peak; "
        f"{told['seconds']:.0f} s, {told['classes']:.0f} classes found",
    )


def _predict(side: int, runtime: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.zarr"
        write_zarr(image, side)
        module = ["-W", "ignore", "-m", "benchmarks.memory"]
        masks = str(Path(folder) / "masks")
        command = [sys.executable, *module, str(image), masks, runtime]
        done = subprocess.run(
            command, cwd=ROOT, check=False, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _measure_dock(image: str, folder: str) -> dict[str, float]:
    """Predict in this process as the dock does, whose decisions need no Qt."""
    import os

    import napari_seg.corrections.store
    import napari_seg.inference.predict  # noqa: F401
    from napari_seg.cli.files import read_picture
    from napari_seg.workspace import ImageSource, Workspace
    from napari_seg.workspace.tasks import run_inline

    os.environ["NAPARI_SEG_HOME"] = folder
    workspace = Workspace(run_inline, Path(folder))
    failures: list[Exception] = []
    workspace.failed.connect(failures.append)
    _RESET.write_text("5")
    before, start = _status("VmRSS"), time.monotonic()
    workspace.set_image(ImageSource("image", read_picture(Path(image)).data))
    workspace.predict(None, everything=True)
    seconds, peak = time.monotonic() - start, _status("VmHWM")
    session = workspace.session
    if failures or session is None:
        raise RuntimeError(f"{failures}")
    classes = len(np.unique(session.mask.labels[::8, ::8]))
    workspace.close()
    return {
        "before": before,
        "peak": peak,
        "raised": peak - before,
        "seconds": seconds,
        "classes": classes,
    }


def _measure(image: str, folder: str, runtime: str) -> dict[str, float]:
    """Predict in this process."""
    if runtime == "dock":
        return _measure_dock(image, folder)
    import napari_seg.cli.omezarr
    import napari_seg.cli.segmenting  # noqa: F401
    from napari_seg.cli import main

    said = StringIO()
    _RESET.write_text("5")
    before = _status("VmRSS")
    with contextlib.redirect_stdout(said):
        to = ["-o", folder, "--runtime", runtime, "--json"]
        status = main(["predict", image, "-m", MODEL, *to])
    peak = _status("VmHWM")
    if status:
        raise RuntimeError(f"predict returned {status}")
    output: dict[str, Any] = json.loads(said.getvalue())["outputs"][0]
    return {
        "before": before,
        "peak": peak,
        "raised": peak - before,
        "seconds": output["seconds"],
        "classes": sum(count > 0 for count in output["pixels_per_class"]),
    }


def _status(name: str) -> float:
    """Return an entry of this process's status, in MB."""
    line = next(s for s in _STATUS.read_text().splitlines() if s.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
