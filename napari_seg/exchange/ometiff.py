"""Masks in OME-TIFF, with pixel size and the names of the classes."""

from __future__ import annotations

from pathlib import Path

from napari_seg.exchange.exchanged import Exchanged, Kind
from napari_seg.exchange.tiff import CLASSES, read
from napari_seg.writer import write_mask

__all__ = ["read", "write"]


def write(path: Path, content: Exchanged, kind: Kind | None = None) -> list[Path]:
    """Write a mask: classes as uint8, objects as uint32.

    Pixel sizes go into ``PhysicalSizeX`` and its like, in micrometres, and class names
    into a map annotation, by id.

    Parameters
    ----------
    path : Path
        File to write.
    content : Exchanged
        What to write.
    kind : str, optional
        Which of both; by default the classes.
    """
    names = {str(number): name for number, name in enumerate(content.names())}
    ome = {"Name": path.name, "MapAnnotation": {"Namespace": CLASSES, "Value": names}}
    return [write_mask(path, content.array(kind)[1], content.calibration, ome)]
