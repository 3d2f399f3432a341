"""Image, model and device; the buttons that predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_seg._qt.panels.bar import Bar
from napari_seg._qt.panels.common import Panel, button, gate, small_label
from napari_seg._qt.panels.reading import ReadingRow
from napari_seg.models.spec import LARGEST_ZOOM, SMALLEST_ZOOM

__all__ = ["SourcePanel"]

_MEASURE_HINT = (
    "Draw a line across a typical object; the zoom is then set so that the model sees "
    "it in the size that it has learned."
)
_FIT_HINT = (
    "The pixels of this image are of another size than those that the model has "
    "learned; with this zoom they are alike."
)
_NOTHING_TO_COMPARE = (
    "Nobody has told how large the objects are that this model has learned; set the "
    "zoom by hand."
)
_MODEL_HINT = "The network that predicts."
_SLICES_HINT = (
    "How many neighbouring slices of the stack a new model sees at a time, to segment "
    "the one in their middle (2.5-D). What is hard to tell in one slice often is not "
    "with its neighbours."
)
_IMAGENET_HINT = (
    "Begin with an encoder that has learned from 1.3 million photographs (ImageNet, by "
    "torchvision) instead of random weights: fewer labels are needed."
)
_RUN_ON_HINT = (
    "What computes predictions: this computer, or the workers of a dask scheduler, "
    "such as a server with GPUs. The image is sent there tile by tile. Fine-tuning "
    "stays here."
)


class SourcePanel(Panel):
    """What to predict, with what, and how far it is.

    Signals
    -------
    imageChosen : object
        The chosen item's data, or None.
    modelChosen : object
        Likewise.
    axisNamed : int, str
        An axis of the image is to be read with another letter.
    channelsChosen : tuple of int
        The model is to take these channels.
    slicesChosen : int
        A new model is to see so many slices at a time.
    zoomChosen : float
        The model is to see the image in this size.
    measureWanted : bool
        The user takes the ruler in hand, or puts it down.
    computerChosen : str or None
        Predictions are to be computed by this scheduler; empty is this computer, and
        None one that the user has yet to name.
    """

    imageChosen = Signal(object)
    modelChosen = Signal(object)
    modelFileWanted = Signal()
    axisNamed = Signal(int, str)
    channelsChosen = Signal(object)
    slicesChosen = Signal(int)
    zoomChosen = Signal(float)
    measureWanted = Signal(bool)
    imagenetWanted = Signal(bool)
    computerChosen = Signal(object)
    liveWanted = Signal(bool)
    keysWanted = Signal()
    predictViewWanted = Signal()
    predictAllWanted = Signal()
    cancelWanted = Signal()
    goOnWanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._add_choices()
        self._add_saved_work()
        self._add_buttons()
        self.show_idle()
        self.show_imagenet(None)
        self.show_note("")
        self.show_channels([], None)
        self.show_slices([], None)
        self.show_zoom(1.0, None, None)

    def _add_choices(self) -> None:
        """Add what is predicted, and with what."""
        self.image = _combo("image_combo", "Image", "The image layer to work on.")
        self.reading = ReadingRow()
        self.axes = self.reading.label
        self.channels = _combo(
            "channel_combo", "Channel", "What the model takes of the image's channels."
        )
        self.channels.setPlaceholderText("Choose…")
        self.slices = _combo("slices_combo", "Slices", _SLICES_HINT)
        self.model = _combo("model_combo", "Model", _MODEL_HINT)
        self.imagenet = QCheckBox("Start from ImageNet weights")
        self.imagenet.setObjectName("imagenet_check")
        self.imagenet.setAccessibleName(self.imagenet.text())
        self.imagenet.setToolTip(_IMAGENET_HINT)
        self.run_on = _combo("run_on_combo", "Run on", _RUN_ON_HINT)
        self.device = small_label("device_label")
        self.note = small_label("model_note")
        self.note.setOpenExternalLinks(True)
        self._lay_out_choices()
        for combo, signal in (
            (self.image, self.imageChosen),
            (self.channels, self.channelsChosen),
            (self.slices, self.slicesChosen),
            (self.model, self.modelChosen),
            (self.run_on, self.computerChosen),
        ):
            combo.activated.connect(
                lambda _, combo=combo, signal=signal: signal.emit(combo.currentData())
            )
        self.reading.axisNamed.connect(self.axisNamed)
        self.imagenet.clicked.connect(self.imagenetWanted)

    def _lay_out_choices(self) -> None:
        keys = _small_button("keys_button", "?", "Keys", "List the keys.")
        keys.clicked.connect(self.keysWanted)
        open_file = _small_button(
            "model_file_button",
            "…",
            "Open a model file",
            "Open a model file (.safetensors), or a package of the BioImage Model Zoo "
            "(.zip, or rdf.yaml in a folder).",
        )
        open_file.clicked.connect(self.modelFileWanted)
        self._form = form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", _side_by_side(self.image, keys))
        form.addRow("", self.reading)
        form.addRow("Channel", self.channels)
        form.addRow("Model", _side_by_side(self.model, open_file))
        form.addRow("Slices", self.slices)
        form.addRow("Zoom", self._zoom_row())
        form.addRow("", self.imagenet)
        form.addRow("Run on", self.run_on)
        self.rows.addLayout(form)
        # Not in the form, which gives a wrapping label twice the height it needs.
        self.rows.addWidget(self.device)
        self.rows.addWidget(self.note)

    def _zoom_row(self) -> QHBoxLayout:
        """Return what chooses in which size the model sees the image."""
        self.zoom = QDoubleSpinBox()
        self.zoom.setObjectName("zoom_spin")
        self.zoom.setAccessibleName("Zoom")
        self.zoom.setDecimals(2)
        self.zoom.setRange(SMALLEST_ZOOM, LARGEST_ZOOM)
        self.zoom.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.zoom.setSuffix(" ×")
        self.zoom.setKeyboardTracking(False)
        self.measure = button("Measure", "measure_button", _MEASURE_HINT)
        self.measure.setCheckable(True)
        self.fit_zoom = button("", "fit_zoom_button", _FIT_HINT)
        row = QHBoxLayout()
        for each in (self.zoom, self.measure, self.fit_zoom):
            row.addWidget(each)
        self.zoom.valueChanged.connect(self.zoomChosen)
        self.measure.clicked.connect(self.measureWanted)
        self.fit_zoom.clicked.connect(
            lambda: self.zoom.setValue(self.fit_zoom.property("zoom"))
        )
        return row

    def show_zoom(
        self, zoom: float, learned: float | None, fitting: float | None
    ) -> None:
        """Show in which size the model sees the image.

        Parameters
        ----------
        zoom : float
            The factor.
        learned : float or None
            Diameter in pixels of the objects that the model has learned, if known.
        fitting : float or None
            The factor by which pixels get the size of those that it has learned, if
            that is another.
        """
        self.zoom.blockSignals(True)
        self.zoom.setValue(zoom)
        self.zoom.blockSignals(False)
        objects = "" if learned is None else f", about {learned:.0f} px across"
        self.zoom.setToolTip(
            "In which size the model sees the image: 0.5 halves it. Objects shall be "
            f"as large as those that the model has learned{objects}."
        )
        gate(self.measure, "" if learned is not None else _NOTHING_TO_COMPARE)
        self.fit_zoom.setVisible(fitting is not None)
        if fitting is not None:
            self.fit_zoom.setProperty("zoom", fitting)
            self.fit_zoom.setText(f"Use {fitting:.2f} ×")

    def _add_saved_work(self) -> None:
        self.go_on = button(
            "Go on",
            "go_on_button",
            "Bring back the mask, what was reviewed, the scores and the model.",
        )
        self.go_on.clicked.connect(self.goOnWanted)
        self.saved = Bar("saved_bar", self.go_on)
        self.rows.addWidget(self.saved)

    def _add_buttons(self) -> None:
        """Add what predicts and cancels, and how far it is."""
        self.predict_view = button(
            "Predict view",
            "predict_view_button",
            "Predict what is on the screen now.",
        )
        self.predict_all = button(
            "Predict all",
            "predict_all_button",
            "Predict the whole image, what is on the screen first.",
        )
        self.cancel = button(
            "Cancel", "cancel_button", "Stop; finished parts of the mask stay."
        )
        buttons = QHBoxLayout()
        for each in (self.predict_view, self.predict_all, self.cancel):
            buttons.addWidget(each)
        self.rows.addLayout(buttons)
        self.live = QCheckBox("Live")
        self.live.setObjectName("live_check")
        self.live.setAccessibleName("Live: predict what comes into view")
        self.live.setToolTip(
            "Predict what comes into view as soon as the view stands still; what you "
            "corrected or accepted stays."
        )
        self.live.toggled.connect(self.liveWanted)
        self.progress = QProgressBar()
        self.progress.setObjectName("progress_bar")
        self.progress.setAccessibleName("Progress of the prediction")
        self.progress.setRange(0, 1000)
        state = QHBoxLayout()
        state.addWidget(self.live)
        state.addWidget(self.progress, 1)
        self.rows.addLayout(state)
        self.predict_view.clicked.connect(self.predictViewWanted)
        self.predict_all.clicked.connect(self.predictAllWanted)
        self.cancel.clicked.connect(self.cancelWanted)

    def show_images(self, images: Sequence[tuple[str, Any]], chosen: Any) -> None:
        """List the images as (name, data) and mark the chosen one."""
        _fill(self.image, images, chosen, "Open an image to begin")

    def show_models(self, models: Sequence[tuple[str, Any, str]], chosen: Any) -> None:
        """List the models as (label, data, what it is for); mark the chosen one."""
        _fill(self.model, [each[:2] for each in models], chosen, "No model")
        for row, (*_, hint) in enumerate(models):
            self.model.setItemData(row, hint, Qt.ItemDataRole.ToolTipRole)
        hint = self.model.currentData(Qt.ItemDataRole.ToolTipRole)
        self.model.setToolTip(hint or _MODEL_HINT)

    def show_channels(self, choices: Sequence[tuple[str, Any]], chosen: Any) -> None:
        """List what the model could take as (label, channels); hide a single one."""
        self._show_choice(self.channels, choices, chosen)

    def show_slices(self, choices: Sequence[tuple[str, Any]], chosen: Any) -> None:
        """List how many slices a new model could see; hide it where that is none."""
        self._show_choice(self.slices, choices, chosen)

    def _show_choice(
        self, combo: QComboBox, choices: Sequence[tuple[str, Any]], chosen: Any
    ) -> None:
        _fill(combo, choices, chosen, "")
        if all(data != chosen for _, data in choices):
            combo.setCurrentIndex(-1)
        for widget in (combo, self._form.labelForField(combo)):
            widget.setVisible(len(choices) > 1)

    def show_computers(self, known: Sequence[str], chosen: str) -> None:
        """List where predictions can be computed, and mark where they are."""
        schedulers = [*known, *([chosen] if chosen and chosen not in known else [])]
        entries: list[tuple[str, str | None]] = [("This computer", "")]
        entries += [(address.removeprefix("tcp://"), address) for address in schedulers]
        _fill(self.run_on, [*entries, ("Dask scheduler…", None)], chosen, "")

    def show_imagenet(self, chosen: bool | None) -> None:
        """Offer a trained encoder for a new model; None where there is none."""
        self.imagenet.setChecked(bool(chosen))
        self.imagenet.setVisible(chosen is not None)

    def show_note(self, text: str) -> None:
        """Say something about the model, in rich text; links can be followed."""
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def show_saved(self, text: str) -> None:
        """Offer to go on with saved work; without a text there is none."""
        self.saved.ask(text)

    def show_progress(self, share: float, text: str) -> None:
        """Show how far a prediction or a download is, in words, too."""
        self.progress.setEnabled(True)
        self.progress.setValue(round(share * 1000))
        self.progress.setFormat(text)

    def show_idle(self, text: str = "") -> None:
        """Show that nothing is running."""
        self.progress.setValue(0)
        self.progress.setFormat(text)
        self.progress.setEnabled(False)

    def show_gates(self, predict: str, cancel: str) -> None:
        """Enable the buttons, or say why they cannot work now."""
        gate(self.predict_view, predict)
        gate(self.predict_all, predict)
        gate(self.cancel, cancel)


def _small_button(name: str, text: str, label: str, tooltip: str) -> QToolButton:
    made = QToolButton()
    made.setObjectName(name)
    made.setText(text)
    made.setAccessibleName(label)
    made.setToolTip(tooltip)
    made.setProperty("hint", tooltip)
    return made


def _side_by_side(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for each in widgets:
        row.addWidget(each)
    return row


def _combo(name: str, label: str, tooltip: str) -> QComboBox:
    combo = QComboBox()
    combo.setObjectName(name)
    combo.setAccessibleName(label)
    combo.setToolTip(tooltip)
    # Long names must not widen the dock: the list shows them whole.
    combo.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    combo.setMinimumContentsLength(12)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


def _fill(
    combo: QComboBox, entries: Sequence[tuple[str, Any]], chosen: Any, empty: str
) -> None:
    combo.blockSignals(True)
    combo.clear()
    for label, data in entries:
        combo.addItem(label, data)
        if data == chosen:
            combo.setCurrentIndex(combo.count() - 1)
    if not entries:
        combo.addItem(empty, None)
    combo.setEnabled(bool(entries))
    combo.blockSignals(False)
