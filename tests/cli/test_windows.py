"""open and demo, up to the door of Qt."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="others have a display")


@pytest.fixture
def display(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99")


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def qt(monkeypatch):
    """Put modules that note their calls in the place of those with Qt."""
    calls = []

    def noted(name, result=None):
        def function(*arguments):
            calls.append((name, *arguments))
            return result

        return function

    for name in ("", ".app", ".demo"):
        monkeypatch.setitem(
            sys.modules, f"napari_seg._qt{name}", ModuleType(f"napari_seg._qt{name}")
        )
    sys.modules["napari_seg._qt.app"].open_viewer = noted("open")
    demo = sys.modules["napari_seg._qt.demo"]
    demo.run_demo = noted("demo", {"dice_before": 0.5, "dice_after": float("nan")})
    demo.run_on_virtual_display = noted("virtual", 0)
    return calls


@pytest.mark.parametrize("arguments", [(), ("open",)])
def test_no_argument_opens_napari(run, qt, display, arguments):
    assert run(*arguments).status == 0
    assert qt == [("open", [])]


def test_open_images(run, qt, display, tmp_path):
    (tmp_path / "a.tif").touch()
    assert run("open", tmp_path / "a.tif").status == 0
    assert qt == [("open", [tmp_path / "a.tif"])]
    assert "nosuch.tif" in run("open", "nosuch.tif").refusal


@linux
@pytest.mark.parametrize("command", ["open", "demo"])
def test_no_display(run, qt, no_display, command):
    assert "no display" in run(command).refusal
    assert qt == []


@pytest.mark.parametrize("arguments", [("open",), ("demo",), ("demo", "--tour")])
def test_no_qt_binding(run, qt, display, monkeypatch, arguments):
    monkeypatch.setattr("napari_seg.cli.screen.find_spec", lambda name: None)
    assert 'pip install "napari-seg[pyqt6]"' in run(*arguments).refusal


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_tour_prints_json(run, qt, display, tmp_path, as_json):
    picture = tmp_path / "a.png"
    done = run("demo", "--tour", "--screenshot", picture, *as_json)
    assert done.json == {"dice_before": 0.5, "dice_after": None}
    assert qt == [("demo", True, picture)]


@linux
def test_tour_without_a_display(run, qt, no_display):
    done = run("demo", "--tour", "--screenshot", "a.png", "--json")
    # The other process has printed the object.
    assert (done.status, done.out) == (0, "")
    assert qt == [("virtual", ["demo", "--tour", "--screenshot", "a.png"])]


def test_screenshot_belongs_to_the_tour(run, qt, display):
    assert "--tour" in run("demo", "--screenshot", Path("a.png")).refusal
