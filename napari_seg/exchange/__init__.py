"""Masks and objects in the formats of other programs.

:func:`read` and :func:`write` choose one of :data:`FORMATS` by the name of the file;
each format has a module of its own, which is loaded when it is needed.
"""

from napari_seg.exchange.exchanged import Exchanged, Hints
from napari_seg.exchange.formats import FORMATS, Format, read, write

__all__ = ["FORMATS", "Exchanged", "Format", "Hints", "read", "write"]
