"""The child process of the dock: the command of tests/cli/test_finetune.py, watched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from napari_seg.errors import InputError, TrainingError
from napari_seg.models.checkpoint import load_model
from napari_seg.training.child import FinetuneChild, FinetuneCommand

SMALL = ("--crop", "32", "--batch", "1")
#: More than any test waits for.
ENDLESS = 1_000_000


@pytest.fixture
def command(pairs, model_file, tmp_path):
    shutil.copytree(pairs, tmp_path / "project" / "windows")

    def make(steps=3, model=model_file, options=SMALL):
        return FinetuneCommand(
            model=Path(model),
            output=tmp_path / "new.safetensors",
            project=tmp_path / "project",
            steps=steps,
            device="cpu",
            options=options,
        )

    return make


def test_steps_and_result(command):
    child = FinetuneChild(command())
    steps = list(child.steps())
    assert [step.step for step in steps] == [1, 2, 3]
    assert steps[-1].spent == 1
    assert child.result is not None
    assert child.result["steps"] == 3
    assert load_model(child.result["model"]).spec.classes == ("background", "nucleus")


def test_cancel_keeps_the_best_so_far(command):
    child = FinetuneChild(command(steps=ENDLESS))
    for step in child.steps():
        if step.step == 2:
            child.cancel()
    assert child.result is not None
    assert child.result["stopped"] is True
    assert 2 <= child.result["steps"] < ENDLESS
    assert Path(child.result["model"]).is_file()


def test_cancel_before_the_start(command):
    child = FinetuneChild(command(steps=ENDLESS))
    child.cancel()
    assert len(list(child.steps())) < ENDLESS
    assert child.result is not None
    assert child.result["stopped"] is True


def test_closing_the_generator_ends_the_child(command):
    child = FinetuneChild(command(steps=ENDLESS))
    steps = child.steps()
    next(steps)
    steps.close()
    assert child._process.poll() is not None
    assert child.result is None
    assert not child.command.output.exists()


def test_killed_from_outside(command):
    child = FinetuneChild(command(steps=ENDLESS))
    steps = child.steps()
    next(steps)
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match="killed from outside"):
        list(steps)
    assert not child.command.output.exists()


def test_wrong_model_file(command, tmp_path):
    (tmp_path / "wrong.safetensors").write_bytes(b"no model")
    child = FinetuneChild(command(model=tmp_path / "wrong.safetensors"))
    with pytest.raises(InputError, match=r"wrong\.safetensors is not a readable"):
        list(child.steps())


def test_wrong_option(command):
    child = FinetuneChild(command(options=("--crop", "7")))
    with pytest.raises(InputError, match="32 to 1024 px"):
        list(child.steps())


@pytest.fixture
def typed(command):
    """Start the command as in a terminal, and wait for its first step."""

    def start(on_stdin):
        arguments = command(steps=ENDLESS).arguments()
        if not on_stdin:
            arguments.remove("--cancel-on-stdin")
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        process.stderr.readline()
        return process

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_with_the_best_so_far(typed, number, tmp_path):
    process = typed(on_stdin=False)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert '"stopped": true' in out
    assert "stopping, with what was learned so far" in err
    assert (tmp_path / "new.safetensors").is_file()


def test_end_of_the_parent_stops_it(typed):
    process = typed(on_stdin=True)
    process.stdin.close()
    process.stdin = None
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert '"stopped": true' in out
