"""What to do first, where there is nothing to work on yet."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_seg._qt.panels.common import Panel, button, link

__all__ = ["WelcomePanel"]

_STEPS = """
<ol style="margin-left: -22px">
<li>Open an image, or try the sample.</li>
<li>Press <b>Predict view</b>, and correct the mask with the brush: IoU and Dice move
with it.</li>
<li>Press <b>Fine-tune</b>, and look at what the model has learned from you.</li>
</ol>
"""
_CHECK = link("doctor", "Something does not work? Check this computer…")


class WelcomePanel(Panel):
    """Three steps, and the buttons for the first of them."""

    openWanted = Signal()
    sampleWanted = Signal()
    checkWanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setObjectName("welcome_panel")
        steps = QLabel(_STEPS)
        steps.setObjectName("welcome_label")
        steps.setWordWrap(True)
        self.rows.addWidget(steps)
        self.open = button("Open image…", "open_image_button", "Open an image file.")
        self.sample = button(
            "Try the sample",
            "sample_button",
            "Open a stained tissue section, which comes with napari-seg.",
        )
        row = QHBoxLayout()
        row.addWidget(self.open)
        row.addWidget(self.sample)
        self.rows.addLayout(row)
        self.check = QLabel(_CHECK)
        self.check.setObjectName("check_link")
        self.check.setAccessibleName("Check this computer")
        self.rows.addWidget(self.check)
        self.open.clicked.connect(self.openWanted)
        self.sample.clicked.connect(self.sampleWanted)
        self.check.linkActivated.connect(lambda _: self.checkWanted.emit())
