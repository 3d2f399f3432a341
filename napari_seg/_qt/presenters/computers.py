"""Presents where predictions are computed."""

from __future__ import annotations

from qtpy.QtWidgets import QInputDialog, QLineEdit

from napari_seg._qt.panels.common import link
from napari_seg._qt.panels.source import SourcePanel
from napari_seg.workspace import Workspace

__all__ = ["ComputersPresenter"]

_QUESTION = (
    "Address that the scheduler printed when it was started with `dask scheduler`:"
)
_EXAMPLE = "tcp://gpu-server:8786"
_NO_GPU = (
    "PyTorch found no GPU here. With an NVIDIA card, install its driver and the "
    "PyTorch for CUDA (pytorch.org/get-started). Apple's GPUs need macOS 12.3 or "
    "newer. A GPU elsewhere is used with Run on › Dask scheduler."
)


class ComputersPresenter:
    """Connects the choice of a computer in :class:`SourcePanel` with the workspace."""

    def __init__(self, panel: SourcePanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace
        self._here = ""
        panel.computerChosen.connect(self._choose)
        panel.device.linkActivated.connect(lambda _: workspace.told.emit(_NO_GPU))
        workspace.computer_changed.connect(self.show)
        self.show()

    def show_device(self, text: str) -> None:
        """Show what computes on this computer."""
        self._here = text
        self.show()

    def show(self) -> None:
        """Show what computes."""
        computers = self._workspace.computers
        self._panel.show_computers(computers.known, computers.address)
        text = computers.text or self._here
        if text.startswith("CPU"):
            text += f" · {link('gpu', 'no GPU?')}"
        self._panel.device.setText(text)

    def _choose(self, address: str | None) -> None:
        if address is None:
            # Until it is named, the list shows what is used.
            self.show()
            address, chosen = QInputDialog.getText(
                self._panel,
                "Dask scheduler",
                _QUESTION,
                QLineEdit.EchoMode.Normal,
                next(iter(self._workspace.computers.known), _EXAMPLE),
            )
            if not chosen:
                return
        self._workspace.computers.use(address)
