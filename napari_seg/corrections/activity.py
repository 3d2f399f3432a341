"""The user's own record of work: one line for each stroke, prediction and review.

``activity.csv`` lies beside the mask of an image, for the user to plot or to add up:
how long the annotation took, how the scores rose meanwhile.  Nothing else depends on
it, so a line that cannot be written is tried again later and never reported as an
error of the user's work.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Change
from napari_seg.corrections.packed import CORRECTED

__all__ = [
    "PAUSE",
    "Activity",
    "ActivityLog",
    "Summary",
    "corrected_per_class",
    "read_activity",
    "summarize",
]

_LOG = logging.getLogger(__name__)
PAUSE = 60.0
"""Seconds without an action after which the user counts as away."""
_SCORES = ("whole_iou", "whole_dice", "reviewed_iou", "reviewed_dice")
_COLUMNS = ("time", "seconds", "kind", "changed", "corrected", "accepted", *_SCORES)


@dataclass(frozen=True)
class Activity:
    """One finished action, and how the mask stood after it.

    Attributes
    ----------
    kind : str
        "edit" (a stroke), "predict", "accept", "unaccept", "adopt" (a truth from
        elsewhere), "revert" or "finetune".
    changed : mapping of str to int
        Corrected pixels of each class that came with it, less those that went:
        by class name, as in :func:`corrected_per_class`.  Classes with 0 are left out.
    corrected, accepted : int
        Pixels in all, afterwards.
    whole_iou, whole_dice, reviewed_iou, reviewed_dice : float
        Mean scores of the scopes "whole" and "reviewed"; NaN where there is none.
    time : datetime
        When it ended, with its time zone.
    seconds : float
        Work since the action before, which may be of another kind; 0 after a pause
        above :data:`PAUSE`, and at first.  :meth:`ActivityLog.append` fills it in.
    """

    kind: str
    changed: Mapping[str, int] = field(default_factory=dict)
    corrected: int = 0
    accepted: int = 0
    whole_iou: float = math.nan
    whole_dice: float = math.nan
    reviewed_iou: float = math.nan
    reviewed_dice: float = math.nan
    time: datetime = field(default_factory=lambda: datetime.now().astimezone())
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What a record of work adds up to.

    Attributes
    ----------
    seconds : float
        Annotation time: pauses above :data:`PAUSE` are left out.
    strokes : int
        Number of strokes.
    corrected : mapping of str to int
        Corrected pixels of each class.
    """

    seconds: float
    strokes: int
    corrected: Mapping[str, int]


class ActivityLog:
    """Appends to an ``activity.csv``; a thread of its own meets the disk.

    Parameters
    ----------
    path : Path
        The file; it is made with the first action.
    retry_seconds : float
        How often failed writing is tried again.
    """

    def __init__(self, path: Path, retry_seconds: float = 10.0) -> None:
        self._path = path
        self._retry_seconds = retry_seconds
        self._last: datetime | None = None
        self._waiting: deque[str] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._failing = False
        self._thread: threading.Thread | None = None

    def append(self, activity: Activity) -> Activity:
        """Write an action, with its seconds of work; returns at once.

        After :meth:`close` nothing is written.
        """
        pause = (activity.time - (self._last or activity.time)).total_seconds()
        self._last = activity.time
        complete = replace(activity, seconds=pause if 0 <= pause <= PAUSE else 0.0)
        with self._news:
            if not self._closing:
                self._waiting.append(_line(complete))
                self._news.notify_all()
                self._start()
        return complete

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="napari-seg activity", daemon=True
            )
            self._thread.start()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything is written, or writing fails; return whether it is."""
        with self._news:
            self._news.wait_for(lambda: not self._waiting or self._failing, timeout)
            return not self._waiting

    def close(self, timeout: float = 10.0) -> None:
        """Write what is left, with a last attempt if writing fails, and stop."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closing)
                lines = list(self._waiting)
            if lines:
                self._try(lines)
            with self._news:
                if self._closing and (self._failing or not self._waiting):
                    return
                if self._failing:
                    self._news.wait(self._retry_seconds)

    def _try(self, lines: list[str]) -> None:
        try:
            _append(self._path, "".join(lines))
        except OSError as error:
            if not self._failing:
                _LOG.warning("The record of work %s waits (%s).", self._path, error)
            failing = True
        else:
            failing = False
        with self._news:
            self._failing = failing
            for _ in () if failing else lines:
                self._waiting.popleft()
            self._news.notify_all()


def _append(path: Path, text: str) -> None:
    with path.open("a+b") as file:
        whole = _whole(file)
        # A line that a crash or a full disk tore is no line.
        file.truncate(whole)
        head = "" if whole else _row(_COLUMNS)
        try:
            file.write((head + text).encode(errors="replace"))
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), whole)
            raise


def _whole(file: io.BufferedRandom) -> int:
    """Return where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - (1 << 16))
    file.seek(start)
    return start + file.read().rfind(b"\n") + 1


def _line(activity: Activity) -> str:
    scores = (getattr(activity, name) for name in _SCORES)
    changed = {name: int(n) for name, n in activity.changed.items() if n}
    return _row(
        (
            activity.time.isoformat(timespec="milliseconds"),
            f"{activity.seconds:.3f}",
            activity.kind,
            json.dumps(changed, ensure_ascii=False),
            int(activity.corrected),
            int(activity.accepted),
            *("" if math.isnan(score) else f"{score:.6f}" for score in scores),
        )
    )


def _row(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def read_activity(path: Path) -> list[Activity]:
    """Return the actions in a file, oldest first; empty if there is none.

    Lines that are torn or of another kind are passed over.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return []
    whole = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace")
    found = []
    # No field holds a line break, so an open quote costs its own line only.
    for line in whole.split("\n"):
        try:
            (row,) = csv.reader([line])
            found.append(_activity(dict(zip(_COLUMNS, row, strict=True))))
        except (csv.Error, TypeError, ValueError, AttributeError):
            continue
    return found


def _activity(row: Mapping[str, str]) -> Activity:
    return Activity(
        kind=row["kind"],
        changed={str(k): int(v) for k, v in json.loads(row["changed"]).items()},
        corrected=int(row["corrected"]),
        accepted=int(row["accepted"]),
        **{name: float(row[name] or math.nan) for name in _SCORES},
        time=datetime.fromisoformat(row["time"]),
        seconds=float(row["seconds"]),
    )


def summarize(activities: Iterable[Activity]) -> Summary:
    """Add up a record of work."""
    seconds, strokes, corrected = 0.0, 0, Counter[str]()
    for activity in activities:
        seconds += activity.seconds
        strokes += activity.kind == "edit"
        corrected.update(activity.changed)
    return Summary(seconds, strokes, {k: n for k, n in corrected.items() if n})


def corrected_per_class(change: Change) -> NDArray[np.int64]:
    """Return the corrected pixels of each label that a change brought or took.

    Returns
    -------
    ndarray of int64, (256,)
        Corrected pixels after the change less those before it; add them up over the
        changes of a stroke.  Cost follows the box.
    """
    counts = np.zeros(256, np.int64)
    for pixels, sign in ((change.after, 1), (change.before, -1)):
        corrected = pixels.labels[(pixels.state & CORRECTED) > 0]
        counts += sign * np.bincount(corrected, minlength=256)
    return counts
