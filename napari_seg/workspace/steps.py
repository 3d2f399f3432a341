"""What a stroke has changed, pixel by pixel, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_seg.objects.present import merge_sorted, present

__all__ = ["Marks", "Step", "first_of_each"]


class Marks(NamedTuple):
    """Pixels, and what was there before.

    Attributes
    ----------
    where : (N,) ndarray of int64
        Places in the flattened array.
    before : (N,) ndarray
        Their values.
    """

    where: NDArray[np.int64]
    before: NDArray[Any]


def first_of_each(marks: Iterable[Marks], dtype: Any) -> Marks:
    """Join marks in the order of time: of each pixel the first, by place."""
    known = list(marks)
    if len(known) == 1 and (np.diff(known[0].where) > 0).all():
        return known[0]
    where = np.concatenate([np.zeros(0, np.int64), *(each.where for each in known)])
    before = np.concatenate([np.zeros(0, dtype), *(each.before for each in known)])
    places, first = np.unique(where, return_index=True)
    return Marks(places, before[first])


@dataclass(frozen=True, eq=False)
class Step:
    """A stroke: where, and what was there before and after it.

    Attributes
    ----------
    where : (N,) ndarray of int64
        Places in the flattened array, sorted.
    labels : (before, after), both (N,) ndarray of uint8
        The mask.
    numbers : (before, after), both (N,) ndarray of uint32
        The objects.
    gone : frozenset of int
        Objects of `before` of which nothing was left.
    """

    where: NDArray[np.int64]
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    numbers: tuple[NDArray[np.uint32], NDArray[np.uint32]]
    gone: frozenset[int]

    @classmethod
    def of(
        cls,
        labels_before: Marks,
        numbers_before: Marks,
        labels: NDArray[np.uint8],
        ids: NDArray[np.uint32],
        alive: Container[int],
    ) -> Self | None:
        """Return the step from then to now; None if the mask has not changed."""
        where = merge_sorted(labels_before.where, numbers_before.where)
        classes, numbers = labels.reshape(-1)[where], ids.reshape(-1)[where]
        earlier_classes, earlier_numbers = classes.copy(), numbers.copy()
        earlier_classes[np.searchsorted(where, labels_before.where)] = (
            labels_before.before
        )
        earlier_numbers[np.searchsorted(where, numbers_before.where)] = (
            numbers_before.before
        )
        if np.array_equal(earlier_classes, classes):
            return None
        gone = _gone(earlier_numbers, alive)
        return cls(where, (earlier_classes, classes), (earlier_numbers, numbers), gone)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(each.nbytes for each in (self.where, *self.labels, *self.numbers))

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Which of the pixels have got another class."""
        moved: NDArray[np.bool_] = self.labels[0] != self.labels[1]
        return moved

    def is_taken_back(self, stroke: Marks, labels: NDArray[np.uint8]) -> bool:
        """Whether a later stroke has done the contrary; `labels` is the mask now."""
        moved = self.moved
        return (
            np.array_equal(self.where[moved], stroke.where)
            and np.array_equal(self.labels[1][moved], stroke.before)
            and np.array_equal(self.labels[0][moved], labels.reshape(-1)[stroke.where])
        )

    def turned(self, alive: Container[int]) -> Self:
        """Return the step back."""
        return replace(
            self,
            labels=self.labels[::-1],
            numbers=self.numbers[::-1],
            gone=_gone(self.numbers[1], alive),
        )

    def lost(self, alive: Container[int]) -> NDArray[np.bool_]:
        """Return whose numbers were given up since, and not by this step."""
        given_up = [
            number
            for number in present(self.numbers[0]).tolist()
            if number not in alive and number not in self.gone
        ]
        lost: NDArray[np.bool_] = np.isin(self.numbers[0], given_up)
        return lost


def _gone(numbers: NDArray[np.uint32], alive: Container[int]) -> frozenset[int]:
    return frozenset(
        number for number in present(numbers).tolist() if number not in alive
    )
