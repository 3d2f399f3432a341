"""``napari-seg doctor``: what the program needs, and whether it is here."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from shutil import disk_usage, which

from napari_seg.cli.arguments import add_json, nearest_folder
from napari_seg.cli.memory import physical_memory
from napari_seg.cli.report import Report, table
from napari_seg.cli.screen import INSTALL_QT, has_display, qt_bindings
from napari_seg.errors import InputError

__all__ = ["Check", "add_arguments", "run"]

_GB = 2**30
_LIBRARIES = (
    "apt-get install libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-keysyms1 libxcb-xinerama0"
)
#: Runs by itself: a Qt that lacks a library ends the whole process.
_OPENGL = """
from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
application = QGuiApplication([])
surface, context = QOffscreenSurface(), QOpenGLContext()
surface.create()
if not (context.create() and context.makeCurrent(surface)):
    raise SystemExit("no OpenGL context can be made")
form = context.format()
print(f"{form.majorVersion()}.{form.minorVersion()}")
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    value : str
        What was found.
    ok : bool
        Whether that will do.
    advice : str
        What to do about it; empty where it is well.
    """

    value: str
    ok: bool = True
    advice: str = ""

    @classmethod
    def of(cls, value: str, ok: bool, advice: str) -> Check:
        """Return a check that gives its advice only where it is needed."""
        return cls(value, ok, "" if ok else advice)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """Make all checks; the status is 1 if one fails that nothing works without."""
    found = {name: _made(check) for name, check in _CHECKS.items()}
    rows = [
        ("ok" if check.ok else "--", name.replace("_", " "), check.value)
        for name, check in found.items()
    ]
    advice = [
        f"{name}: {check.advice}" for name, check in found.items() if check.advice
    ]
    essential = all(found[name].ok for name in _ESSENTIAL)
    return Report(
        text="\n".join([table(rows), *advice]),
        values={name: vars(check) for name, check in found.items()},
        status=0 if essential else 1,
        complaint="" if essential else "Something essential is missing, see above.",
    )


def _made(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except InputError as error:
        return Check("not usable", False, str(error))
    except Exception as error:  # noqa: BLE001 - whatever is broken here is the finding
        return Check("broken", False, f"{type(error).__name__}: {error}")


def _program() -> Check:
    return Check(version("napari-seg"))


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    return Check.of(found, sys.version_info >= (3, 11), "Install Python 3.11 or newer.")


def _torch() -> Check:
    import torch

    return Check(torch.__version__)


def _napari() -> Check:
    found = version("napari")
    recent = tuple(int(part) for part in found.split(".")[:2]) >= (0, 6)
    return Check.of(found, recent, 'pip install "napari>=0.6"')


def _qt() -> Check:
    found = qt_bindings()
    if not found:
        return Check("no binding", False, f"For the window: {INSTALL_QT}")
    return Check(", ".join(f"{name} {version(name)}" for name in found))


def _display() -> Check:
    ok = has_display()
    return Check.of(
        "yes" if ok else "none",
        ok,
        "Windows need a desktop session; 'napari-seg demo --tour' and all other "
        "commands do not.",
    )


def _opengl() -> Check:
    if not (_qt().ok and _display().ok):
        return Check("not tried", False, "It is tried where there is Qt and a display.")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OPENGL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        return Check(done.stdout.strip())
    reasons = [line for line in done.stderr.splitlines() if line.strip()]
    reason = reasons[0].strip() if reasons else f"exit status {done.returncode}"
    return Check("none", False, f"{reason}. On Debian and Ubuntu: {_LIBRARIES}")


def _device() -> Check:
    from napari_seg.inference.device import describe_device, pick_device

    device = pick_device("auto")
    unused = device.type == "cpu" and which("nvidia-smi") is not None
    return Check.of(
        describe_device(device),
        not unused,
        "There is an NVIDIA GPU that this PyTorch cannot use: install the build for "
        "your driver's CUDA, see https://pytorch.org/get-started/locally",
    )


def _memory() -> Check:
    found = physical_memory()
    if found is None:
        return Check("unknown")
    return Check.of(
        f"{found / _GB:.0f} GB",
        found >= 4 * _GB * 0.9,
        "With less than 4 GB, give predict --tile 256 and finetune --batch 2.",
    )


def _disk() -> Check:
    from napari_seg.resources import user_folder

    nearest = nearest_folder(user_folder())
    free = disk_usage(nearest).free
    return Check.of(
        f"{free / _GB:.1f} GB free in {nearest}",
        free >= _GB,
        "Free some space, or set NAPARI_SEG_HOME to a folder on another disk.",
    )


def _user_folder() -> Check:
    from napari_seg.resources import user_folder

    folder = user_folder()
    try:
        with tempfile.TemporaryFile(dir=nearest_folder(folder)):
            return Check(str(folder))
    except OSError as error:
        advice = "Set NAPARI_SEG_HOME to a folder that may be written to."
        return Check(f"{folder} ({error.strerror})", False, advice)


def _bundled_models() -> Check:
    from napari_seg.models.catalog import bundled_models
    from napari_seg.models.checkpoint import load_model

    names = [load_model(path).spec.name for path in bundled_models().values()]
    again = "Install napari-seg again: pip install --force-reinstall napari-seg"
    return Check.of(", ".join(names) or "none", bool(names), again)


def _prediction() -> Check:
    """Predict one tile with the first bundled model, or with random weights."""
    import numpy as np

    from napari_seg.inference.predict import predict
    from napari_seg.models.catalog import bundled_models
    from napari_seg.models.checkpoint import load_model
    from napari_seg.models.registry import create_model

    names = list(bundled_models())
    model = load_model(names[0]) if names else create_model("unet", width=8)
    image = np.random.default_rng(0).random((128, 128), np.float32)
    channels = [image] * model.spec.in_channels
    start = time.perf_counter()
    predict(model, np.stack(channels, -1), axes="YXC")
    seconds = time.perf_counter() - start
    return Check(f"128 × 128 pixels in {seconds:.2f} s")


_CHECKS: dict[str, Callable[[], Check]] = {
    "napari_seg": _program,
    "python": _python,
    "torch": _torch,
    "napari": _napari,
    "qt": _qt,
    "display": _display,
    "opengl": _opengl,
    "device": _device,
    "memory": _memory,
    "disk": _disk,
    "user_folder": _user_folder,
    "bundled_models": _bundled_models,
    "prediction": _prediction,
}
_ESSENTIAL = ("python", "torch", "user_folder", "prediction")
