"""The scores over the user's strokes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from napari_seg.corrections.ledger import Scope
from napari_seg.scoring.confusion import Scores

__all__ = ["ScoreHistory", "ScorePoint"]


@dataclass(frozen=True)
class ScorePoint:
    """Mean scores at one moment.

    Attributes
    ----------
    when : float
        Seconds since 1970.
    mean_iou, mean_dice : float
        Over the classes present; NaN without any.
    """

    when: float
    mean_iou: float
    mean_dice: float


class ScoreHistory:
    """Mean scores after each stroke, for every scope."""

    def __init__(self) -> None:
        self._points: dict[Scope, list[ScorePoint]] = {}

    def points(self, scope: Scope) -> list[ScorePoint]:
        """Return the points of a scope, oldest first."""
        return self._points.get(scope, [])

    def note(self, scope: Scope, scores: Scores) -> None:
        """Add the scores of this moment, if there are any and they are others."""
        self.add(scope, ScorePoint(time.time(), scores.mean_iou, scores.mean_dice))

    def add(self, scope: Scope, point: ScorePoint) -> None:
        """Add a point, if it has a score and differs from the one before."""
        points = self._points.setdefault(scope, [])
        means = point.mean_iou, point.mean_dice
        last = (points[-1].mean_iou, points[-1].mean_dice) if points else None
        # NaN, the score of nothing, differs from itself.
        if point.mean_iou == point.mean_iou and means != last:
            points.append(point)

    def forget(self, scope: Scope) -> None:
        """Begin the curve of a scope anew."""
        self._points.pop(scope, None)
