"""Presents the images of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Layer
from npe2 import read
from qtpy.QtWidgets import QFileDialog
from tifffile import TiffFile

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.notify import show_failure
from napari_seg._qt.panels.batch import BatchPanel
from napari_seg._qt.presenters.source import SourcePresenter
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg.corrections.durable import write_atomically
from napari_seg.errors import ImageError, StorageError
from napari_seg.folders import bare_name
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.tasks import Job, Runner, Task

__all__ = ["BatchPresenter"]


class BatchPresenter:
    """Connects :class:`BatchPanel` with the workspace and the viewer's layers."""

    def __init__(
        self,
        panel: BatchPanel,
        workspace: Workspace,
        link: ViewerLink,
        source: SourcePresenter,
        mask: MaskView,
        runner: Runner,
    ) -> None:
        self._panel, self._workspace = panel, workspace
        self._link, self._source, self._mask = link, source, mask
        self._runner = runner
        self._opening: tuple[int, Task] | None = None
        self._batch = workspace.batch
        self._layer: Image | None = None
        self._batch.read = _read
        self._batch.as_source = self._as_source
        panel.folderWanted.connect(self._ask_for_folder)
        panel.imageChosen.connect(self.turn_to)
        panel.stepWanted.connect(self.step)
        panel.doneChanged.connect(self._batch.mark_done)
        panel.predictWanted.connect(self._batch.predict_all)
        panel.cancelWanted.connect(self._batch.cancel)
        panel.exportWanted.connect(self._export)
        self._batch.changed.connect(self.show)
        self._batch.image_changed.connect(self._show_image)
        self._batch.progress.connect(panel.show_progress)
        link.imagesChanged.connect(self._layers_changed)

    def stop(self) -> None:
        """Show nothing any more."""
        self._stop_opening()
        self._batch.changed.disconnect(self.show)
        self._batch.image_changed.disconnect(self._show_image)
        self._batch.progress.disconnect(self._panel.show_progress)
        self._link.imagesChanged.disconnect(self._layers_changed)

    def open(self, folder: Path) -> None:
        """Work on the images of a folder, the first one first."""
        if not self._batch.can_open(folder):
            return
        self._leave()
        self._batch.open(folder)
        if self._batch.images:
            # They would shine through, or hide what comes.
            for layer in self._link.viewer.layers:
                layer.visible = False
            self._panel.section.expand(animate=False)
            self.turn_to(0)

    def step(self, by: int) -> None:
        """Turn to the image before (-1) or after (1)."""
        place = self._batch.next_place(by)
        if place is not None:
            self.turn_to(place)

    def turn_to(self, place: int) -> None:
        """Look at an image of the folder; what was done on the one before is saved."""
        self._stop_opening()
        if place == self._batch.current and self._layer is not None:
            return
        path = self._batch.images[place].path

        def job() -> Job:
            yield _read(path)

        task = self._runner(
            job(),
            on_item=partial(self._opened, place),
            on_done=lambda: None,
            on_error=self._not_opened,
        )
        # Without threads it is there by now.
        if self._batch.current != place:
            self._opening = (place, task)
            self.show()

    def _stop_opening(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening[1].cancel()

    def _not_opened(self, error: Exception) -> None:
        self._opening = None
        show_failure(error)
        self.show()

    def _opened(self, place: int, file: _File) -> None:
        """Show an image that was read."""
        self._opening = None
        try:
            layer = _layer(file)
        except ImageError as error:
            self._not_opened(error)
            return
        # Two at a time must not write to its mask.
        self._batch.let_go(place)
        before, self._layer = self._layer, layer
        self._link.viewer.add_layer(layer)
        self._source.choose_image(
            layer, self._batch.belonging(self._link.source(layer))
        )
        self._batch.turned_to(place)
        self._remove(before)
        self._link.fit(layer)

    def _leave(self) -> None:
        self._stop_opening()
        layer, self._layer = self._layer, None
        self._remove(layer)

    def _remove(self, layer: Image | None) -> None:
        """Take an image out of the viewer that was left, and its mask."""
        if layer is None:
            return
        self._link.remove(layer)
        # Now that it is left, its mask is, too.
        self._mask.drop(layer)
        self._source.forget(layer)

    def _layers_changed(self) -> None:
        if self._layer is not None and self._layer not in self._link.viewer.layers:
            self._layer = None

    def _as_source(self, file: _File) -> ImageSource:
        return self._link.source(_layer(file))

    def show(self) -> None:
        """List the images, and what can be done with them."""
        batch, panel = self._batch, self._panel
        panel.show_folder(
            "" if batch.folder is None else batch.folder.name, busy=batch.busy
        )
        panel.show_images(len(batch.images))
        for place in range(len(batch.images)):
            self._show_image(place)
        panel.show_current(
            batch.current,
            batch.current is not None and batch.images[batch.current].done,
        )
        panel.show_ends(
            first=batch.next_place(-1) is None, last=batch.next_place(1) is None
        )

    def _show_image(self, place: int) -> None:
        """Show the row of one image."""
        batch, busy = self._batch, ""
        if self._opening is not None and self._opening[0] == place:
            busy = "opening…"
        elif place == batch.predicting:
            busy = "predicting…"
        current = place == batch.current
        self._panel.show_image(place, batch.images[place], current=current, busy=busy)

    def _ask_for_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self._panel, "Open a folder of images"
        )
        if folder:
            self.open(Path(folder))

    def _export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self._panel, "Save the table", "scores.csv", "Tables (*.csv)"
        )
        if not path:
            return
        try:
            write_atomically(Path(path), self._batch.table().encode())
        except OSError as error:
            show_failure(
                StorageError(f"{path} could not be written ({error}): choose another.")
            )


@dataclass(frozen=True)
class _File:
    """What a reader made of a file."""

    path: Path
    layers: list[Any]


def _read(path: Path) -> _File:
    """Read a file as napari would open it.

    Raises
    ------
    ImageError
        If no reader can.
    """
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            # After tifffile napari asks other libraries, which leave the file open and
            # answer with programs to install.
            with TiffFile(path):
                pass
        return _File(path, list(read([str(path)], stack=False)))
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path.name} cannot be read: {reason}.") from error


def _layer(file: _File) -> Image:
    """Return the first image layer of a file.

    Raises
    ------
    ImageError
        If it has none.
    """
    for data, *rest in file.layers:
        meta = {"name": bare_name(file.path)} | (rest[0] if rest else {})
        kind = rest[1] if len(rest) > 1 else "image"
        if str(kind) == "image":
            made = Layer.create(data, meta, "image")
            # Channels that a reader splits come as several layers.
            return made[0] if isinstance(made, list) else made
    raise ImageError(
        f"There is no image in {file.path.name}; labels and points are no images."
    )
