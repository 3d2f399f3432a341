"""Object scores of a class mask that is being edited, against a predicted one.

Prediction and truth are told apart into objects in the same way, as connected pixels
of one countable class; pixels of the other classes count as what lies between.  That
is the panoptic reading of a mask (Kirillov et al. 2019, arXiv:1801.00868, Sec. 3): each
pixel has a class, and of a countable class an object, too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_seg.objects.live_components import LiveComponents
from napari_seg.scoring.matching import Matching
from napari_seg.scoring.object_scores import ObjectCounts, ObjectScores
from napari_seg.scoring.overlap import Overlaps, count_overlaps, merge_overlaps
from napari_seg.scoring.regions import Box, Region, as_box, split
from napari_seg.scoring.sides import Rules
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["PanopticScore"]


class PanopticScore:
    """PQ, SQ, RQ and AP of predicted classes against truth, edit by edit.

    Equal to :func:`napari_seg.score_objects` on the connected components of both
    masks, as of the last update.  Matched are the objects that an edit touched, and no
    others.  Memory is 10 bytes per pixel, 11 with `known`, and about 1 kB for each
    object.  It may be made on any thread, and is then used on one.

    Parameters
    ----------
    prediction, truth : ndarray of uint8, (..., Y, X)
        Class ids, 255 for unknown.  They are copied.
    n_classes : int
        Number of classes K; labels beyond are unknown.
    countable : (256,) ndarray of bool
        Which classes have objects; the others have no scores.
    leading : str
        Letters of the axes before Y and X.  Objects reach through Z, not through time.
    known : ndarray of bool, same shape, optional
        Which pixels count.  The others are unknown: an object that lies mostly there
        and has no match is none.
    on_step : callable
        Called now and then while everything is counted; what it raises ends that.
    """

    def __init__(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        n_classes: int,
        countable: NDArray[np.bool_],
        leading: str = "",
        known: NDArray[np.bool_] | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        counted = np.array(countable, bool)
        counted[n_classes:] = False
        self._predicted = LiveComponents(prediction, leading, counted, on_step)
        self._true = LiveComponents(truth, leading, counted, on_step)
        self._known = None if known is None else known.copy()
        self._matching = Matching(Rules.of(n_classes, UNKNOWN, 0.5))
        tables = []
        for piece in split(as_box(None, truth.shape)):
            on_step()
            tables.append(self._table(piece))
        self._matching.move(merge_overlaps(tables))
        self._matching.settle()
        self._predicted.moved = self._true.moved = self._move

    @property
    def scores(self) -> ObjectScores:
        """The scores as of the last update, (K,) each; NaN where there are no objects.

        The cost does not depend on the number of pixels.
        """
        return ObjectScores(ObjectCounts.of(self._matching))

    def update(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        region: Region = None,
        known: Callable[[Box], NDArray[np.bool_]] | None = None,
    ) -> None:
        """Follow both masks in a region.

        Parameters
        ----------
        prediction, truth : ndarray of uint8
            The whole masks as they are now.
        region : tuple of slices, optional
            Where they, or what is known, may have changed; by default everywhere.
        known : callable, optional
            Returns which pixels of a box count; given if and only if it was before.
        """
        self._predicted.update(prediction, region)
        self._true.update(truth, region)
        if known is not None and self._known is not None:
            for piece in split(as_box(region, truth.shape)):
                self._know(self._known, piece, known(piece))
        self._matching.settle()

    def differing(
        self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8], region: Box
    ) -> int:
        """Return in how many pixels of a region the masks are others than last time."""
        return sum(
            int(np.count_nonzero(mask[piece] != seen[piece]))
            for mask, seen in (
                (prediction, self._predicted.labels),
                (truth, self._true.labels),
            )
            for piece in split(region)
        )

    def _know(
        self, known: NDArray[np.bool_], piece: Box, now: NDArray[np.bool_]
    ) -> None:
        changed = known[piece] != now
        self._move(piece, changed, -1)
        known[piece] = now
        self._move(piece, changed, 1)

    def _move(self, box: Box, where: NDArray[np.bool_], sign: int) -> None:
        if where.any():
            self._matching.move(self._table(box, where), sign)

    def _table(self, box: Box, where: NDArray[np.bool_] | None = None) -> Overlaps:
        """Return what is counted of a box, or of some of its pixels."""
        chosen = ... if where is None else where
        true = self._true.labels[box][chosen]
        if self._known is not None:
            true = np.where(self._known[box][chosen], true, np.uint8(UNKNOWN))
        return count_overlaps(
            self._predicted.ids[box][chosen],
            self._true.ids[box][chosen],
            self._predicted.labels[box][chosen],
            true,
        )
