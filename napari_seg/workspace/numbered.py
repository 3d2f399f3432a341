"""The numbers of the objects of a mask, kept right while both are edited."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Change
from napari_seg.objects.follow import Renumbered, follow
from napari_seg.objects.present import counted
from napari_seg.scoring.regions import Box, box_shape, pixels, relative, union
from napari_seg.workspace.steps import Marks, Step, first_of_each

__all__ = ["Numbered", "box_of"]

_AT_ONCE = 1 << 22
"""Pixels of a stroke that are taken in before it ends; also of a box of dabs."""
_REMEMBERED = 64 << 20
"""Bytes of strokes whose numbers come back with an undo."""


class Numbered:
    """Numbers of objects, and what edits of the mask make of them.

    A stroke is taken in as a whole, at its end. If it takes back the stroke before it,
    or does it again, the numbers come back, too.

    Parameters
    ----------
    ids : (..., Y, X) ndarray of uint32
        Numbers of objects, right for the mask as it is; written to.
    leading : str
        Letters of the axes before Y and X.
    last : int
        The highest number that was ever given.
    countable : (256,) ndarray of bool, optional
        Of which classes there are objects; by default of all but the background.

    Attributes
    ----------
    countable : (256,) ndarray of bool or None
        As above; it may be changed at any time.
    areas : dict
        Pixels of each object that there is.
    moved : list of ndarray
        Places (flat) whose numbers have changed; whoever saves or shows them empties
        it.
    """

    def __init__(
        self,
        ids: NDArray[np.uint32],
        leading: str,
        last: int = 0,
        countable: NDArray[np.bool_] | None = None,
    ) -> None:
        self.ids, self.leading, self.countable = ids, leading, countable
        numbers, counts = counted(ids)
        self.areas = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        self.last = max(last, *self.areas, 0)
        self.moved: list[NDArray[np.int64]] = []
        self._waiting: list[Change] = []
        self._size = 0
        # What the stroke under way has changed so far.
        self._labels: list[Marks] = []
        self._numbers: list[Marks] = []
        self._by_hand = False
        self._undo: deque[Step] = deque()
        self._redo: deque[Step] = deque()

    # Edits of the mask --------------------------------------------------------

    def note(self, change: Change, labels: NDArray[np.uint8]) -> None:
        """Take in a change of the mask, which is `labels` now."""
        if change.kind == "edit":
            self._waiting.append(change)
            self._size += pixels(change.region)
            if self._size > _AT_ONCE:
                self._take_in(labels)
            return
        self._take_in(labels)
        self._follow(change.region, change.before.labels, labels)

    def finish(self, labels: NDArray[np.uint8]) -> None:
        """Take in that a stroke is complete."""
        begun = bool(self._labels)
        boxes = self._boxes(labels)
        stroke = self._changed(boxes, labels)
        if not (begun or self._by_hand) and len(stroke.where):
            for back, forth in ((self._undo, self._redo), (self._redo, self._undo)):
                if back and back[-1].is_taken_back(stroke, labels):
                    step = back.pop()
                    self._restore(step, labels)
                    forth.append(step.turned(self.areas))
                    self._forget_stroke()
                    return
        self._take_in(labels, boxes)
        self._remember(labels)

    def forget(self) -> None:
        """Let no undo bring numbers back any more."""
        self._undo.clear()
        self._redo.clear()

    def _take_in(
        self,
        labels: NDArray[np.uint8],
        boxes: list[tuple[Box, NDArray[np.uint8]]] | None = None,
    ) -> None:
        boxes = self._boxes(labels) if boxes is None else boxes
        self._waiting, self._size = [], 0
        if boxes:
            self._labels.append(self._changed(boxes, labels))
        if not self._by_hand:
            for box, before in boxes:
                self._numbers.append(self._follow(box, before, labels))

    def _boxes(self, labels: NDArray[np.uint8]) -> list[tuple[Box, NDArray[np.uint8]]]:
        """Return the boxes of a stroke, and the mask in each of them before it."""
        found = []
        for changes in _grouped(self._waiting):
            box = changes[0].region
            for change in changes:
                box = union(box, change.region) or box
            before = labels[box].copy()
            for change in reversed(changes):
                before[relative(change.region, box)] = change.before.labels
            found.append((box, before))
        return found

    def _changed(
        self, boxes: list[tuple[Box, NDArray[np.uint8]]], labels: NDArray[np.uint8]
    ) -> Marks:
        marks = []
        for box, before in boxes:
            changed = before != labels[box]
            marks.append(Marks(_flat(changed, box, labels.shape), before[changed]))
        return first_of_each(marks, np.uint8)

    def _follow(
        self, box: Box, before: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> Marks:
        done = follow(
            self.ids,
            labels,
            box,
            before,
            self.last,
            self.leading,
            self.countable,
        )
        return self._account(done)

    def _account(self, done: Renumbered) -> Marks:
        self.last = done.last
        return self.count(done.where, done.before)

    def count(self, where: NDArray[np.int64], before: NDArray[np.uint32]) -> Marks:
        """Take in that the numbers of these pixels were others before.

        Parameters
        ----------
        where : (N,) ndarray of int64
            Places in the flattened array; each once.
        before : (N,) ndarray of uint32
            The numbers that they had.
        """
        if len(where):
            self.moved.append(where)
            for numbers, sign in ((before, -1), (self.ids.reshape(-1)[where], 1)):
                self._add(numbers, sign)
        return Marks(where, before)

    def _add(self, numbers: NDArray[np.uint32], sign: int) -> None:
        found, counts = counted(numbers)
        for number, count in zip(found.tolist(), counts.tolist(), strict=True):
            self.areas[number] = self.areas.get(number, 0) + sign * count
            if not self.areas[number]:
                del self.areas[number]
        self.last = max(self.last, int(numbers.max(initial=0)))

    # Undo ---------------------------------------------------------------------

    def begin_by_hand(self, marks: Marks) -> None:
        """Take in that somebody has changed numbers; what follows is their doing.

        Until the stroke ends, edits of the mask follow the numbers, not the other way
        round.
        """
        self._by_hand = True
        self._numbers.append(marks)

    def _remember(self, labels: NDArray[np.uint8]) -> None:
        step = Step.of(
            first_of_each(self._labels, np.uint8),
            first_of_each(self._numbers, np.uint32),
            labels,
            self.ids,
            self.areas,
        )
        self._forget_stroke()
        if step is None:
            return
        self._redo.clear()
        self._undo.append(step)
        total = sum(each.nbytes for each in self._undo)
        while total > _REMEMBERED:
            total -= self._undo.popleft().nbytes

    def _forget_stroke(self) -> None:
        self._labels, self._numbers, self._waiting = [], [], []
        self._size = 0
        self._by_hand = False

    def _restore(self, step: Step, labels: NDArray[np.uint8]) -> None:
        """Bring the numbers from before a stroke back."""
        flat = self.ids.reshape(-1)
        now = flat[step.where]
        # One that was merged or deleted since does not come back.
        lost = step.lost(self.areas)
        wanted = step.moved | (now == step.numbers[1])
        wanted &= (now != step.numbers[0]) & ~lost
        where, before = step.where[wanted], now[wanted]
        flat[where] = step.numbers[0][wanted]
        self.count(where, before)
        anew = step.where[step.moved & lost]
        if len(anew):
            box = box_of(anew, labels.shape)
            before_labels = labels[box].copy()
            inside = np.unravel_index(anew, labels.shape)
            at = tuple(i - s.start for i, s in zip(inside, box, strict=True))
            before_labels[at] = 0
            self._follow(box, before_labels, labels)

    def recalled(
        self, where: NDArray[np.int64], before: NDArray[np.uint32]
    ) -> NDArray[np.uint8] | None:
        """Return the classes that pixels had when they had the numbers they have now.

        They are known where somebody has just taken back the last edit by hand.
        """
        now = self.ids.reshape(-1)[where]
        for back in (self._undo, self._redo):
            if back and np.array_equal(back[-1].where, where):
                earlier, later = back[-1].numbers
                if np.array_equal(earlier, now) and np.array_equal(later, before):
                    return back[-1].labels[0]
        return None


def _grouped(changes: Sequence[Change]) -> Iterable[list[Change]]:
    """Join changes that follow each other, while their box stays small."""
    group: list[Change] = []
    around: Box | None = None
    for change in changes:
        both = union(around, change.region)
        assert both is not None
        if group and pixels(both) > max(_AT_ONCE, pixels(change.region)):
            yield group
            group, both = [], change.region
        group.append(change)
        around = both
    if group:
        yield group


def _flat(
    mask: NDArray[np.bool_], box: Box, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the places of the pixels of a box in the flattened array."""
    assert mask.shape == box_shape(box)
    at = (place + s.start for place, s in zip(np.nonzero(mask), box, strict=True))
    where: NDArray[np.int64] = np.ravel_multi_index(tuple(at), shape).astype(np.int64)
    return where


def box_of(where: NDArray[np.int64], shape: tuple[int, ...]) -> Box:
    """Return the smallest box around pixels of a flattened array."""
    return tuple(
        slice(int(at.min()), int(at.max()) + 1) for at in np.unravel_index(where, shape)
    )
