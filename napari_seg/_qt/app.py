"""napari with the dock, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import napari

from napari_seg._qt.dock import SegmentationDock

__all__ = ["open_viewer", "show_dock"]


def show_dock(viewer: napari.Viewer) -> SegmentationDock:
    """Add the dock to a viewer, as its menu would."""
    dock: SegmentationDock
    _, dock = viewer.window.add_plugin_dock_widget("napari-seg", "Segmentation")
    return dock


def open_viewer(paths: Sequence[Path] = ()) -> None:
    """Open napari with these images and the dock; return when it is closed."""
    viewer = napari.Viewer(title="napari-seg")
    if paths:
        viewer.open([str(path) for path in paths], stack=False)
    show_dock(viewer)
    napari.run()
