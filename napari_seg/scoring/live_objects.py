"""The score of objects that moves with the brush.

Beside the sparse table of overlaps it keeps what was counted of each pixel.  An update
compares a region with that, moves the pixels that differ in the table, and matches the
objects anew that had or have them: the cost follows the region and its objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_seg.errors import LabelsError
from napari_seg.scoring.confusion import check_n_classes
from napari_seg.scoring.matching import Matching
from napari_seg.scoring.object_scores import ObjectCounts, ObjectScores
from napari_seg.scoring.objects import check_n_rows, largest_class
from napari_seg.scoring.overlap import (
    Overlaps,
    as_object_ids,
    check_object_masks,
    count_overlaps,
    merge_overlaps,
    no_classes,
)
from napari_seg.scoring.regions import (
    Box,
    Region,
    as_box,
    box_shape,
    changed_box,
    relative,
    split,
    union,
)
from napari_seg.scoring.sides import Rules
from napari_seg.scoring.tally import UNKNOWN, as_ids

__all__ = ["LiveObjectScore"]


class LiveObjectScore:
    """Panoptic quality of predicted objects against objects that are being corrected.

    Equal to :func:`napari_seg.score_objects` at any time, for all edits that
    :meth:`update` was told of or has found.  Labels with an id that no class has yet
    are unknown, until :meth:`set_classes` makes it one.  Not thread-safe: call it on
    the thread that edits.

    It holds a copy of `ids` as uint32 and of `labels` as uint8, which is 4 bytes per
    pixel, or 5, one of `reference` unless that is uint32, and about 0.6 kB for
    each object.

    Parameters
    ----------
    reference : array of int or bool
        The predicted objects, 0 for none.  A uint32 array is kept, not copied, and so
        is `reference_labels` if it is uint8; change both through :meth:`predicted`
        only.
    ids : ndarray of int or bool, same shape
        The user's objects.  A view is kept; edit it in place, then call
        :meth:`update`.
    reference_labels, labels : ndarray of int or bool, same shape, optional
        Class ids of the pixels of both, 255 for unknown.  `labels` is edited in place,
        too.  An object has a class only with both, as in ``score_objects``.
    n_classes : int, optional
        Number of classes K, with both class masks only; by default one more than the
        largest class id in either now.
    ignore : int, default 255
        Class id of `labels` that is unknown, too.
    threshold : float, default 0.5
        IoU above which two objects match; 0.5 to below 1.

    Raises
    ------
    LabelsError
        If shapes differ, a dtype is not integer, or an id is out of range.
    InputError
        If `threshold` is.
    """

    def __init__(
        self,
        reference: ArrayLike,
        ids: NDArray[Any],
        *,
        reference_labels: ArrayLike | None = None,
        labels: NDArray[Any] | None = None,
        n_classes: int | None = None,
        ignore: int = UNKNOWN,
        threshold: float = 0.5,
    ) -> None:
        self._ignore = ignore
        self._classed = reference_labels is not None
        self._by_class = self._classed and labels is not None
        check_n_rows(n_classes, self._by_class)
        given: dict[str, Any] = {"reference": reference, "ids": ids}
        given |= {"reference_labels": reference_labels, "labels": labels}
        masks = {
            name: np.asarray(mask) for name, mask in given.items() if mask is not None
        }
        check_object_masks(**masks)
        self._ids = masks["ids"]
        self._labels = masks.get("labels")
        absent = no_classes(self._ids.shape)
        self._reference = as_object_ids(masks["reference"])
        self._reference_labels = as_ids(masks.get("reference_labels", absent))
        self._counted = np.zeros(self._ids.shape, np.uint32)
        self._counted_labels = absent
        if self._labels is not None:
            self._counted_labels = np.zeros(absent.shape, np.uint8)
        self._matching = Matching(Rules.of(None, ignore, threshold))
        self._count_all(n_classes)

    def _count_all(self, n_classes: int | None) -> None:
        """Count all pixels, and give the classes their number."""
        tables = []
        for piece in split(as_box(None, self._ids.shape)):
            self._counted[piece] = as_object_ids(self._ids[piece])
            if self._labels is not None:
                self._counted_labels[piece] = as_ids(self._labels[piece])
            tables.append(self._table(piece))
        overlaps = merge_overlaps(tables)
        self._matching.move(overlaps)
        if self._by_class:
            self.set_classes(n_classes or 1 + largest_class(overlaps, self._ignore))
        else:
            self._matching.settle()

    def _table(self, piece: Box, where: Any = ...) -> Overlaps:
        """Return what is counted of a piece, or of some of its pixels."""
        return count_overlaps(
            self._reference[piece][where],
            self._counted[piece][where],
            self._reference_labels[piece][where],
            self._counted_labels[piece][where],
        )

    @property
    def n_classes(self) -> int:
        """Number of classes K; 1 where there are none."""
        return self._matching.rules.n_classes

    @property
    def scores(self) -> ObjectScores:
        """The scores as of the last update.  Cost is that of K rows."""
        return ObjectScores(ObjectCounts.of(self._matching))

    def set_classes(self, n_classes: int) -> None:
        """Change the number of classes; no pixel is read.

        Raises
        ------
        LabelsError
            If there are no class masks of both, or the number is not 1 to 255.
        """
        check_n_rows(n_classes, self._by_class)
        threshold = self._matching.rules.threshold
        rules = Rules.of(check_n_classes(n_classes), self._ignore, threshold)
        self._matching.set_rules(rules)

    def update(self, region: Region = None) -> Box | None:
        """Count the edits of the objects and of their classes.

        Parameters
        ----------
        region : tuple of slices, optional
            Where `ids` or `labels` may have changed, with indices as numpy reads
            them.  By default the whole array is compared with what was counted.

        Returns
        -------
        tuple of slice or None
            The smallest box that holds all changes; None if nothing changed.

        Raises
        ------
        LabelsError
            If an id is negative or too large for uint32.
        """
        changed: Box | None = None
        for piece in split(as_box(region, self._ids.shape)):
            changed = union(changed, self._update_piece(piece))
        self._matching.settle()
        return changed

    def _update_piece(self, piece: Box) -> Box | None:
        now, before = as_object_ids(self._ids[piece]), self._counted[piece]
        changed = now != before
        if self._labels is not None:
            now_labels = as_ids(self._labels[piece])
            changed |= now_labels != self._counted_labels[piece]
        box = changed_box(changed, piece)
        if box is not None:
            self._matching.move(self._table(piece, changed), -1)
            before[changed] = now[changed]
            if self._labels is not None:
                self._counted_labels[piece][changed] = now_labels[changed]
            self._matching.move(self._table(piece, changed))
        return box

    def predicted(
        self, region: Region, reference: ArrayLike, labels: ArrayLike | None = None
    ) -> None:
        """Replace the predicted objects within `region`, as a newer prediction does.

        Parameters
        ----------
        region : tuple of slices or None
            Where the prediction lies; None is the whole array.
        reference : array of int or bool
            Object ids, of the shape of `region`.
        labels : array of int or bool, same shape, optional
            Their class ids; given if and only if `reference_labels` was.

        Raises
        ------
        LabelsError
            If the prediction does not fit the region, or there are class ids for one
            of the old and the new prediction only.
        """
        if (labels is None) != (not self._classed):
            raise LabelsError(
                "The prediction and the reference that it replaces must both have "
                "class ids, or neither."
            )
        box = as_box(region, self._ids.shape)
        shape = box_shape(box)
        new = as_object_ids(np.asarray(reference))
        new_labels = no_classes(shape) if labels is None else as_ids(np.asarray(labels))
        if not new.shape == new_labels.shape == shape:
            raise LabelsError(
                f"The prediction has shape {new.shape}, its class ids "
                f"{new_labels.shape}, and its region {shape}; all must be the same."
            )
        self._make_writeable()
        for piece in split(box):
            part = relative(piece, box)
            self._matching.move(self._table(piece), -1)
            self._reference[piece] = new[part]
            if labels is not None:
                self._reference_labels[piece] = new_labels[part]
            self._matching.move(self._table(piece))
        self._matching.settle()

    def _make_writeable(self) -> None:
        if not self._reference.flags.writeable:
            self._reference = self._reference.copy()
        if self._classed and not self._reference_labels.flags.writeable:
            self._reference_labels = self._reference_labels.copy()
