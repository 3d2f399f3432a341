"""The images of a folder: how far each of them is."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_seg._qt.panels.common import Panel, button, gate, small_label
from napari_seg.workspace.batch import BatchImage

__all__ = ["BatchPanel"]

_COLUMNS = ("Image", "State", "Rev.", "IoU", "Dice")
_ROW_HEIGHT = 22
_ROWS = 7
_NO_FOLDER = "Open a folder first."


class BatchPanel(Panel):
    """A collapsed section with a table of images, and buttons to go through them.

    Signals
    -------
    imageChosen : int
        The user wants to look at this image.
    stepWanted : int
        1 for the next image, -1 for the one before.
    doneChanged : bool
        The image that is looked at is done, or not.
    """

    folderWanted = Signal()
    imageChosen = Signal(int)
    stepWanted = Signal(int)
    doneChanged = Signal(bool)
    predictWanted = Signal()
    cancelWanted = Signal()
    exportWanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.folder = small_label("batch_folder_label")
        self.open = button(
            "Open folder…",
            "batch_open_button",
            "Work on all images of a folder. They share classes and models, and "
            "fine-tuning learns from the corrections in all of them.",
        )
        self.table = self._make_table()
        self.previous = button(
            "◂ Previous", "batch_previous_button", "Turn to the image before."
        )
        self.next = button("Next ▸", "batch_next_button", "Turn to the next image.")
        self.done = QCheckBox("Done")
        self.done.setObjectName("batch_done_check")
        self.done.setAccessibleName("This image is done")
        self.done.setToolTip(
            "Nothing is left to do here: Predict all images leaves it as it is."
        )
        self.predict = button(
            "Predict all images",
            "batch_predict_button",
            "Predict every image that is not done and not the one on the screen.",
        )
        self.cancel = button(
            "Cancel", "batch_cancel_button", "Stop; finished images stay."
        )
        self.export = button(
            "Save table…", "batch_export_button", "Save states and scores as CSV."
        )
        self.progress = QProgressBar()
        self.progress.setObjectName("batch_progress")
        self.progress.setAccessibleName("Progress over all images")
        self.progress.setRange(0, 1000)
        self._lay_out()
        self._connect()
        self.show_folder("", busy=False)
        self.show_progress(None)

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(_COLUMNS))
        table.setObjectName("batch_table")
        table.setAccessibleName("Images of the folder")
        table.setToolTip(
            "How much of each image was reviewed, and mean IoU and Dice of the "
            "prediction in there. Double-click on an image to turn to it."
        )
        table.setHorizontalHeaderLabels(_COLUMNS)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        table.setWordWrap(False)
        table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        return table

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        buttons = QGridLayout()
        for place, widget in enumerate((self.previous, self.next, self.done)):
            buttons.addWidget(widget, 0, place)
        for place, widget in enumerate((self.predict, self.cancel, self.export)):
            buttons.addWidget(widget, 1, place)
        top = QHBoxLayout()
        top.addWidget(self.folder, 1)
        top.addWidget(self.open)
        column.addLayout(top)
        column.addWidget(self.table)
        column.addLayout(buttons)
        column.addWidget(self.progress)
        self.section = QCollapsible("Images of a folder")
        self.section.setObjectName("batch_section")
        self.section.layout().setContentsMargins(0, 0, 0, 0)
        self.section.setDuration(0)
        self.section.addWidget(content)
        self.section.collapse(animate=False)
        self.rows.addWidget(self.section)

    def _connect(self) -> None:
        self.open.clicked.connect(self.folderWanted)
        self.table.itemDoubleClicked.connect(
            lambda item: self.imageChosen.emit(item.row())
        )
        self.table.itemActivated.connect(lambda item: self.imageChosen.emit(item.row()))
        self.previous.clicked.connect(lambda: self.stepWanted.emit(-1))
        self.next.clicked.connect(lambda: self.stepWanted.emit(1))
        self.done.clicked.connect(self.doneChanged)
        self.predict.clicked.connect(self.predictWanted)
        self.cancel.clicked.connect(self.cancelWanted)
        self.export.clicked.connect(self.exportWanted)

    def show_folder(self, name: str, *, busy: bool) -> None:
        """Show which folder is open, and what can be done with it."""
        self.folder.setText(name or "No folder is open.")
        nothing = "" if name else _NO_FOLDER
        for each in (self.previous, self.next, self.export):
            gate(each, nothing)
        already = "The images are being predicted." if busy else ""
        gate(self.predict, nothing or already)
        gate(self.cancel, "" if busy else "No images are being predicted.")
        self.table.setVisible(bool(name))

    def show_images(self, count: int) -> None:
        """Make room for so many images."""
        self.table.setRowCount(count)
        self.table.setFixedHeight(
            min(max(count, 2), _ROWS) * _ROW_HEIGHT
            + self.table.horizontalHeader().sizeHint().height()
            + 4
        )

    def show_image(
        self, row: int, image: BatchImage, *, current: bool, busy: str
    ) -> None:
        """Show an image; `busy` says what is happening to it, if anything is."""
        mark = "●\N{NO-BREAK SPACE}" if current else ""
        texts = (
            f"{mark}{image.path.name}",
            busy or image.state,
            f"{image.reviewed:.0%}",
            "–" if image.iou is None else f"{image.iou:.2f}",
            "–" if image.dice is None else f"{image.dice:.2f}",
        )
        for column, text in enumerate(texts):
            self._set(row, column, text)
        self.table.item(row, 0).setToolTip(str(image.path))

    def show_current(self, row: int | None, done: bool) -> None:
        """Bring the image that is looked at into view, and say if it is done."""
        self.done.setEnabled(row is not None)
        self.done.setChecked(done)
        if row is not None:
            self.table.scrollToItem(self.table.item(row, 0))

    def show_ends(self, *, first: bool, last: bool) -> None:
        """Say that there is no image before or after this one."""
        if first and self.previous.isEnabled():
            gate(self.previous, "This is the first image.")
        if last and self.next.isEnabled():
            gate(self.next, "This is the last image.")

    def show_progress(self, told: tuple[float, str] | None) -> None:
        """Show how far the prediction of all images is."""
        self.progress.setVisible(told is not None)
        if told is not None:
            share, text = told
            self.progress.setValue(round(1000 * share))
            self.progress.setFormat(f"{share:.0%}   {text}")

    def _set(self, row: int, column: int, text: str) -> None:
        item = self.table.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            if column > 1:
                item.setTextAlignment(
                    Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
            self.table.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
