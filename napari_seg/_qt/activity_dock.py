"""What is under way, in napari's own list of activities."""

from __future__ import annotations

from typing import Any

from napari.utils import progress
from qtpy.QtCore import QTimer

from napari_seg.models.published import Fetched
from napari_seg.workspace import Progress, Workspace

__all__ = ["ActivityDock"]

_STEPS = 100


class ActivityDock:
    """Mirrors predictions and trainings into napari's activity dock.

    It stays there when the segmentation dock is hidden behind another one.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._prediction = _Bar("Predicting")
        self._training = _Bar("Fine-tuning")
        workspace.predicting.connect(self._show_prediction)
        workspace.training.connect(self._show_training)

    def stop(self) -> None:
        """Take both out of the list."""
        self._prediction.end()
        self._training.end()

    def _show_prediction(self, told: Progress | Fetched | None) -> None:
        self._prediction.show(told)

    def _show_training(self, told: Any) -> None:
        self._training.show(told)


class _Bar:
    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._told: Any = None
        self._soon = QTimer()
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._show)

    def show(self, told: Any) -> None:
        if told is None:
            self.end()
            return
        self._told = told
        if not self._soon.isActive():
            # Not here and now: napari lets other events happen when it makes a bar.
            self._soon.start(0)

    def _show(self) -> None:
        told = self._told
        title = "Fetching" if isinstance(told, Fetched) else self._title
        if self._bar is None:
            self._bar = progress(total=_STEPS, desc=title)
        # A training step tells how much of the budget it has spent.
        share: float = told.spent if hasattr(told, "spent") else told.share
        step = round(_STEPS * min(max(share, 0.0), 1.0))
        if step != self._bar.n:
            self._bar.update(step - self._bar.n)

    def end(self) -> None:
        self._soon.stop()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
