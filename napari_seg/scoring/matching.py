"""Which predicted object is which true one, kept up to date as pixels move.

Two objects match if their IoU is above a threshold of at least a half.  Then no
object has two matches (Kirillov et al. 2019, arXiv:1801.00868, Sec. 4.1), and the
match of an object can only be the one that it shares most pixels with.  So a change
concerns the objects in the changed pixels and their partners, and no others: the
IoU of any other pair is what it was.
"""

from __future__ import annotations

from collections import Counter

from napari_seg.scoring.overlap import Overlaps
from napari_seg.scoring.sides import CountedObject, Rules, Side

__all__ = ["Matching"]

#: An IoU above a half is a whole number of these, so that sums of them are exact.
_IOU_UNITS = 2**53


class Matching:
    """A sparse table of overlaps, the matches in it, and their sums per class.

    Parameters
    ----------
    rules : Rules
        What the labels mean.

    Attributes
    ----------
    matched : Counter
        Matches per class.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._sides = Side(0), Side(1)
        self._ious: Counter[int] = Counter()
        self.matched: Counter[int] = Counter()

    @property
    def rules(self) -> Rules:
        """What the labels mean."""
        return self._rules

    @property
    def predicted_alone(self) -> Counter[int]:
        """Predicted objects without a match per class: false positives."""
        return self._sides[0].missed

    @property
    def true_alone(self) -> Counter[int]:
        """True objects without a match per class: false negatives."""
        return self._sides[1].missed

    def iou_sum(self, class_id: int) -> float:
        """Return the sum of the IoU of the matches of a class, correctly rounded."""
        return self._ious[class_id] / _IOU_UNITS

    def set_rules(self, rules: Rules) -> None:
        """Read the table by other rules; the cost follows the number of objects."""
        self._rules = rules
        for side in self._sides:
            side.changed |= side.entries.keys()
        self.settle()

    def move(self, overlaps: Overlaps, sign: int = 1) -> None:
        """Add pixels (1) or remove them (-1); :meth:`settle` makes them count."""
        columns = (column.tolist() for column in overlaps)
        for predicted, true, label, true_label, pixels in zip(*columns, strict=True):
            labels = label << 8 | true_label
            self._sides[0].move(predicted, true << 16 | labels, sign * pixels)
            self._sides[1].move(true, predicted << 16 | labels, sign * pixels)

    def settle(self) -> None:
        """Match the objects whose pixels moved; the cost follows their number."""
        waiting = [set(side.changed) for side in self._sides]
        for side in self._sides:
            for own in side.changed:
                partner = self._loosen(side, own)
                if partner:
                    waiting[1 - side.number].add(partner)
        for side in self._sides:
            side.measure(self._rules)
        for side in self._sides:
            for own in waiting[side.number]:
                self._match(side, own)
        for side in self._sides:
            for own in waiting[side.number]:
                side.judge(own, self._rules.threshold)

    def _loosen(self, side: Side, own: int) -> int:
        """Count an object out, with its match; return the id of that, or 0."""
        partner = side.partner.pop(own, 0)
        if not partner:
            side.forget(own)
            return 0
        other = self._sides[1 - side.number]
        del other.partner[partner]
        # The objects are as they were when they were counted in.
        self._count(side.objects[own], other.objects[partner], -1)
        return partner

    def _match(self, side: Side, own: int) -> None:
        """Find the match of an object, and count both in."""
        other = self._sides[1 - side.number]
        one = side.objects.get(own)
        if one is None or not one.best or own in side.partner:
            return
        match = other.objects[one.best]
        if one.class_id != match.class_id or _iou(one, match) <= self._rules.threshold:
            return
        other.forget(one.best)
        side.partner[own] = one.best
        other.partner[one.best] = own
        self._count(one, match, 1)

    def _count(self, one: CountedObject, match: CountedObject, sign: int) -> None:
        self.matched[one.class_id] += sign
        self._ious[one.class_id] += sign * int(_iou(one, match) * _IOU_UNITS)


def _iou(one: CountedObject, match: CountedObject) -> float:
    return one.overlap / (one.known + match.known - one.overlap)
