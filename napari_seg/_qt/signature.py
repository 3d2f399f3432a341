"""Asks who publishes a model, and under which terms."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QWidget,
)

from napari_seg.workspace.models_out import LICENSES, Signature

__all__ = ["SignatureDialog", "ask_for_signature"]


class SignatureDialog(QDialog):
    """A form for a :class:`~napari_seg.workspace.models_out.Signature`.

    Parameters
    ----------
    parent : QWidget
        What it stands over.
    signature : Signature
        What is proposed.
    """

    def __init__(self, parent: QWidget, signature: Signature) -> None:
        super().__init__(parent)
        self.setObjectName("signature_dialog")
        self.setWindowTitle("BioImage Model Zoo package")
        words = QLabel(
            "A package tells who made the model, and what others may do with it. The "
            "middle of the image becomes its test image."
        )
        words.setWordWrap(True)
        self.author = QLineEdit(signature.author)
        self.author.setObjectName("package_author_edit")
        self.author.setPlaceholderText("Name, or several with commas between them")
        self.license = QComboBox()
        self.license.setObjectName("package_license_combo")
        self.license.setEditable(True)
        self.license.addItems(LICENSES)
        self.license.setCurrentText(signature.license)
        self.license.setToolTip("An SPDX identifier, such as CC-BY-4.0.")
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        form = QFormLayout(self)
        form.addRow(words)
        form.addRow("Author", self.author)
        form.addRow("Licence", self.license)
        form.addRow(self.buttons)
        for changed in (self.author.textChanged, self.license.currentTextChanged):
            changed.connect(self._gate)
        self._gate()

    def value(self) -> Signature:
        """Return what was given."""
        return Signature(self.author.text(), self.license.currentText().strip())

    def _gate(self) -> None:
        given = self.value()
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(bool(given.authors and given.license))


def ask_for_signature(parent: QWidget, signature: Signature) -> Signature | None:
    """Return what the user gives, None if they would rather not."""
    dialog = SignatureDialog(parent, signature)
    try:
        return dialog.value() if dialog.exec() else None
    finally:
        dialog.deleteLater()
