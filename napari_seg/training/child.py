"""Fine-tuning in a child process, so that the viewer outlives whatever happens there.

The child is the command that a user can type, ``napari-seg finetune``, with two more
options: ``--progress json`` writes one JSON line on standard error for each step, and
``--cancel-on-stdin`` ends training early, with what was learned so far, at the line
``cancel`` or when standard input closes, as it does when the parent dies.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from napari_seg.errors import InputError, TrainingError
from napari_seg.training.loop import Step

__all__ = ["FinetuneChild", "FinetuneCommand", "step_from_json", "step_to_json"]

#: Lines of standard error that are kept as the reason of a crash.
_LAST_LINES = 12
_KILLED = -int(getattr(signal, "SIGKILL", 9))


@dataclass(frozen=True)
class FinetuneCommand:
    """What to train.

    Attributes
    ----------
    model : Path
        The start.
    output : Path
        Where the new model goes.
    project : Path
        Project folder that holds ``windows/images`` and ``windows/labels``.
    minutes : float
        Time budget.
    steps : int or None
        Budget in steps, instead of time.
    device : str
        As :func:`napari_seg.finetune` takes it.
    options : tuple of str
        Further arguments of the command line.
    """

    model: Path
    output: Path
    project: Path
    minutes: float = 1.0
    steps: int | None = None
    device: str = "auto"
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the command line, the interpreter first."""
        budget = (
            ["--minutes", f"{self.minutes:g}"]
            if self.steps is None
            else ["--steps", str(self.steps)]
        )
        return [
            *(sys.executable, "-m", "napari_seg", "finetune"),
            *("-m", str(self.model), "--project", str(self.project)),
            *("-o", str(self.output), *budget, "--device", self.device),
            *("--json", "--progress", "json", "--cancel-on-stdin", *self.options),
        ]


def step_to_json(step: Step) -> str:
    """Return a step as the line that the child writes."""
    values = {field.name: getattr(step, field.name) for field in fields(step)}
    return json.dumps({"event": "step", **values})


def step_from_json(line: str) -> Step | None:
    """Return the step in a line, or None where the line is something else."""
    if not line.startswith('{"event": "step"'):
        return None
    values = json.loads(line)
    return Step(**{field.name: values[field.name] for field in fields(Step)})


class FinetuneChild:
    """One run of the child process.

    Parameters
    ----------
    command : FinetuneCommand
        What to train; started by :meth:`steps`.

    Attributes
    ----------
    result : dict or None
        The command's JSON object, once :meth:`steps` has ended.
    """

    def __init__(self, command: FinetuneCommand) -> None:
        self.command = command
        self.result: dict[str, Any] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._killed = False

    def steps(self) -> Iterator[Step]:
        """Start the child and yield each of its steps; kill it when closed early.

        Raises
        ------
        InputError
            If the child refuses what it was given.
        TrainingError
            If it crashed, ran out of memory or was killed.
        """
        process = subprocess.Popen(
            self.command.arguments(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._process = process
        if self._cancelled:
            self.cancel()
        if self._killed:
            self.kill()
        last: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            for line in process.stderr:
                step = step_from_json(line)
                if step is not None:
                    yield step
                elif line.strip():
                    last.append(line.strip())
            output = process.stdout.read()
            self._finish(process.wait(), output, list(last))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def cancel(self) -> None:
        """Ask the child to stop with what was learned so far; safe from any thread."""
        self._cancelled = True
        process = self._process
        if process is None or process.poll() is not None or process.stdin is None:
            return
        try:
            process.stdin.write("cancel\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It ended in this very moment: there is nothing left to stop.
            return

    def kill(self) -> None:
        """End the child at once; what it has learned is lost."""
        self._killed = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _finish(self, status: int, output: str, last: list[str]) -> None:
        if status == 0:
            self.result = json.loads(output)
            return
        said = last[-1] if last else "it left no message"
        if status == 2:
            raise InputError(said)
        if status == _KILLED:
            raise TrainingError(
                "Training was killed from outside, most likely because the computer "
                "ran out of memory: try a smaller crop or batch under Expert. The "
                "model and all corrections are unchanged."
            )
        raise TrainingError(
            f"Training stopped unexpectedly (exit status {status}): {said}. The model "
            "and all corrections are unchanged."
        )
