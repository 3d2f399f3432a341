"""The way in and the way out: arguments, exit status, the two streams."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_seg
from napari_seg.cli import main
from napari_seg.cli.parser import COMMANDS
from napari_seg.cli.report import to_json
from napari_seg.errors import NapariSegError, StorageError

PROGRAM = (sys.executable, "-m", "napari_seg")


def _loaded_by(code: str) -> set[str]:
    heavy = ("torch", "numpy", "scipy", "skimage", "zarr", "qtpy", "napari", "tifffile")
    code = f"{code}\nimport sys; print(*set({heavy!r}) & set(sys.modules))"
    command = [sys.executable, "-c", code]
    return set(subprocess.check_output(command, text=True).split())


def test_the_parser_loads_nothing_heavy():
    code = (
        "from napari_seg.cli.parser import build_parser; build_parser().format_help()"
    )
    assert _loaded_by(code) == set()


def test_help_loads_nothing_heavy():
    script = (
        "import sys; sys.argv = ['napari-seg', '--help']\n"
        "from napari_seg.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded:', {'torch', 'napari', 'skimage', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert "usage:" in done.stdout
    assert done.stdout.endswith("loaded: set()\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"napari-seg {command}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == napari_seg.__version__


def test_unknown_command(run):
    assert "choose from" in run("segment").refusal
    assert "napari-seg --help" in run("segment").refusal


def test_missing_argument(run):
    assert "required: -m/--model" in run("predict", "a.tif", "-o", "out").refusal


def _failing(error: BaseException):
    def command(given):
        print("chatter of a library")  # noqa: T201
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (StorageError("The disk\nis full."), 1, "The disk is full."),
        (NapariSegError("Odd."), 1, "Odd."),
        (ZeroDivisionError("by 0"), 1, "ZeroDivisionError: by 0 (--debug shows where)"),
        (KeyboardInterrupt(), 1, "Interrupted."),
    ],
)
def test_errors_take_one_line(run, monkeypatch, error, status, line):
    monkeypatch.setattr("napari_seg.cli.models.run", _failing(error))
    done = run("models", "--json")
    assert (done.status, done.out) == (status, "")
    assert done.err.splitlines() == ["chatter of a library", line]


def test_debug_shows_where(run, monkeypatch):
    monkeypatch.setattr("napari_seg.cli.models.run", _failing(ValueError("bad")))
    done = run("models", "--debug")
    assert done.status == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1] == "ValueError: bad"


def test_json_has_null_for_what_is_no_number():
    values = {"a": math.nan, "b": [math.inf, 1.5], "c": Path("x"), "d": (True, None)}
    assert json.loads(to_json(values)) == {
        "a": None,
        "b": [None, 1.5],
        "c": "x",
        "d": [True, None],
    }


def test_reader_that_leaves_early():
    command = f"{sys.executable} -m napari_seg models | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


class TestModels:
    def test_architectures(self, run):
        models = run("models", "--json").json["models"]
        entries = {m["name"]: m for m in models if m["source"] == "architecture"}
        assert set(entries) == {
            "unet",
            "unet3d",
            "fcn",
            "fcn8s",
            "fcn16s",
            "fcn32s",
            "deeplabv3",
            "deeplabv3plus",
        }
        assert entries["fcn"]["encoder"] == "resnet50"
        assert "resnet18" in entries["deeplabv3"]["encoders"]
        unet = napari_seg.create_model("unet")
        count = sum(p.numel() for p in unet.parameters())
        assert entries["unet"]["parameters"] == count
        keys = {
            "name",
            "arch",
            "encoder",
            "classes",
            "in_channels",
            "parameters",
            "source",
        }
        assert all(keys <= entry.keys() for entry in models)

    def test_saved_models(self, run, user_home, model_file):
        (user_home / "models").mkdir(parents=True)
        saved = user_home / "models" / "mine.safetensors"
        saved.write_bytes(model_file.read_bytes())
        (user_home / "models" / "broken.safetensors").write_bytes(b"no model")
        done = run("models", "--json")
        (entry,) = [m for m in done.json["models"] if m["source"] == str(saved)]
        assert (entry["name"], entry["classes"]) == ("mine", ["background", "nucleus"])
        assert "broken.safetensors left out" in done.err

    def test_bundled_models(self, run):
        names = {
            m["name"]
            for m in run("models", "--json").json["models"]
            if m["source"] == "bundled"
        }
        folder = Path(napari_seg.__file__).parent / "models" / "bundled"
        assert names == {path.stem for path in folder.glob("*.safetensors")}

    def test_table(self, run):
        assert "deeplabv3plus" in run("models").out


class TestDoctor:
    def test_json(self, run):
        checks = run("doctor", "--json").json
        assert all(c.keys() == {"value", "ok", "advice"} for c in checks.values())
        assert all(bool(c["advice"]) != c["ok"] for c in checks.values())
        assert checks["prediction"]["ok"]
        assert {"python", "torch", "qt", "display", "memory"} <= checks.keys()

    def test_text(self, run):
        assert "prediction" in run("doctor").out

    def test_what_is_essential(self, run, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no kernel")

        monkeypatch.setattr("napari_seg.inference.predict.predict", fail)
        done = run("doctor", "--json")
        assert done.status == 1
        found = json.loads(done.out)["prediction"]
        assert found == {
            "value": "broken",
            "ok": False,
            "advice": "RuntimeError: no kernel",
        }

    def test_no_qt_and_no_display_are_no_failure(self, run, monkeypatch):
        monkeypatch.setattr("napari_seg.cli.screen.find_spec", lambda name: None)
        monkeypatch.setenv("DISPLAY", "")
        monkeypatch.setenv("WAYLAND_DISPLAY", "")
        checks = run("doctor", "--json").json
        assert "napari-seg[pyqt6]" in checks["qt"]["advice"]
        if sys.platform == "linux":
            assert not checks["display"]["ok"]


def test_python_m_napari_seg(tmp_path):
    done = subprocess.run(
        [*PROGRAM, "predict", "nosuch.tif", "-m", "nosuch", "-o", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_numbers_of_numpy_are_no_surprise():
    # Results hold plain numbers; what is not is a mistake that must show.
    with pytest.raises(TypeError):
        to_json({"a": np.int64(1)})
