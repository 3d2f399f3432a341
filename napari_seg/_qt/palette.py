"""The colours of classes in napari's layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

from napari_seg.colors import BACKGROUND, OKABE_ITO, class_colors
from napari_seg.scoring.tally import UNKNOWN

__all__ = [
    "BACKGROUND",
    "OKABE_ITO",
    "class_colormap",
    "class_colors",
    "object_colormap",
]

_NO_CLASS = "#FFFFFF"
_NOT_KNOWN = "#80808080"
#: Thin outlines are lost in napari's random colours, many of which are dark or pale:
#: these are full ones of middling lightness, seen on black, on white and on a mask.
#: Those that follow each other differ much.
_OBJECTS = (
    "#FF3DF2",
    "#22D655",
    "#3D8BFF",
    "#FF4A3D",
    "#00D5E0",
    "#9A5CFF",
    "#9BE000",
)


def class_colormap(
    colors: Sequence[str], hidden: Set[int] = frozenset()
) -> DirectLabelColormap:
    """Return a napari colormap for class ids.

    The background and hidden classes are transparent, 255 a veil of grey, and an id
    that no class has is white.
    """
    by_label: dict[int | None, str] = defaultdict(lambda: _NO_CLASS)
    by_label |= {None: _NO_CLASS, UNKNOWN: _NOT_KNOWN}
    by_label |= dict(enumerate(colors))
    by_label |= dict.fromkeys({0, *hidden}, "transparent")
    return DirectLabelColormap(color_dict=by_label)


def object_colormap() -> CyclicLabelColormap:
    """Return a napari colormap for the outlines of objects; 0 is transparent."""
    return CyclicLabelColormap(colors=["transparent", *_OBJECTS], name="objects")
