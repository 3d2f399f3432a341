"""Fine-tuning: time, curves, the verdict and what to do with it."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFrame, QHBoxLayout, QVBoxLayout

from napari_seg._qt.panels.common import Panel, button, gate, show_switch, small_label
from napari_seg._qt.plots import CurvePlot

__all__ = ["TeachPanel"]

#: Of the answer that is proposed; the blue is seen in napari's dark and light theme.
_PROPOSED = "QPushButton:default { border: 2px solid #3D8BFF; }"


class TeachPanel(Panel):
    """Start training, watch it, keep or discard its result."""

    finetuneWanted = Signal(float)
    stopWanted = Signal()
    keepWanted = Signal()
    discardWanted = Signal()
    compareWanted = Signal(bool)

    def __init__(self) -> None:
        super().__init__("Fine-tune")
        self.minutes = QDoubleSpinBox()
        self.minutes.setObjectName("finetune_minutes")
        self.minutes.setAccessibleName("Minutes of training")
        self.minutes.setToolTip("How long to train.")
        self.minutes.setRange(0.1, 600)
        self.minutes.setDecimals(1)
        self.minutes.setValue(1)
        self.minutes.setSuffix(" min")
        self.start = button(
            "Fine-tune",
            "finetune_button",
            "Train the model on what you corrected and accepted.",
        )
        self.stop = button(
            "Stop",
            "finetune_stop_button",
            "End training now; keep what was learned so far.",
        )
        row = QHBoxLayout()
        row.addWidget(self.minutes)
        row.addWidget(self.start, 1)
        row.addWidget(self.stop)
        self.rows.addLayout(row)
        self.facts = small_label("finetune_label")
        self.rows.addWidget(self.facts)
        self.plot = CurvePlot("seconds", bounded=False)
        self.plot.setObjectName("loss_plot")
        self.plot.setAccessibleName("Loss and held-out Dice over the seconds")
        self.rows.addWidget(self.plot)
        self.plot.hide()

        self.card = QFrame()
        self.card.setFrameShape(QFrame.Shape.StyledPanel)
        self.card.setObjectName("verdict_card")
        self.card.setStyleSheet(_PROPOSED)
        self.verdict = small_label("verdict_label")
        self.keep = button(
            "Keep", "keep_button", "Use the new model and predict again with it."
        )
        self.discard = button(
            "Discard", "discard_button", "Go on with the model from before."
        )
        self.compare = button(
            "Compare",
            "compare_button",
            "Show the view as the new model would have it, with a line around what "
            "differs. Click again to see the mask as it is.",
        )
        self.compare.setCheckable(True)
        self.compared = small_label("compare_label")
        choices = QHBoxLayout()
        choices.addWidget(self.keep)
        choices.addWidget(self.discard)
        choices.addWidget(self.compare)
        inside = QVBoxLayout(self.card)
        inside.setContentsMargins(6, 6, 6, 6)
        inside.addWidget(self.verdict)
        inside.addLayout(choices)
        inside.addWidget(self.compared)
        self.rows.addWidget(self.card)
        self.card.hide()

        self.start.clicked.connect(
            lambda: self.finetuneWanted.emit(self.minutes.value())
        )
        self.stop.clicked.connect(self.stopWanted)
        self.keep.clicked.connect(self.keepWanted)
        self.discard.clicked.connect(self.discardWanted)
        self.compare.clicked.connect(self.compareWanted)

    def show_gates(self, finetune: str, stop: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        gate(self.start, finetune)
        gate(self.stop, stop)
        self.minutes.setEnabled(bool(stop))

    def show_facts(self, text: str) -> None:
        """Show what there is to learn from, or how long it still takes."""
        self.facts.setText(text)

    def show_curves(
        self,
        loss: tuple[Sequence[float], Sequence[float]],
        holdout: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        """Show loss and held-out Dice over the seconds."""
        self.plot.show()
        self.plot.set_curves({"loss": loss, "held-out Dice": holdout})

    def show_verdict(self, text: str, *, better: bool) -> None:
        """Show the card, with the sensible answer as its default."""
        self.verdict.setText(text)
        self.card.show()
        self.keep.setDefault(better)
        self.discard.setDefault(not better)
        (self.keep if better else self.discard).setFocus()

    def show_compared(self, *, on: bool, text: str, obstacle: str) -> None:
        """Show whether the new model's view is on the screen, and how it differs."""
        show_switch(self.compare, self.compared, on=on, text=text, obstacle=obstacle)

    def hide_verdict(self) -> None:
        """Hide the card."""
        self.card.hide()
