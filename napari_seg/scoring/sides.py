"""The objects of one mask, as their pixels make them: area, class and best partner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from napari_seg.errors import InputError
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["CountedObject", "Rules", "Side"]


@dataclass(frozen=True)
class Rules:
    """What the labels of a pixel mean, and what matches.

    Attributes
    ----------
    n_classes : int
        Number of classes K.
    predicted, true : tuple of int
        Class of each of the 256 labels of a pixel in the prediction and in the truth;
        255 for unknown.
    threshold : float
        IoU above which two objects match.
    """

    n_classes: int
    predicted: tuple[int, ...]
    true: tuple[int, ...]
    threshold: float

    @classmethod
    def of(cls, n_classes: int | None, ignore: int, threshold: float) -> Rules:
        """Return the rules for `n_classes`, or for objects that are all of one class.

        Raises
        ------
        InputError
            If matches would not be unique at this threshold, or there could be none.
        """
        if not 0.5 <= threshold < 1:
            raise InputError(
                f"The threshold is {threshold}; it can be 0.5 and more, so that no "
                "object has two matches, and must be below 1."
            )
        if n_classes is None:
            classes = [0] * UNKNOWN + [UNKNOWN]
        else:
            classes = [i if i < n_classes else UNKNOWN for i in range(UNKNOWN + 1)]
        true = [UNKNOWN if i == ignore else known for i, known in enumerate(classes)]
        return cls(n_classes or 1, tuple(classes), tuple(true), threshold)


class CountedObject(NamedTuple):
    """One object as its pixels make it.

    Attributes
    ----------
    pixels, known : int
        All of its pixels, and those whose class is known in both masks.
    class_id : int
        The class that most pixels have in its own mask, of several the first; 255 if
        all are unknown.
    best, overlap : int
        The object in the other mask that shares most known pixels with it, and how
        many; both 0 without one.
    """

    pixels: int
    known: int
    class_id: int
    best: int
    overlap: int


@dataclass
class Side:
    """The objects of one mask.

    Attributes
    ----------
    number : int
        0 for the prediction, 1 for the truth.
    entries : dict
        Per object id the part of the table that is about it: pixels per
        ``other id << 16 | predicted label << 8 | true label``.
    objects : dict
        What they were at the last :meth:`Matching.settle`.
    partner : dict
        Id of the match in the other mask.
    alone : dict
        Class of each object without a match that counts.
    missed : Counter
        How many of those there are per class.
    changed : set
        Ids of objects whose entries changed since.
    """

    number: int
    entries: dict[int, Counter[int]] = field(default_factory=dict)
    objects: dict[int, CountedObject] = field(default_factory=dict)
    partner: dict[int, int] = field(default_factory=dict)
    alone: dict[int, int] = field(default_factory=dict)
    missed: Counter[int] = field(default_factory=Counter)
    changed: set[int] = field(default_factory=set)

    def move(self, own: int, key: int, pixels: int) -> None:
        """Add pixels, or with a negative number remove them."""
        if not own:
            return
        self.changed.add(own)
        entries = self.entries.setdefault(own, Counter())
        entries[key] += pixels
        if not entries[key]:
            del entries[key]

    def measure(self, rules: Rules) -> None:
        """Bring the changed objects up to date; those without pixels vanish."""
        for own in self.changed:
            if self.entries[own]:
                self.objects[own] = _measured(self.entries[own], self.number, rules)
            else:
                del self.entries[own]
                self.objects.pop(own, None)
        self.changed.clear()

    def forget(self, own: int) -> None:
        """Count an object without a match out."""
        class_id = self.alone.pop(own, None)
        if class_id is not None:
            self.missed[class_id] -= 1

    def judge(self, own: int, threshold: float) -> None:
        """Count an object in if it has no match, and is not mostly unknown."""
        found = self.objects.get(own)
        if found is None or own in self.partner:
            return
        if found.pixels - found.known > threshold * found.pixels:
            return
        self.alone[own] = found.class_id
        self.missed[found.class_id] += 1


def _measured(entries: Counter[int], number: int, rules: Rules) -> CountedObject:
    votes: Counter[int] = Counter()
    overlaps: Counter[int] = Counter()
    known = 0
    for key, pixels in entries.items():
        classes = rules.predicted[key >> 8 & 255], rules.true[key & 255]
        votes[classes[number]] += pixels
        if UNKNOWN not in classes:
            known += pixels
            overlaps[key >> 16] += pixels
    total = votes.total()
    # What is unknown has no vote, and what is no object is no partner.
    del votes[UNKNOWN], overlaps[0]
    class_id = min(votes, key=lambda i: (-votes[i], i), default=UNKNOWN)
    best = max(overlaps, key=overlaps.__getitem__, default=0)
    return CountedObject(total, known, class_id, best, overlaps[best])
