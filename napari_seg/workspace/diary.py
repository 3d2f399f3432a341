"""The user's work on one image, action by action."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_seg.corrections.activity import (
    Activity,
    ActivityLog,
    Summary,
    corrected_per_class,
    read_activity,
    summarize,
)
from napari_seg.corrections.change import Change
from napari_seg.corrections.ledger import Ledger, Scope
from napari_seg.scoring.confusion import Scores
from napari_seg.workspace.history import ScoreHistory, ScorePoint

__all__ = ["Diary"]


class Diary:
    """Writes the record of work, and gives back what earlier days held.

    Parameters
    ----------
    path : Path
        The ``activity.csv`` of the image.
    history : ScoreHistory
        Gets the scores of earlier days.
    read_only : bool
        Nothing is written.
    """

    def __init__(self, path: Path, history: ScoreHistory, read_only: bool) -> None:
        self.path = path
        self._log = None if read_only else ActivityLog(path)
        self._activities = read_activity(path)
        self._kind = ""
        self._changed = np.zeros(256, np.int64)
        for activity in self._activities:
            _add_scores(history, activity)

    @property
    def summary(self) -> Summary:
        """Time, strokes and corrected pixels of all days."""
        return summarize(self._activities)

    def note(self, change: Change) -> None:
        """Take in a part of an action."""
        if change.kind != "predict" or not self._kind:
            self._kind = change.kind
        # Predictions correct nothing, and their boxes are large.
        if change.kind != "predict":
            self._changed += corrected_per_class(change)

    def finish(
        self,
        ledger: Ledger,
        classes: list[str],
        scores: Mapping[Scope, Scores],
        kind: str = "",
    ) -> None:
        """Write the action that the changes noted so far make.

        Parameters
        ----------
        ledger : Ledger
            The mask after it.
        classes : list of str
            Names of the classes.
        scores : mapping of Scope to Scores
            Of the scopes "whole" and "reviewed".
        kind : str
            What happened, where it is no change of the mask.
        """
        kind = kind or self._kind
        if not kind:
            return
        whole, reviewed = scores["whole"], scores["reviewed"]
        activity = Activity(
            kind=kind,
            changed={
                classes[label] if label < len(classes) else str(label): int(count)
                for label, count in enumerate(self._changed)
                if count
            },
            corrected=ledger.corrected_pixels,
            accepted=ledger.accepted_pixels,
            whole_iou=whole.mean_iou,
            whole_dice=whole.mean_dice,
            reviewed_iou=reviewed.mean_iou,
            reviewed_dice=reviewed.mean_dice,
        )
        if self._log is not None:
            activity = self._log.append(activity)
        self._activities.append(activity)
        self._kind = ""
        self._changed[:] = 0

    def flush(self) -> None:
        """Wait until everything is written."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Write what is left, and stop."""
        if self._log is not None:
            self._log.close()


def _add_scores(history: ScoreHistory, activity: Activity) -> None:
    when = activity.time.timestamp()
    whole = ScorePoint(when, activity.whole_iou, activity.whole_dice)
    history.add("whole", whole)
    reviewed = ScorePoint(when, activity.reviewed_iou, activity.reviewed_dice)
    history.add("reviewed", reviewed)
