"""Entries of napari's menu Layers › Annotate.

Plugins can add entries there, but not to the menu that a right click on a layer opens
(napari 0.9, issue 7012).
"""

# napari reads the annotations at run time, to hand the viewer over.
import napari

from napari_seg._qt.app import show_dock
from napari_seg._qt.dock import SegmentationDock
from napari_seg.workspace.intaking import Treatment

__all__ = ["treat_as_prediction", "treat_as_truth"]


def treat_as_prediction(viewer: napari.Viewer) -> None:
    """Take the chosen layer in as the prediction of the image that is worked on."""
    _treat(viewer, "prediction")


def treat_as_truth(viewer: napari.Viewer) -> None:
    """Take the chosen layer in as the truth of the image that is worked on."""
    _treat(viewer, "truth")


def _treat(viewer: napari.Viewer, treatment: Treatment) -> None:
    docks = (_dock_in(widget) for widget in viewer.window.dock_widgets.values())
    dock = next((each for each in docks if each is not None), None)
    (dock or show_dock(viewer)).foreign.take_active(treatment)


def _dock_in(widget: object) -> SegmentationDock | None:
    bare = getattr(widget, "__wrapped__", widget)
    return bare if isinstance(bare, SegmentationDock) else None
