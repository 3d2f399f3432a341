"""Pictures of the running program for README and docs, taken during the tour.

``make screenshots``, or on a desktop ``python tools/screenshots.py FOLDER``: writes
``dock.png``, the window after fine-tuning, ``panels.png``, the whole dock,
``folder.png``, its list of images, ``objects.png``, the window with objects and their
measurements, and ``first.png``, what it says before there is an image; each in the dark
theme and, with ``-light`` in its name, in the light one.  The figures in them are those
of the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import napari
import numpy as np
import tifffile
from PIL import Image
from qtpy.QtCore import QBuffer, QIODevice
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QDoubleSpinBox,
    QScrollArea,
    QTableView,
    QWidget,
)
from superqt import QCollapsible

from napari_seg import samples
from napari_seg._qt.app import show_dock
from napari_seg._qt.palette import OKABE_ITO
from napari_seg._qt.panels.measurements import MeasurementsPanel
from napari_seg._qt.tour import Tour

WINDOW = 1500, 1060
#: Centre (y, x) and magnification of the picture: corrected and uncorrected nuclei.
CENTRE, ZOOM = (281.0, 205.0), 2.2
#: Colours of the table; those of curves are few pixels, and would be forgotten.
COLOURS, CURVES = 248, OKABE_ITO


class PhotographedTour(Tour):
    """The tour, which frames what it leaves as its screenshot."""

    def _picture(self, path: Path) -> None:
        self._viewer.camera.center = CENTRE
        self._viewer.camera.zoom = ZOOM
        # Notifications fade meanwhile.
        settle(8)
        panels = self._dock.findChild(QScrollArea).widget()
        for ending in themes(self._viewer):
            window = self._viewer.screenshot(canvas_only=False, flash=False)
            name = f"{path.stem}{ending}.png"
            save(Image.fromarray(window).convert("RGB"), path.with_name(name))
            save(as_image(panels.grab()), path.with_name(f"panels{ending}.png"))


def settle(seconds: float) -> None:
    """Let Qt draw, and what was begun go on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def themes(viewer: napari.Viewer) -> Iterator[str]:
    """Go through the themes; yield what stands at the end of a picture's name."""
    for theme, ending in (("light", "-light"), ("dark", "")):
        viewer.theme = theme
        settle(1)
        yield ending


def photograph_folder(viewer: napari.Viewer, folder: Path) -> None:
    """Take pictures of an empty dock, and of one with a folder of images."""
    dock = show_dock(viewer)
    settle(4)
    for ending in themes(viewer):
        save(as_image(dock.grab()), folder / f"first{ending}.png")
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "plate 7"
        images.mkdir()
        for number in range(5):
            sample = samples.synthetic_nuclei((256, 256), n=25, seed=number)
            tifffile.imwrite(images / f"A{number + 1:02d}.tif", sample.image)
        dock.batch.open(images)
        settle(3)
        for _ in range(2):
            dock.source.predict_all()
            settle(3)
            dock.findChild(QWidget, "accept_view_button").click()
            settle(1)
            dock.batch.step(1)
            settle(1)
        dock.workspace.batch.mark_done(True)
        dock.workspace.batch.predict_all()
        settle(5)
        panel = dock.findChild(QWidget, "batch_section")
        for ending in themes(viewer):
            save(as_image(panel.grab()), folder / f"folder{ending}.png")
        dock.shut_down()


def photograph_objects(viewer: napari.Viewer, folder: Path) -> None:
    """Take pictures of objects, their scores and their measurements."""
    dock = show_dock(viewer)
    sample = samples.synthetic_nuclei((512, 512), n=60, seed=3)
    viewer.add_image(sample.image, name="nuclei")
    settle(2)
    dock.source.predict_all()
    settle(5)
    dock.findChild(QCollapsible, "objects_section").expand(animate=False)
    dock.findChild(QWidget, "score_objects_check").click()
    for name in ("find_objects_button", "measurements_button"):
        dock.findChild(QWidget, name).click()
        settle(4)
    (table,) = (
        each
        for each in QApplication.allWidgets()
        if isinstance(each, MeasurementsPanel)
    )
    table.findChild(QTableView).selectRow(7)
    dock.findChild(QScrollArea).ensureWidgetVisible(
        dock.findChild(QWidget, "objects_section")
    )
    viewer.camera.zoom = 1.7
    settle(8)
    for ending in themes(viewer):
        window = viewer.screenshot(canvas_only=False, flash=False)
        save(Image.fromarray(window).convert("RGB"), folder / f"objects{ending}.png")
    dock.shut_down()


def as_image(pixmap: QPixmap) -> Image.Image:
    """Return what Qt has drawn."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    pixmap.save(buffer, "PNG")
    return Image.open(BytesIO(bytes(buffer.data()))).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture with a colour table: a third of the size, and no less clear."""
    table = picture.quantize(COLOURS).getpalette() or []
    extended = Image.new("P", (1, 1))
    extended.putpalette(
        [*table[: 3 * COLOURS], *b"".join(bytes.fromhex(c[1:]) for c in CURVES)]
    )
    small = picture.quantize(palette=extended, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def main() -> None:
    """Play the tour and leave the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="of fine-tuning")
    parser.add_argument("--objects", action="store_true", help="only those of objects")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_SEG_HOME"] = home
        last = napari.Viewer(title="napari")
        last.window.resize(*WINDOW)
        photograph_objects(last, given.folder)
        last.close()
        if given.objects:
            return
        viewer = napari.Viewer(title="napari")
        viewer.window.resize(*WINDOW)
        image, settings, _ = samples.ihc()[0]
        viewer.add_image(image, **settings)
        dock = show_dock(viewer)
        dock.findChild(QDoubleSpinBox, "finetune_minutes").setValue(given.minutes)
        truth = (samples.load_sample("ihc").mask == 1).astype(np.uint8)
        try:
            tour = PhotographedTour(viewer, dock, truth, given.minutes, say)
            say(tour.play(given.folder / "dock.png"))
        finally:
            dock.shut_down()
            viewer.close()
        other = napari.Viewer(title="napari")
        photograph_folder(other, given.folder)
        other.close()


def say(text: object) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
