"""Floors: the core runs where there is no Qt, and a bare import costs nothing."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import napari_seg

GUI = ("qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "napari")
_ABOVE_THE_CORE = ("napari_seg._qt", "napari_seg.cli", "napari_seg.__main__")


def _core_modules() -> list[str]:
    found = pkgutil.walk_packages(napari_seg.__path__, "napari_seg.")
    return sorted(m.name for m in found if not m.name.startswith(_ABOVE_THE_CORE))


def _run(code: str, *arguments: str) -> str:
    """Return what `code` prints in an interpreter that has imported nothing yet."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_IMPORT_ALL = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    loaded = sorted(set({GUI!r}) & set(sys.modules))
    if loaded:
        print(name, "loads", *loaded)
        break
"""


def test_there_is_a_core():
    assert {"napari_seg.errors", "napari_seg.options"} < set(_core_modules())


def test_no_core_module_loads_qt_or_napari():
    assert _run(_IMPORT_ALL, *_core_modules()) == ""


def test_command_line_starts_without_qt():
    assert _run(_IMPORT_ALL, "napari_seg.cli") == ""


def test_bare_import_loads_neither_torch_nor_qt():
    heavy = (*GUI, "torch", "scipy", "skimage", "zarr")
    code = f"import napari_seg, sys; print(*set({heavy!r}) & set(sys.modules))"
    assert _run(code) == ""


def test_bare_import_is_fast():
    code = (
        "import time; start = time.perf_counter(); import napari_seg;"
        "print(time.perf_counter() - start)"
    )
    # The least of three: the machine may be busy with something else.
    assert min(float(_run(code)) for _ in range(3)) < 0.2


@pytest.mark.parametrize("name", napari_seg.__all__)
def test_public_name_is_there(name):
    assert getattr(napari_seg, name) is not None
    assert name in dir(napari_seg)


def test_public_functions_are_no_modules():
    functions = set(napari_seg.__all__) - {"errors", "__version__"}
    assert all(callable(getattr(napari_seg, name)) for name in functions)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        _ = napari_seg.segment
