"""How well objects are found: panoptic quality, and average precision at an IoU.

IoU and Dice of pixels do not see whether two touching nuclei are one object or two.
The scores here count objects.  A predicted and a true object match if their IoU is
above a threshold; then, per class,

- *SQ*, segmentation quality, is the mean IoU of the matches,
- *RQ*, recognition quality, is TP / (TP + FP / 2 + FN / 2), the F1 score of objects,
- *PQ*, panoptic quality, is SQ · RQ (Kirillov et al. 2019, arXiv:1801.00868, Eq. 1
  and 2),
- *AP* is TP / (TP + FP + FN), as in the 2018 Data Science Bowl (Caicedo et al. 2019,
  Nature Methods 16:1247), Cellpose and StarDist (there: accuracy).  It is not the
  average precision of COCO, an area below a curve of objects ranked by confidence.

Counts first, ratios last: counts of images add up, scores do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.scoring.confusion import mean_present, plain_number
from napari_seg.scoring.matching import Matching
from napari_seg.scoring.sums import class_sum, ratio

__all__ = ["ObjectCounts", "ObjectScores"]


@dataclass(frozen=True, eq=False)
class ObjectCounts:
    """What is counted per class; counts of several images add up (``+``).

    Attributes
    ----------
    true_positives, false_positives, false_negatives : ndarray of int64, shape (K,)
        Matches, predicted objects without a match, true objects without one.
    iou_sum : ndarray of float64, shape (K,)
        Sum of the IoU of the matches.
    threshold : float
        IoU above which two objects match.
    """

    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]
    iou_sum: NDArray[np.float64]
    threshold: float = 0.5

    @classmethod
    def of(cls, matching: Matching) -> ObjectCounts:
        """Return the counts of a matching."""
        rows = range(matching.rules.n_classes)

        def per_class(found: Mapping[int, int]) -> NDArray[np.int64]:
            return np.array([found[row] for row in rows], np.int64)

        return cls(
            per_class(matching.matched),
            per_class(matching.predicted_alone),
            per_class(matching.true_alone),
            np.array([matching.iou_sum(row) for row in rows], np.float64),
            matching.rules.threshold,
        )

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        """Return the counts of the images of both.

        Raises
        ------
        InputError
            If the thresholds differ.
        """
        if self.threshold != other.threshold:
            raise InputError(
                f"Counts at the thresholds {self.threshold:g} and "
                f"{other.threshold:g} do not add up; compute both at the same one."
            )
        return ObjectCounts(
            class_sum(self.true_positives, other.true_positives),
            class_sum(self.false_positives, other.false_positives),
            class_sum(self.false_negatives, other.false_negatives),
            class_sum(self.iou_sum, other.iou_sum),
            self.threshold,
        )


@dataclass(frozen=True, eq=False)
class ObjectScores:
    """The scores that counts of objects hold, per class.

    All are NaN where a class has no object in either mask.  Where it has some, but no
    match, all are 0, SQ too: then PQ = SQ · RQ always holds.

    Attributes
    ----------
    counts : ObjectCounts
        Per class; one row of all objects where there are no classes.
    """

    counts: ObjectCounts

    def __add__(self, other: ObjectScores) -> ObjectScores:
        """Return the scores of the objects of both; errors are those of the counts."""
        return ObjectScores(self.counts + other.counts)

    @cached_property
    def _sizes(self) -> NDArray[np.float64]:
        """TP + FP / 2 + FN / 2 per class."""
        counts = self.counts
        misses = counts.false_positives + counts.false_negatives
        return counts.true_positives + misses / 2

    @cached_property
    def pq(self) -> NDArray[np.float64]:
        """Panoptic quality, (K,)."""
        return ratio(self.counts.iou_sum, self._sizes)

    @cached_property
    def sq(self) -> NDArray[np.float64]:
        """Segmentation quality, the mean IoU of the matches, (K,)."""
        matches = np.maximum(self.counts.true_positives, self._sizes > 0)
        return ratio(self.counts.iou_sum, matches)

    @cached_property
    def rq(self) -> NDArray[np.float64]:
        """Recognition quality, the F1 score of objects, (K,)."""
        return ratio(self.counts.true_positives, self._sizes)

    @cached_property
    def ap(self) -> NDArray[np.float64]:
        """TP / (TP + FP + FN) at the threshold, (K,); not the ranked AP of COCO."""
        counts = self.counts
        misses = counts.false_positives + counts.false_negatives
        return ratio(counts.true_positives, counts.true_positives + misses)

    @cached_property
    def mean_pq(self) -> float:
        """Mean PQ over the classes that have objects; NaN without any."""
        return mean_present(self.pq)

    @cached_property
    def mean_ap(self) -> float:
        """Mean AP over the classes that have objects; NaN without any."""
        return mean_present(self.ap)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists per class, None where there is no score.

        ``ap50`` is AP at a threshold of 0.5; at 0.75 the keys end in ``ap75``.
        """
        ap = f"ap{100 * self.counts.threshold:g}"
        return {
            "pq": [plain_number(value) for value in self.pq],
            "sq": [plain_number(value) for value in self.sq],
            "rq": [plain_number(value) for value in self.rq],
            ap: [plain_number(value) for value in self.ap],
            "mean_pq": plain_number(self.mean_pq),
            f"mean_{ap}": plain_number(self.mean_ap),
            "true_positives": self.counts.true_positives.tolist(),
            "false_positives": self.counts.false_positives.tolist(),
            "false_negatives": self.counts.false_negatives.tolist(),
        }
