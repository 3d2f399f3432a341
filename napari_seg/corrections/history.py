"""What the journal still knows: moments to go back to, strokes to undo.

The journal holds each change with the pixels before and after it.  So an earlier mask
is the present one with every later change taken back, newest first: memory is that of
one mask and one segment of the journal, however long the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Kind
from napari_seg.corrections.records import StoredRecord, arrays_of
from napari_seg.corrections.store import ImageStore, StoredMask
from napari_seg.scoring.regions import (
    Box,
    box_shape,
    hull,
    intersection,
    pixels,
    relative,
)

__all__ = [
    "Moment",
    "Step",
    "Stroke",
    "changed_since",
    "last_strokes",
    "moments",
    "state_at",
]

Step: TypeAlias = tuple[Box, NDArray[np.uint8], NDArray[np.uint8]]
"""A box of the mask, its labels before and after."""
Stroke: TypeAlias = list[Step]
"""The steps of one stroke, oldest first; boxes may overlap."""

_STROKE_BYTES = 64 << 20
"""Memory for strokes; a fill of a large image takes twice its pixels."""
_COMPARED = 1 << 24
"""Pixels of the largest strokes that are compared, to find those that were undone."""


@dataclass(frozen=True)
class Moment:
    """A stroke, a prediction or a review, as a place in time to go back to.

    Attributes
    ----------
    when : float
        When it ended, in seconds since 1970.
    kind : {"edit", "predict", "accept", "unaccept", "adopt", "revert"}
        What happened.
    pixels : int
        Pixels that got another label or flag; twice if they did so twice.
    strokes : int
        Strokes in it; 0 if it is no edit.
    position : (int, int)
        Where in the journal it ended.  Opaque, but it grows with time.
    """

    when: float
    kind: Kind
    pixels: int
    strokes: int
    position: tuple[int, int]


def moments(store: ImageStore, pause: float = 0.0) -> list[Moment]:
    """Return what happened to the mask, as far as the journal knows it, oldest first.

    Tiles of one prediction are one moment.  Pixels are not decoded, but the files
    are read: call it beside the main thread.

    Parameters
    ----------
    store : ImageStore
        The mask; changes that are not on disk yet are not listed.
    pause : float
        Strokes less than this many seconds apart become one moment.  By default
        each is one of its own.
    """
    found: list[Moment] = []
    last: StoredRecord | None = None
    for place, record in store.stored():
        stroke = int(record.kind == "edit")
        new = Moment(record.time, record.kind, record.changed, stroke, place)
        same = last is not None and _same_stroke(last, record)
        if same or (stroke and found and _soon_after(found[-1], new, pause)):
            new = replace(
                new,
                pixels=found[-1].pixels + new.pixels,
                strokes=found[-1].strokes + (0 if same else stroke),
            )
            found.pop()
        found.append(new)
        last = record
    return found


def _same_stroke(earlier: StoredRecord, later: StoredRecord) -> bool:
    """Whether two neighbouring records are parts of one stroke, or of one prediction.

    Numbers begin anew with each run of the program.
    """
    same_run = earlier.seq < later.seq
    return same_run and (earlier.kind, earlier.stroke) == (later.kind, later.stroke)


def _soon_after(earlier: Moment, later: Moment, pause: float) -> bool:
    return earlier.kind == later.kind and later.when - earlier.when < pause


def state_at(store: ImageStore, moment: Moment | None) -> StoredMask:
    """Return the mask as it was right after a moment; nothing is changed.

    Changes that are not on disk yet are unknown to it: flush the store first.  It
    reads the whole mask: call it beside the main thread.

    Parameters
    ----------
    store : ImageStore
        The mask.
    moment : Moment or None
        As :func:`moments` returned it; None is before everything that is known,
        which is an empty mask unless the journal has forgotten its beginning.
    """
    start = (0, 0) if moment is None else moment.position
    mask = vars(store.load())
    for place, record in store.stored(newest_first=True):
        if place <= start:
            break
        for name, values in arrays_of(record.before()):
            mask[name][record.region] = values
    return StoredMask(**mask)


def changed_since(store: ImageStore, moment: Moment | None) -> Box | None:
    """Return the smallest box with every change after a moment, None without any.

    What lies outside is now as it was then: to go back, this box is enough.
    """
    start = (0, 0) if moment is None else moment.position
    later = (record.region for place, record in store.stored() if place > start)
    return hull(later)


def last_strokes(
    store: ImageStore, count: int = 100, labels: NDArray[np.uint8] | None = None
) -> list[Stroke]:
    """Return the strokes that can be undone, oldest first.

    These are the newest strokes; it ends at the first one that something else, as a
    prediction, came after in the same place, or whose pixels are not those of the
    mask.  Strokes that were undone, and their undoing, are left out.

    Parameters
    ----------
    store : ImageStore
        The mask.
    count : int
        How many strokes, at most.
    labels : ndarray of uint8, optional
        The mask as it is, if it is in memory; it is not changed.

    Returns
    -------
    list of list of (box, before, after)
        Taking the steps back, newest first, gives earlier masks.
    """
    present = _Overlay(store.load().labels if labels is None else labels)
    found: list[Stroke] = []
    room = _STROKE_BYTES
    # Twice as many, since an undone stroke and its undoing cancel out.
    for steps in _undoable(store, present):
        room -= sum(2 * before.size for _, before, _ in steps)
        if room < 0 or len(found) >= 2 * count:
            break
        found.insert(0, steps)
    kept = _without_undone(found)
    return kept[max(0, len(kept) - count) :]


def _undoable(store: ImageStore, present: _Overlay) -> Iterator[Stroke]:
    """Yield whole strokes, newest first, while they match the mask."""
    steps: Stroke = []
    later: StoredRecord | None = None
    elsewhere: list[Box] = []
    for _, record in store.stored(newest_first=True):
        if steps and later is not None and not _same_stroke(record, later):
            yield steps
            steps = []
        later = record
        if record.kind in ("predict", "adopt", "revert"):
            elsewhere.append(record.region)
        if record.kind != "edit":
            continue
        box, after = record.region, record.after().labels
        if any(intersection(box, other) for other in elsewhere):
            return
        if not np.array_equal(present[box], after):
            return
        before = record.before().labels
        present[box] = before
        steps.insert(0, (box, before, after))
    if steps:
        yield steps


def _without_undone(strokes: list[Stroke]) -> list[Stroke]:
    kept: list[Stroke] = []
    for stroke in strokes:
        if kept and _undoes(stroke, kept[-1]):
            kept.pop()
        else:
            kept.append(stroke)
    return kept


def _undoes(later: Stroke, earlier: Stroke) -> bool:
    """Whether two strokes, one after the other, leave everything as it was."""
    box, other = (hull(place for place, _, _ in each) for each in (earlier, later))
    if box is None or box != other or pixels(box) > _COMPARED:
        return False
    mask = np.zeros(box_shape(box), np.uint8)
    for place, before, _ in reversed([*earlier, *later]):
        mask[relative(place, box)] = before
    start = mask.copy()
    for place, _, after in (*earlier, *later):
        mask[relative(place, box)] = after
    return np.array_equal(mask, start)


class _Overlay:
    """An array that is read, with boxes of it that are written beside it."""

    def __init__(self, under: NDArray[np.uint8]) -> None:
        self._under = under
        # Zeros that nobody writes to take no memory.
        self._over = np.zeros(under.shape, np.uint8)
        self._written = np.zeros(under.shape, np.bool_)

    def __getitem__(self, box: Box) -> NDArray[np.uint8]:
        return np.where(self._written[box], self._over[box], self._under[box])

    def __setitem__(self, box: Box, values: NDArray[np.uint8]) -> None:
        self._over[box] = values
        self._written[box] = True
