"""Steps in napari's list to undo that stand for something that was not painted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels

__all__ = ["MarkedSteps"]

_LOG = logging.getLogger(__name__)


@dataclass
class _Mark:
    #: A part of an undo step that changes no pixel. napari moves it from list to list
    #: in new steps, but as the same object.
    atom: Any
    moved: Callable[[bool], None]
    undone: bool = False


class MarkedSteps:
    """Put steps on napari's list, and tell when they are undone and redone.

    Parameters
    ----------
    layer : Labels
        The mask.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._marks: list[_Mark] = []

    def add(self, moved: Callable[[bool], None]) -> None:
        """Add a step as the newest one; nothing can be redone any more.

        With a napari that keeps undo in another way nothing happens, but for a line in
        the log.

        Parameters
        ----------
        moved : callable
            Called with True when the step was undone, with False when it was redone.
        """
        undo, redo = self._list("_undo_history"), self._list("_redo_history")
        if undo is None or redo is None:
            _LOG.warning("This napari keeps undo in another way; it cannot be undone.")
            return
        nowhere = tuple(slice(0, 0) for _ in self._layer.data.shape)
        nothing = np.empty((0,) * len(nowhere), np.uint8)
        atom = (nowhere, nothing, nothing)
        redo.clear()
        undo.append([atom])
        self._marks.append(_Mark(atom, moved))

    def look(self) -> None:
        """Tell which steps have been undone or redone since the last look."""
        for mark in list(self._marks):
            undone = self._holds("_redo_history", mark)
            if not undone and not self._holds("_undo_history", mark):
                # Too old, or forgotten.
                self._marks.remove(mark)
            elif undone != mark.undone:
                mark.undone = undone
                mark.moved(undone)

    def _holds(self, name: str, mark: _Mark) -> bool:
        steps = self._list(name) or ()
        return any(len(step) == 1 and step[0] is mark.atom for step in steps)

    def _list(self, name: str) -> deque[Any] | None:
        steps = getattr(self._layer, name, None)
        return steps if isinstance(steps, deque) else None
