"""The mask as the ledger last saw it, with every sum that belongs to it.

Everything that happens to the mask passes through :meth:`Settled.settle`, which
moves the changed pixels from their old to their new place in all sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Change, Kind, Pixels
from napari_seg.corrections.counts import Counted, Counts
from napari_seg.corrections.packed import (
    ACCEPTED,
    CORRECTED,
    Packed,
    PackedPixels,
    PixelsToUnpack,
)
from napari_seg.errors import LabelsError
from napari_seg.scoring.regions import (
    Box,
    Region,
    as_box,
    changed_box,
    hull,
    relative,
    split,
)
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["Rule", "Settled", "check_mask", "untouched_label"]

Rule: TypeAlias = Callable[[Box, Packed, NDArray[np.uint8]], Packed]
"""(piece, its packed pixels, its reference) -> the packed pixels as they shall be."""


class Settled:
    """Labels, reference, flags and their sums, consistent with each other.

    Parameters
    ----------
    labels, reference : ndarray of uint8, (..., Y, X)
        Kept as views.
    state : ndarray of uint8 or None
        Flags; by default a pixel that differs from the reference is corrected.

    Attributes
    ----------
    pixels : PackedPixels
        Labels and flags as last seen.
    whole, focused : Counts
        The sums of all pixels, and of those in the chosen slice.
    moves : int
        Rises with every change.
    """

    def __init__(
        self,
        labels: NDArray[np.uint8],
        reference: NDArray[np.uint8],
        state: NDArray[np.uint8] | None,
    ) -> None:
        self.labels = labels
        self.reference = reference
        self.box = as_box(None, labels.shape)
        self.moves = 0
        self.pixels = PackedPixels(labels.shape)
        if not self._fits(self.box):
            self.pixels.widen()
        for piece in split(self.box):
            self.pixels.data[piece] = self._packed_anew(piece, state)
        self.whole = self.focused = self._count(self.box)

    def _packed_anew(self, piece: Box, state: NDArray[np.uint8] | None) -> Packed:
        labels = self.labels[piece]
        if state is not None:
            return self.pixels.pack(labels, state[piece] & (CORRECTED | ACCEPTED))
        wrong = labels != untouched_label(self.reference[piece])
        return self.pixels.pack(labels, wrong.view(np.uint8))

    def _count(self, box: Box) -> Counts:
        counts = Counts(self.pixels, self.reference, box)
        counts.count(box)
        return counts

    def _fits(self, box: Box) -> bool:
        return all(self.pixels.fits(self.labels[piece]) for piece in split(box))

    def make_room_in(self, box: Box) -> None:
        """Widen the packed pixels if a label in the box has no code."""
        if not self._fits(box):
            self._widen()

    def make_room_for(self, n_classes: int) -> None:
        """Widen the packed pixels if not every class has a code."""
        if n_classes > self.pixels.unknown:
            self._widen()

    def _widen(self) -> None:
        self.pixels.widen()
        self.recount()

    def recount(self) -> bool:
        """Count everything anew; return whether the running sums were right."""
        self.moves += 1
        old, focus = self.whole, self.focused.box
        self.whole = self.focused = self._count(self.box)
        self.focus(focus)
        return np.array_equal(old.table, self.whole.table)

    def focus(self, box: Box) -> None:
        """Choose where `focused` counts."""
        if box == self.box:
            self.focused = self.whole
        elif box != self.focused.box:
            self.focused = self._count(box)

    def bit(self, flag: int) -> Any:
        """Return `flag` where it lies in a packed pixel, in the packed dtype."""
        return self.pixels.data.dtype.type(flag << self.pixels.bits)

    def edit(self, region: Region) -> Change | None:
        """Take in what the user did to the mask within `region`.

        What :meth:`settle` does with the rule :meth:`with_edits`, in half the time:
        this runs for every dab of the brush.

        Returns
        -------
        Change or None
            Of the smallest box that holds every edit; None if there is none.
        """
        found = list(self._edits(as_box(region, self.labels.shape)))
        box = hull(part for part, _ in found)
        if box is None:
            return None
        before = self._copy(box, with_reference=False)
        for part, changed in found:
            packed, reference = self.pixels.data[part], self.reference[part][changed]
            old = packed[changed]
            settled = self._edited(old, self.labels[part][changed], reference)
            packed[changed] = settled
            self._count_moved(part, changed, (old, reference), (settled, reference))
        return Change("edit", box, before, self._copy(box, with_reference=False))

    def _edits(self, box: Box) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
        """Yield small boxes with edits, and which of their pixels were edited."""
        self.make_room_in(box)
        for piece in split(box):
            changed = self.pixels.changed(self.labels[piece], self.pixels.data[piece])
            part = changed_box(changed, piece)
            if part is not None:
                yield part, changed[relative(part, piece)]

    def _edited(
        self, packed: Packed, labels: NDArray[np.uint8], reference: NDArray[np.uint8]
    ) -> Packed:
        """Return the packed pixels of new labels: corrected, or as the model said."""
        wrong = labels != untouched_label(reference)
        kept = packed & self.bit(ACCEPTED)
        edited: Packed = self.pixels.codes(labels) | kept | wrong * self.bit(CORRECTED)
        return edited

    def with_edits(
        self, piece: Box, packed: Packed, reference: NDArray[np.uint8]
    ) -> Packed:
        """Rule: what the user did to the mask since it was last seen."""
        labels = self.labels[piece]
        changed = self.pixels.changed(labels, packed)
        if not changed.any():
            return packed
        return np.where(changed, self._edited(packed, labels, reference), packed)

    def settle(
        self,
        kind: Kind,
        box: Box,
        rule: Rule,
        reference: NDArray[np.uint8] | None = None,
    ) -> Change:
        """Apply `rule` to the pixels of `box`, and bring every sum up to date.

        The labels in the box must have a code: see :meth:`make_room_in`.

        Parameters
        ----------
        kind : str
            What the change is called.
        box : tuple of slice
            Where.
        rule : callable
            Gives the packed pixels as they shall be; it may write to `labels`.
        reference : ndarray of uint8, optional
            The new reference of the box.
        """
        before = self._copy(box, reference is not None)
        for piece in split(box):
            old = self.pixels.data[piece], self.reference[piece]
            packed = rule(piece, *old)
            said = old[1] if reference is None else reference[relative(piece, box)]
            self._move(piece, old, (packed, said))
        return Change(kind, box, before, self._copy(box, reference is not None))

    def _move(
        self,
        piece: Box,
        before: tuple[Packed, NDArray[np.uint8]],
        after: tuple[Packed, NDArray[np.uint8]],
    ) -> None:
        changed = before[0] != after[0]
        if after[1] is not before[1]:
            changed |= before[1] != after[1]
        self._count_moved(
            piece,
            changed,
            (before[0][changed], before[1][changed]),
            (after[0][changed], after[1][changed]),
        )
        self.pixels.data[piece] = after[0]
        if after[1] is not before[1]:
            self.reference[piece] = after[1]

    def _count_moved(
        self, piece: Box, changed: NDArray[np.bool_], before: Counted, after: Counted
    ) -> None:
        self.moves += 1
        self.whole.move(piece, changed, before, after)
        if self.focused is not self.whole:
            self.focused.move(piece, changed, before, after)

    def _copy(self, box: Box, with_reference: bool) -> Pixels:
        reference = self.reference[box].copy() if with_reference else None
        return PixelsToUnpack(self.pixels.data[box].copy(), self.pixels.bits, reference)


def untouched_label(reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the label of untouched pixels: what the model said, else background."""
    label: NDArray[np.uint8] = reference * (reference != UNKNOWN)
    return label


def check_mask(
    name: str, array: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return `array`, or raise LabelsError unless it is uint8 and of this shape."""
    if array.dtype != np.uint8:
        raise LabelsError(
            f"The {name} has dtype {array.dtype}; it must be uint8, with ids 0 to 254 "
            f"and {UNKNOWN} for unknown. Convert it with astype('uint8')."
        )
    if array.shape != shape:
        raise LabelsError(
            f"The {name} has shape {array.shape}, the mask {shape}; both must be the "
            "same."
        )
    return array
