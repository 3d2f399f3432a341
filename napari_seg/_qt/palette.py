"""The colours of classes in napari's layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from napari.utils.colormaps import DirectLabelColormap

from napari_seg.colors import BACKGROUND, OKABE_ITO, class_colors
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["BACKGROUND", "OKABE_ITO", "class_colormap", "class_colors"]

_NO_CLASS = "#FFFFFF"
_NOT_KNOWN = "#80808080"


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
