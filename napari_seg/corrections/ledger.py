"""What the user vouches for, pixel by pixel, and the scores that follow from it.

The ledger stands between the mask that the user edits and everything that is made of
it: the score, the journal, the training windows.  It is told "this box changed" and
compares the box with what it remembers; so it is exact after any edit, and the cost
follows the box, never the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.corrections.audit import Audit
from napari_seg.corrections.change import Change, Kind, Pixels
from napari_seg.corrections.packed import ACCEPTED, CORRECTED, UNTOUCHED, Packed
from napari_seg.corrections.settled import Settled, check_mask, untouched_label
from napari_seg.errors import LabelsError
from napari_seg.scoring.confusion import Scores, check_n_classes
from napari_seg.scoring.regions import (
    Box,
    Region,
    as_box,
    box_shape,
    relative,
    split,
)
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["ACCEPTED", "CORRECTED", "UNTOUCHED", "Change", "Ledger", "Pixels", "Scope"]

Scope: TypeAlias = Literal["whole", "reviewed", "slice"]


class Ledger:
    """What the user vouches for, and the scores that follow from it.

    A pixel is *untouched*, *corrected* (the user gave it another label than the
    model; back at the model's label, by undo or brush, it is untouched again) or
    *accepted* (in a region that the user accepted); it can be both of the latter,
    and is *vouched for* if it is either.  Where no model has spoken (reference 255),
    untouched pixels are background.

    Predictions never change a vouched pixel and never vouch for one.  They update
    the reference everywhere, also under a correction, which stays a correction.

    Not thread-safe: call every method on the thread that edits the mask (the main
    thread of the viewer).  A large region can be settled a piece per turn of the
    event loop, in any order: see :func:`napari_seg.scoring.regions.split`.

    Parameters
    ----------
    labels : ndarray of uint8, (..., Y, X)
        The mask.  A view is kept; edit it in place, then call :meth:`edited`.
    reference : ndarray of uint8, same shape, optional
        What the model said, 255 where nothing yet.  Kept and written to.
    n_classes : int
        Number of classes K, 1 to 255.
    state : ndarray of uint8, same shape, optional
        Flags per pixel, as :meth:`state` returns them.  By default every pixel that
        differs from the reference counts as corrected: somebody made it.

    Raises
    ------
    LabelsError
        If an array has another shape or dtype.

    Notes
    -----
    Memory is one byte per pixel beyond labels and reference, two from the first
    label above 62 on.
    """

    def __init__(
        self,
        labels: NDArray[np.uint8],
        reference: NDArray[np.uint8] | None = None,
        n_classes: int = 2,
        state: NDArray[np.uint8] | None = None,
    ) -> None:
        self._n_classes = check_n_classes(n_classes)
        check_mask("mask", labels, labels.shape)
        if labels.ndim < 2:
            raise LabelsError("The mask has fewer than two axes; it needs Y and X.")
        if reference is None:
            reference = np.full(labels.shape, UNKNOWN, np.uint8)
        check_mask("reference", reference, labels.shape)
        if state is not None:
            check_mask("state", state, labels.shape)
        self._settled = Settled(labels, reference, state)
        self._settled.make_room_for(n_classes)

    # What happens -------------------------------------------------------------

    def edited(self, region: Region = None) -> Change | None:
        """Take in what the user did to the mask.

        Parameters
        ----------
        region : tuple of slices, optional
            Where the mask may have changed.  By default all of it is compared.

        Returns
        -------
        Change or None
            None if nothing changed.
        """
        return self._settled.edit(region)

    def predicted(self, region: Region, prediction: ArrayLike) -> Change:
        """Take in a prediction: write the mask where the user vouches for nothing.

        Edits in the region that were not reported yet are taken in first, so that a
        tile that arrives during a stroke does not erase it.

        Parameters
        ----------
        region : tuple of slices or None
            Where the prediction lies; None is the whole mask.
        prediction : array of int
            Class ids, as many as `region` has pixels, 255 where there is none.

        Raises
        ------
        LabelsError
            If the prediction does not fit the region or the classes.
        """
        box = as_box(region, self.shape)
        new = self._checked("prediction", np.asarray(prediction), box)
        self._settled.make_room_in(box)
        pixels, labels = self._settled.pixels, self.labels

        def rule(piece: Box, packed: Packed, reference: NDArray[np.uint8]) -> Packed:
            packed = self._settled.with_edits(piece, packed, reference)
            label = untouched_label(new[relative(piece, box)])
            free = packed <= pixels.unknown
            np.copyto(labels[piece], label, where=free)
            return np.where(free, pixels.codes(label), packed)

        return self._settled.settle("predict", box, rule, new)

    def adopt(self, region: Region, truth: ArrayLike) -> Change:
        """Take labels from elsewhere for which somebody vouches.

        What they say counts as accepted, and as corrected where the model said
        something else; earlier corrections give way to it.

        Parameters
        ----------
        region : tuple of slices or None
            Where the truth lies; None is the whole mask.
        truth : array of int
            Class ids, as many as `region` has pixels; where it is 255, nothing
            changes.

        Raises
        ------
        LabelsError
            If the truth does not fit the region or the classes.
        """
        box = as_box(region, self.shape)
        new = self._checked("truth", np.asarray(truth), box)
        self._settled.make_room_in(box)
        settled, pixels, labels = self._settled, self._settled.pixels, self.labels

        def rule(piece: Box, packed: Packed, reference: NDArray[np.uint8]) -> Packed:
            packed = settled.with_edits(piece, packed, reference)
            label = new[relative(piece, box)]
            known = label != UNKNOWN
            np.copyto(labels[piece], label, where=known)
            wrong = label != untouched_label(reference)
            vouched = settled.bit(ACCEPTED) | wrong * settled.bit(CORRECTED)
            return np.where(known, pixels.codes(label) | vouched, packed)

        return self._settled.settle("adopt", box, rule)

    def accept(self, region: Region = None, mask: ArrayLike | None = None) -> Change:
        """Vouch for the region as it is now.

        Parameters
        ----------
        region : tuple of slices, optional
            By default everything.
        mask : array of bool, optional
            Pixels of the region to accept; it must broadcast to its shape.
        """

        def rule(packed: Packed, _wrong: NDArray[np.bool_]) -> Packed:
            accepted: Packed = packed | self._settled.bit(ACCEPTED)
            return accepted

        return self._review("accept", region, mask, rule)

    def unaccept(self, region: Region = None, mask: ArrayLike | None = None) -> Change:
        """Take acceptance back.

        Labels stay as they are: an accepted pixel that differs from the reference,
        since a newer model says something else, becomes a correction.
        """

        def rule(packed: Packed, wrong: NDArray[np.bool_]) -> Packed:
            accepted = packed & self._settled.bit(ACCEPTED)
            corrected = packed | self._settled.bit(CORRECTED)
            kept: Packed = np.where(wrong & (accepted > 0), corrected, packed)
            kept ^= accepted
            return kept

        return self._review("unaccept", region, mask, rule)

    def _review(
        self,
        kind: Kind,
        region: Region,
        mask: ArrayLike | None,
        rule: Callable[[Packed, NDArray[np.bool_]], Packed],
    ) -> Change:
        box = as_box(region, self.shape)
        self._settled.make_room_in(box)
        chosen = np.broadcast_to(True if mask is None else mask, box_shape(box))

        def within(piece: Box, packed: Packed, reference: NDArray[np.uint8]) -> Packed:
            packed = self._settled.with_edits(piece, packed, reference)
            wrong = self.labels[piece] != untouched_label(reference)
            return np.where(chosen[relative(piece, box)], rule(packed, wrong), packed)

        return self._settled.settle(kind, box, within)

    def restore(self, region: Region, earlier: Pixels) -> Change | None:
        """Bring a region back to an earlier state: mask, reference and flags.

        Parameters
        ----------
        region : tuple of slices or None
            Where; None is the whole mask.
        earlier : Pixels
            Labels, state and reference of the region.

        Returns
        -------
        Change or None
            None if the region is in that state already.
        """
        box = as_box(region, self.shape)
        said = self.reference[box] if earlier.reference is None else earlier.reference
        now = self._settled.pixels.data[box]
        np.copyto(self.labels[box], earlier.labels)
        self._settled.make_room_in(box)
        packed = self._settled.pixels.pack(earlier.labels, earlier.state)
        if np.array_equal(now, packed) and np.array_equal(self.reference[box], said):
            return None

        def rule(piece: Box, _packed: Packed, _said: NDArray[np.uint8]) -> Packed:
            return packed[relative(piece, box)]

        return self._settled.settle("revert", box, rule, said)

    def audit(self) -> Audit:
        """Return what looks over mask and sums, a piece a step."""
        return Audit(self._settled)

    def replace_labels(self, labels: NDArray[np.uint8]) -> Change | None:
        """Keep another array as the mask, and take in how it differs."""
        self._settled.labels = check_mask("new mask", labels, self.shape)
        return self.edited()

    def set_classes(self, n_classes: int) -> None:
        """Change the number of classes; up to 63 of them, no pixel is read."""
        self._n_classes = check_n_classes(n_classes)
        self._settled.make_room_for(n_classes)

    # What follows from it -----------------------------------------------------

    def scores(self, scope: Scope = "whole") -> Scores:
        """Return the scores of the reference against the mask.

        Parameters
        ----------
        scope : {"whole", "reviewed", "slice"}
            All pixels, the accepted ones, or those of :meth:`focus`.  Pixels that
            are unknown in mask or reference, or of a class that the model lacks,
            are left out.  The cost does not depend on the number of pixels.
        """
        counts = self._settled.focused if scope == "slice" else self._settled.whole
        return counts.scores(self._n_classes, reviewed=scope == "reviewed")

    def focus(self, region: Region) -> None:
        """Choose the pixels of the scope "slice", and count them once."""
        self._settled.focus(as_box(region, self.shape))

    def recount(self) -> bool:
        """Count everything anew; return whether the running sums were right."""
        return self._settled.recount()

    def truth(self, region: Region = None) -> NDArray[np.uint8]:
        """Return the vouched labels of `region`, 255 everywhere else.

        Labels that no class has are 255, too.
        """
        box, pixels = as_box(region, self.shape), self._settled.pixels
        truth = np.full(box_shape(box), UNKNOWN, np.uint8)
        for piece in split(box):
            packed = pixels.data[piece]
            labels = pixels.labels(packed)
            vouched = (pixels.flags(packed) > 0) & (labels < self._n_classes)
            np.copyto(truth[relative(piece, box)], labels, where=vouched)
        return truth

    def state(self, region: Region = None) -> NDArray[np.uint8]:
        """Return the flags per pixel of `region`, as a copy.

        0 is untouched; CORRECTED (1) and ACCEPTED (2) add up.
        """
        pixels = self._settled.pixels
        return pixels.flags(pixels.data[as_box(region, self.shape)])

    @property
    def corrected_pixels(self) -> int:
        """Number of pixels that the user changed."""
        return self._settled.whole.flagged(CORRECTED)

    @property
    def accepted_pixels(self) -> int:
        """Number of pixels in accepted regions."""
        return self._settled.whole.flagged(ACCEPTED)

    @property
    def vouched_pixels(self) -> int:
        """Number of pixels that are corrected, accepted or both."""
        return self._settled.whole.flagged(CORRECTED | ACCEPTED)

    @property
    def reviewed_fraction(self) -> float:
        """Accepted part of the mask, 0 to 1."""
        return self.accepted_pixels / max(1, self.labels.size)

    @property
    def pixels_per_class(self) -> NDArray[np.int64]:
        """Pixels of each class in the mask, (K,)."""
        return self._settled.whole.per_label()[: self._n_classes]

    @property
    def foreign_pixels(self) -> dict[int, int]:
        """Pixels of each label that no class has; they are kept, but not scored."""
        counts = self._settled.whole.per_label()
        present = np.flatnonzero(counts)
        return {int(i): int(counts[i]) for i in present if i >= self._n_classes}

    # What there is ------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mask."""
        return self._settled.labels.shape

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The mask itself, as it is edited."""
        return self._settled.labels

    @property
    def reference(self) -> NDArray[np.uint8]:
        """What the model said, 255 where nothing.  Read it, do not write to it."""
        return self._settled.reference

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return self._n_classes

    @property
    def moves(self) -> int:
        """A number that rises with every change."""
        return self._settled.moves

    @property
    def nbytes(self) -> int:
        """Memory beyond labels and reference."""
        return self._settled.pixels.data.nbytes

    def _checked(self, name: str, given: NDArray[Any], box: Box) -> NDArray[np.uint8]:
        shape = box_shape(box)
        if _without_ones(given.shape) != _without_ones(shape):
            raise LabelsError(
                f"The {name} has shape {given.shape}, its region {shape}; both must be "
                "the same."
            )
        wrong = (given < 0) | (given >= self._n_classes)
        wrong &= given != UNKNOWN
        if given.dtype.kind not in "biu" or wrong.any():
            raise LabelsError(
                f"The {name} ({given.dtype}) must hold integers from 0 to "
                f"{self._n_classes - 1}, or {UNKNOWN}; set the number of classes "
                f"before the {name} of more."
            )
        return given.astype(np.uint8, copy=False).reshape(shape)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
