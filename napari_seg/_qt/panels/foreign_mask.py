"""A row that appears where a layer looks like a mask of another program."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy

from napari_seg._qt.panels.bar import Bar
from napari_seg._qt.panels.common import button, gate

__all__ = ["ForeignMaskRow"]


class ForeignMaskRow(Bar):
    """Offers to take a mask in, as the prediction or as the truth.

    Signals
    -------
    takeWanted : str, int
        "prediction" or "truth", and which of the meanings in the list is chosen.
    ignoreWanted
        It shall be offered no more.
    """

    takeWanted = Signal(str, int)
    ignoreWanted = Signal()

    def __init__(self) -> None:
        self.prediction = button(
            "Treat as prediction",
            "treat_as_prediction_button",
            "Start from this mask: it is written wherever you vouch for nothing, and "
            "the scores compare it with the mask as you correct it.",
        )
        self.truth = button(
            "Treat as truth",
            "treat_as_truth_button",
            "Vouch for this mask: the scores compare the prediction with it, and "
            "fine-tuning learns from it. Pixels of 255 stay unknown. One Ctrl+Z takes "
            "it back.",
        )
        self.ignore = button(
            "✕", "foreign_mask_ignore_button", "It is no mask of this image."
        )
        self.ignore.setAccessibleName("Ignore this layer")
        self.ignore.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.ignore.setFixedWidth(28)
        super().__init__("foreign_mask_row", self.prediction, self.truth, self.ignore)
        self.meaning = QComboBox()
        self.meaning.setObjectName("foreign_mask_combo")
        self.meaning.setAccessibleName("What its numbers are")
        self.meaning.setToolTip(
            "What the numbers of the mask are. Pixels of 255 are unknown, unless they "
            "are objects."
        )
        # Long names must not widen the dock: the list shows them whole.
        self.meaning.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.meaning.setMinimumContentsLength(12)
        self.meaning.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Its numbers are", self.meaning)
        self.layout().insertLayout(1, form)
        self.prediction.clicked.connect(lambda: self._take("prediction"))
        self.truth.clicked.connect(lambda: self._take("truth"))
        self.ignore.clicked.connect(self.ignoreWanted)

    def _take(self, treatment: str) -> None:
        self.takeWanted.emit(treatment, max(self.meaning.currentIndex(), 0))

    def show_mask(self, text: str, meanings: Sequence[str], obstacle: str) -> None:
        """Offer a mask.

        Parameters
        ----------
        text : str
            What is said of it; without a text there is none.
        meanings : sequence of str
            What its numbers could be, the likeliest first.
        obstacle : str
            Why it cannot be taken in, or nothing.
        """
        shown = [self.meaning.itemText(i) for i in range(self.meaning.count())]
        if shown != list(meanings):
            self.meaning.clear()
            self.meaning.addItems(list(meanings))
        self.meaning.setEnabled(len(meanings) > 1)
        gate(self.prediction, obstacle)
        gate(self.truth, obstacle)
        self.ask(text)
