"""Mask x mask -> numbers: confusion matrix, IoU, Dice, and the live score."""

from napari_seg.scoring.confusion import UNKNOWN, Scores, confusion_matrix, score
from napari_seg.scoring.live import LiveScore

__all__ = ["UNKNOWN", "LiveScore", "Scores", "confusion_matrix", "score"]
