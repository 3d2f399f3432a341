"""Fine-tuning as the user meets it: a child process, a verdict, keep or discard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from napari_seg.models.published import Fetched
from napari_seg.workspace.lesson import (
    Lesson,
    finetune_command,
    save_training_windows,
    vouched_planes,
)
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job, Runner, Task
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.training.child import FinetuneChild
    from napari_seg.training.loop import Step

__all__ = ["Curves", "Teacher", "verdict_text"]


class Curves:
    """Loss and held-out Dice over the seconds of one run."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.loss: list[float] = []
        self.holdout_seconds: list[float] = []
        self.holdout: list[float] = []

    def add(self, step: Step) -> None:
        """Take in one training step."""
        self.seconds.append(step.seconds)
        # A running mean over about ten steps: single batches jump.
        before = self.loss[-1] if self.loss else step.loss
        self.loss.append(0.9 * before + 0.1 * step.loss)
        if step.holdout is not None:
            self.holdout_seconds.append(step.seconds)
            self.holdout.append(step.holdout)


class Teacher:
    """Runs one fine-tuning at a time.

    Parameters
    ----------
    runner : Runner
        Drives the work beside the main thread.

    Attributes
    ----------
    busy : bool
        Whether a training is under way.
    curves : Curves
        Of the last run.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._task: Task | None = None
        self.busy = False
        self._child: FinetuneChild | None = None
        # Whether training has ended, and what it has learned is judged.
        self._stopped = self._over = False
        self._passed_over = 0
        self._abandoned = threading.Event()
        self.curves = Curves()

    def start(
        self,
        session: Session,
        lesson: Lesson,
        *,
        on_step: Callable[[Step], None],
        on_fetch: Callable[[Fetched], None],
        on_end: Callable[[dict[str, Any] | None, Exception | None], None],
    ) -> None:
        """Train on what the user vouches for at this moment.

        Parameters
        ----------
        session : Session
            The image and its ledger; read now, so that painting may go on.
        lesson : Lesson
            Start, budget, options.
        on_step : callable
            Called with each training step.
        on_fetch : callable
            Called while published weights are fetched.
        on_end : callable
            Called once with the child's result or the error; the result's ``model``
            is the file of the new model.
        """
        self.curves = Curves()
        planes = vouched_planes(session)
        abandoned = self._abandoned = threading.Event()

        def job() -> Job:
            from napari_seg.training.child import FinetuneChild

            with closing(lesson.choice.fetch()) as fetching:
                for state in fetching:
                    # There is nothing learned yet to stop with.
                    if self._stopped:
                        return
                    yield state
            self._passed_over = save_training_windows(
                session, planes, lesson.choice.spec, lesson.objects
            )
            child = FinetuneChild(finetune_command(session, lesson))
            if self._stopped:
                child.cancel()
            self._child = child
            # Abandoned before there was a child to kill.
            if not abandoned.is_set():
                yield from child.steps()

        def step(value: Step | Fetched) -> None:
            if isinstance(value, Fetched):
                on_fetch(value)
                return
            self.curves.add(value)
            self._over |= value.spent >= 1
            on_step(value)

        def end(error: Exception | None = None) -> None:
            child, self._child = self._child, None
            self._task, self.busy = None, False
            result = child.result if child and error is None else None
            if result is not None and self._passed_over:
                passed_over = result.get("passed_over", 0) + self._passed_over
                result = {**result, "passed_over": passed_over}
            on_end(result, error)

        self.busy, self._stopped, self._over = True, False, False
        self._task = self._runner(job(), on_item=step, on_done=end, on_error=end)

    @property
    def over(self) -> bool:
        """Whether training has ended, or is about to, and the verdict is to come."""
        return self.busy and self._over

    @property
    def phase(self) -> str:
        """What is under way besides steps of training; empty while it trains."""
        if not self.busy:
            return ""
        if not self.curves.seconds:
            return "Starting…"
        return "Comparing the old and the new model…" if self.over else ""

    def stop(self) -> None:
        """End training after this step, with what was learned so far."""
        self._stopped = self._over = True
        if self._child is not None:
            self._child.cancel()

    def abandon(self) -> None:
        """End training at once and forget it."""
        task, self._task = self._task, None
        child, self._child = self._child, None
        self.busy = False
        self._abandoned.set()
        if task is not None:
            task.cancel()
        if child is not None:
            child.kill()


def verdict_text(result: dict[str, Any]) -> str:
    """Return what the card says of a finished run, in the user's words."""
    before, after = (result[key]["mean_dice"] for key in ("before", "after"))
    lines = [str(result["sentence"])]
    if before is not None and after is not None:
        change = ""
        if result["interval"] is not None:
            low, high = result["interval"]
            change = f" (change {low:+.3f} to {high:+.3f})"
        pixels = quantity(result["pixels"])
        regions, places = (_counted(result, name) for name in ("regions", "places"))
        lines.append(
            f"Held-out Dice {before:.3f} → {after:.3f}{change}, "
            f"{pixels} px in {regions} of {places}."
        )
    earlier = result.get("earlier")
    if earlier:
        lines.append(
            f"Earlier images {earlier['before']['mean_dice']:.3f} → "
            f"{earlier['after']['mean_dice']:.3f}."
        )
    if result.get("planes_left_out"):
        lines.append(f"{_windows(result['planes_left_out'])} of planes left out.")
    if result.get("passed_over"):
        lines.append(f"{_windows(result['passed_over'])} more than memory could hold.")
    early = ", until the held-out Dice no longer rose" * result["plateau"]
    lines.append(f"{result['steps']} steps in {result['seconds']:.0f} s{early}.")
    return "\n".join(lines)


def _windows(count: int) -> str:
    return f"{count} window{'s' * (count != 1)}"


def _counted(result: dict[str, Any], name: str) -> str:
    """Return how many of something there are, "1 place" or "2 places"."""
    count = result[name]
    return f"{count} {name[:-1] if count == 1 else name}"
