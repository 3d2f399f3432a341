"""Presents the first steps."""

from __future__ import annotations

import subprocess
import sys

from qtpy.QtWidgets import QDialog, QDialogButtonBox, QFileDialog, QLabel, QVBoxLayout

from napari_seg._qt.notify import show_failure
from napari_seg._qt.panels.welcome import WelcomePanel
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.errors import ImageError
from napari_seg.workspace.tasks import Job, Runner

__all__ = ["WelcomePresenter"]

_DOCTOR = (sys.executable, "-m", "napari_seg", "doctor")
_PATIENCE = 120.0


class WelcomePresenter:
    """Connects :class:`WelcomePanel` with the viewer."""

    def __init__(self, panel: WelcomePanel, link: ViewerLink, runner: Runner) -> None:
        self._panel, self._link, self._runner = panel, link, runner
        panel.openWanted.connect(self._open)
        panel.sampleWanted.connect(self._open_sample)
        panel.checkWanted.connect(self._check)
        link.imagesChanged.connect(self.show)
        self.show()

    def show(self) -> None:
        """Show the steps until there is an image."""
        self._panel.setVisible(not self._link.images())

    def _open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._panel, "Open an image")
        if not path:
            return
        try:
            self._link.viewer.open(path)
        except Exception as error:  # noqa: BLE001 - readers raise whatever they meet
            reason = str(error) or type(error).__name__
            show_failure(ImageError(f"{path} could not be opened: {reason}"))

    def _open_sample(self) -> None:
        self._link.viewer.open_sample("napari-seg", "ihc")

    def _check(self) -> None:
        self._panel.check.setEnabled(False)
        self._runner(
            _doctor(),
            on_item=self._show_report,
            on_done=lambda: self._panel.check.setEnabled(True),
            on_error=show_failure,
        )

    def _show_report(self, text: str) -> None:
        dialog = QDialog(self._panel)
        dialog.setObjectName("doctor_dialog")
        dialog.setWindowTitle("This computer")
        label = QLabel(f"<pre>{text}</pre>")
        label.setObjectName("doctor_label")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(dialog.close)
        dialog.finished.connect(lambda _: dialog.deleteLater())
        layout = QVBoxLayout(dialog)
        layout.addWidget(label)
        layout.addWidget(buttons)
        dialog.show()


def _doctor() -> Job:
    # A process of its own: it also looks at what would end this one.
    done = subprocess.run(
        _DOCTOR, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    yield (done.stdout + done.stderr).strip()
