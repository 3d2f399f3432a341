"""Pictures of the running program for README and docs, taken during the tour.

``make screenshots``, or on a desktop ``python tools/screenshots.py FOLDER``: writes
``dock.png``, the window after fine-tuning, and ``panels.png``, the whole dock.  The
figures in them are those of the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QBuffer, QIODevice
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QApplication, QDoubleSpinBox, QScrollArea

from napari_seg import samples
from napari_seg._qt.app import show_dock
from napari_seg._qt.palette import OKABE_ITO
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
        self._settle()
        window = self._viewer.screenshot(canvas_only=False, flash=False)
        save(Image.fromarray(window).convert("RGB"), path)
        panels = self._dock.findChild(QScrollArea).widget()
        save(as_image(panels.grab()), path.with_name("panels.png"))

    def _settle(self) -> None:
        """Let notifications fade and curves be drawn."""
        end = time.monotonic() + 8
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.02)


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
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_SEG_HOME"] = home
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


def say(text: object) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
