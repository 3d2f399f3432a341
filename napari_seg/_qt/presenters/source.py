"""Presents image, model, device and the progress of a prediction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_seg._qt.panels.common import link
from napari_seg._qt.panels.source import SourcePanel
from napari_seg._qt.sketch import Sketch
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.errors import DownloadError
from napari_seg.models.catalog import PACKAGE_NAMES
from napari_seg.models.published import Fetched, PublishedFile
from napari_seg.workspace import (
    ImageSource,
    ModelChoice,
    Progress,
    Workspace,
    obstacles,
)
from napari_seg.workspace.reading import LETTERS, SLICES

__all__ = ["SourcePresenter"]

#: Of an unpacked package the description is chosen.
_MODEL_FILES = ("*.safetensors", "*.zip", *PACKAGE_NAMES)
#: Milliseconds between two looks at what is on the screen.
_GLANCE = 100


class SourcePresenter:
    """Connects :class:`SourcePanel` with the workspace.

    Attributes
    ----------
    layer : Image or None
        The image layer that is worked on.
    """

    def __init__(
        self, panel: SourcePanel, workspace: Workspace, link: ViewerLink
    ) -> None:
        self._panel, self._workspace, self._link = panel, workspace, link
        self.layer: Image | None = None
        self._not_fetched: PublishedFile | None = None
        self._ruler: Sketch | None = None
        self._before_ruler: Layer | None = None
        self._left: WeakKeyDictionary[Image, ImageSource] = WeakKeyDictionary()
        self._following = QTimer()
        self._following.setInterval(_GLANCE)
        self._following.timeout.connect(self._follow_view)
        panel.imageChosen.connect(self.choose_image)
        panel.modelChosen.connect(self._choose_model)
        panel.modelFileWanted.connect(self._ask_for_model)
        panel.axisNamed.connect(workspace.reading.name_axis)
        panel.channelsChosen.connect(self._choose_channels)
        panel.slicesChosen.connect(workspace.reading.take_slices)
        panel.zoomChosen.connect(workspace.reading.set_zoom)
        panel.measureWanted.connect(self._measure)
        panel.imagenetWanted.connect(workspace.start_from_imagenet)
        panel.predictViewWanted.connect(self.predict_view)
        panel.predictAllWanted.connect(self.predict_all)
        panel.cancelWanted.connect(workspace.cancel)
        panel.goOnWanted.connect(workspace.begin)
        link.imagesChanged.connect(self.follow_layers)
        workspace.changed.connect(self.show)
        workspace.predicting.connect(self._show_progress)
        workspace.failed.connect(self._failed)
        workspace.computer_changed.connect(self.show_gates)

    def choose_image(
        self, layer: Image | None, source: ImageSource | None = None
    ) -> None:
        """Work on the image of a layer; `source` says more than the viewer knows."""
        self._measure(False)
        if self.layer is not None and self._workspace.source is not None:
            self._left[self.layer] = self._workspace.source
        current = self._workspace.source
        same_layer = layer is not None and layer is self.layer
        left = None if layer is None else self._left.get(layer)
        if source is None and layer is not None:
            known = current if same_layer else left
            source = self._link.source(layer)
            if known is not None:
                source = replace(source, project=known.project)
        if source is not None and source.same_as(left):
            # Read as it was when the user turned to another image.
            source = left
        self.layer = layer
        # Under a new name it is still the same image.
        if not (same_layer and current and source and _same_image(current, source)):
            self._workspace.set_image(source)
        self.show()

    def forget(self, layer: Image) -> None:
        """Forget how an image was read that leaves the viewer."""
        self._left.pop(layer, None)

    def follow_layers(self) -> None:
        """Take another image where the chosen one is gone, or the first to come."""
        images = self._link.images()
        if self.layer not in images:
            self.choose_image(images[0] if images else None)
        else:
            self.show()

    def _choose_model(self, choice: Any) -> None:
        if choice is not None:
            self._workspace.set_model(choice)
            self._show_models()

    def _choose_channels(self, channels: Any) -> None:
        if channels is not None:
            self._workspace.reading.take_channels(channels)

    def _measure(self, wanted: bool) -> None:
        """Take the ruler in hand, or put it down."""
        viewer = self._link.viewer
        ruler, self._ruler = self._ruler, None
        if ruler is not None:
            ruler.put_down(self._before_ruler)
        if wanted and self.layer is not None:
            self._before_ruler = viewer.layers.selection.active
            self._ruler = Sketch(
                viewer,
                self.layer,
                "diameter of an object",
                "add_line",
                self._measured,
                lambda: self._measure(False),
            )
        self._panel.measure.setChecked(self._ruler is not None)

    def _measured(self, corners: NDArray[np.float64]) -> None:
        self._measure(False)
        self._workspace.reading.measured(float(np.hypot(*(corners[-1] - corners[0]))))

    def _ask_for_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self._panel, "Open a model", "", f"Models ({' '.join(_MODEL_FILES)})"
        )
        if path:
            self._workspace.open_model(Path(path))

    def predict_view(self) -> None:
        """Predict what is on the screen."""
        self._predict(everything=False)

    def predict_all(self) -> None:
        """Predict the whole image, what is on the screen first."""
        self._predict(everything=True)

    def _predict(self, *, everything: bool) -> None:
        session = self._workspace.session
        if session is None or self.layer is None:
            return
        view = self._link.view(self.layer, session.reading)
        self._workspace.predict(view, everything=everything)

    def _follow_view(self) -> None:
        """Let the prediction of an image go on where the user looks now."""
        session = self._workspace.session
        if session is None or self.layer is None or not self._workspace.predictor.busy:
            self._following.stop()
            return
        self._workspace.look_at(self._link.view(self.layer, session.reading))

    def _show_models(self) -> None:
        """List the models; the entries are made anew each time."""
        chosen, choices = self._workspace.choice, self._workspace.choices()
        marked = next((c for c in choices if c == chosen), None)
        if marked is None and chosen is not None:
            # A new model whose classes have changed since it was chosen.
            alike = (c for c in choices if (c.label, c.path) == (chosen.label, None))
            marked = next(alike, None)
        self._panel.show_models([(c.label, c, c.hint) for c in choices], marked)
        self._show_weights(chosen)

    def _show_weights(self, choice: ModelChoice | None) -> None:
        """Offer ImageNet weights, and say what is fetched, or could not be."""
        offered = choice is not None and choice.imagenet_file is not None
        self._panel.show_imagenet(choice.imagenet if choice and offered else None)
        file = None if choice is None else choice.to_fetch
        if choice is None or file is None:
            self._panel.show_note("")
        elif file == self._not_fetched:
            self._panel.show_note(_by_hand(file))
        else:
            when = "training" if choice.untrained else "the first prediction"
            self._panel.show_note(f"{file.megabytes} MB are fetched before {when}.")

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DownloadError) and self._workspace.choice is not None:
            self._not_fetched = self._workspace.choice.to_fetch
            self._show_weights(self._workspace.choice)

    def show(self) -> None:
        """Show the state of the workspace."""
        panel, workspace = self._panel, self._workspace
        images = [(layer.name, layer) for layer in self._link.images()]
        panel.show_images(images, self.layer)
        self._show_models()
        session = workspace.session
        if self.layer is None:
            # The first steps stand above.
            panel.axes.setText("")
        elif workspace.misfit:
            panel.axes.setText(workspace.misfit)
        elif session is not None:
            panel.axes.setText(session.reading.describe())
        panel.reading.setVisible(self.layer is not None)
        self._show_reading()
        saved_at = workspace.past.saved_at
        panel.show_saved("" if saved_at is None else _saved_text(saved_at))
        self.show_gates()

    def _show_reading(self) -> None:
        """Offer other meanings of the axes, other channels, and slices."""
        reading = self._workspace.reading
        self._panel.reading.show_axes(reading.lengths, reading.axes, LETTERS)
        self._panel.show_channels(reading.channels, reading.picked)
        choice = self._workspace.choice
        learned = None if choice is None else choice.spec.object_diameter
        self._panel.show_zoom(reading.zoom, learned, reading.fitting_zoom)
        slices = reading.slices
        self._panel.show_slices(
            [] if slices is None else [(_slices_text(n), n) for n in SLICES], slices
        )

    def show_gates(self) -> None:
        """Enable what can work now."""
        self._panel.show_gates(
            obstacles.to_predict(self._workspace), obstacles.to_cancel(self._workspace)
        )

    def _show_progress(self, progress: Progress | Fetched | None) -> None:
        if progress is not None and not self._following.isActive():
            self._following.start()
        if progress is None:
            self._panel.show_idle()
            self._show_weights(self._workspace.choice)
        elif isinstance(progress, Fetched):
            self._not_fetched = None
            self._panel.show_progress(progress.share, progress.text)
        elif progress.done == 0:
            self._panel.show_progress(0, "starting…")
        else:
            left = f"{progress.seconds_left:.0f} s left"
            self._panel.show_progress(progress.share, f"{progress.share:.0%}   {left}")
        self.show_gates()


def _same_image(one: ImageSource, other: ImageSource) -> bool:
    return one.data is other.data and one.project == other.project


def _slices_text(count: int) -> str:
    return "one at a time" if count == 1 else f"{count} at a time (2.5-D)"


def _by_hand(file: PublishedFile) -> str:
    """Say how to get a file that could not be fetched."""
    folder = file.path.parent.as_uri()
    return (
        f"Not fetched. Get {link(file.address, 'this file')} in another way and put "
        f"it into {link(folder, 'this folder')}."
    )


def _saved_text(saved_at: float) -> str:
    when = datetime.fromtimestamp(saved_at).astimezone()
    return f"You worked on this image before; saved {when:%d %b %Y, %H:%M}."
