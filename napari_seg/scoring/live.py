"""The score that moves with the brush.

One table of counts is updated from the changed box alone: the cost follows the
stroke, never the image.  The ledger of corrections keeps the same table beside its
flags; this class is for scripts that only want the score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.errors import LabelsError
from napari_seg.scoring.confusion import (
    UNKNOWN,
    Scores,
    check_n_classes,
    scored_block,
)
from napari_seg.scoring.regions import (
    Box,
    Region,
    as_box,
    box_shape,
    changed_box,
    pixels,
    relative,
    split,
    union,
)
from napari_seg.scoring.tally import Tally, as_ids

__all__ = ["LiveScore"]


class LiveScore:
    """IoU and Dice of a fixed prediction against labels that are being corrected.

    Exact at any time for all edits that :meth:`update` was told of or has found.
    Unknown pixels (255) are not scored; neither are labels with an id that no class
    has yet, until :meth:`set_classes` makes it one.  Not thread-safe: call it on the
    thread that edits the labels.

    Parameters
    ----------
    reference : array of int or bool
        What the model predicted.  A uint8 array is kept, not copied; change it
        through :meth:`predicted` only.
    labels : ndarray of int or bool, same shape
        The user's truth.  A view is kept; edit it in place, then call
        :meth:`update`.
    n_classes : int
        Number of classes K.
    ignore : int, default 255
        Labels with this id are left out of the score.

    Raises
    ------
    LabelsError
        If shapes differ, a dtype is not integer, or `n_classes` is not 1 to 255.
    """

    def __init__(
        self,
        reference: ArrayLike,
        labels: NDArray[Any],
        n_classes: int,
        ignore: int = UNKNOWN,
    ) -> None:
        self._n_classes = check_n_classes(n_classes)
        self._ignore = ignore
        self._labels = labels = np.asarray(labels)
        reference = np.asarray(reference)
        _check_pair(reference, labels)
        self._reference = as_ids(reference)
        self._counted = np.empty(labels.shape, np.uint8)
        self._tally = Tally()
        for piece in split(as_box(None, labels.shape)):
            self._counted[piece] = as_ids(labels[piece])
            self._tally.add(self._counted[piece], self._reference[piece])

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return self._n_classes

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Pixels per pair of classes, (K, K) int64; rows labels, columns reference."""
        return scored_block(self._tally.counts, self._n_classes, self._ignore)

    @property
    def scores(self) -> Scores:
        """The scores as of the last update.  Cost is that of a K x K table."""
        return Scores(self.confusion)

    def set_classes(self, n_classes: int) -> None:
        """Change the number of classes; no pixel is read."""
        self._n_classes = check_n_classes(n_classes)

    def update(self, region: Region = None) -> Box | None:
        """Count the edits of the labels.

        Parameters
        ----------
        region : tuple of slices, optional
            Where labels may have changed, with indices as numpy reads them.  By
            default the whole array is compared with what was counted.

        Returns
        -------
        tuple of slice or None
            The smallest box that holds all changes; None if nothing changed.
        """
        changed: Box | None = None
        for piece in split(as_box(region, self._labels.shape)):
            changed = union(changed, self._update_piece(piece))
        return changed

    def _update_piece(self, piece: Box) -> Box | None:
        now, before = as_ids(self._labels[piece]), self._counted[piece]
        changed = now != before
        box = changed_box(changed, piece)
        if box is not None:
            columns = self._reference[piece][changed]
            self._tally.remove(before[changed], columns)
            self._tally.add(now[changed], columns)
            before[changed] = now[changed]
        return box

    def predicted(self, region: Region, prediction: ArrayLike) -> None:
        """Replace the reference within `region`, as a newer prediction does.

        Parameters
        ----------
        region : tuple of slices or None
            Where the prediction lies; None is the whole array.
        prediction : array of int or bool
            Class ids, as many as `region` has pixels.

        Raises
        ------
        LabelsError
            If the prediction does not fit the region.
        """
        box = as_box(region, self._labels.shape)
        new = as_ids(np.asarray(prediction))
        if new.size != pixels(box):
            raise LabelsError(
                f"The prediction has shape {new.shape}, its region {box_shape(box)}; "
                "both must be the same."
            )
        new = new.reshape(box_shape(box))
        if not self._reference.flags.writeable:
            self._reference = self._reference.copy()
        for piece in split(box):
            rows, columns = self._counted[piece], new[relative(piece, box)]
            self._tally.remove(rows, self._reference[piece])
            self._tally.add(rows, columns)
            self._reference[piece] = columns


def _check_pair(reference: NDArray[Any], labels: NDArray[Any]) -> None:
    if reference.shape != labels.shape:
        raise LabelsError(
            f"The reference has shape {reference.shape}, the labels {labels.shape}; "
            "both must be the same."
        )
    for name, array in (("reference", reference), ("labels", labels)):
        if array.dtype.kind not in "biu":
            raise LabelsError(
                f"The {name} have dtype {array.dtype}; class ids must be integers."
            )
