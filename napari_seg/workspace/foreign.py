"""Labels in the mask that no class has: what to ask, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.settled import untouched_label
from napari_seg.errors import InputError
from napari_seg.scoring.regions import Box, as_box, changed_box, split, union

if TYPE_CHECKING:
    from napari_seg.workspace.workspace import Workspace

__all__ = ["ForeignLabel", "ForeignLabels", "names_before"]


@dataclass(frozen=True)
class ForeignLabel:
    """A label without a class.

    Attributes
    ----------
    label : int
        The label.
    pixels : int
        How many pixels have it.
    before : tuple of str
        Names of the classes to add first, for the ids before it that have none.
    """

    label: int
    pixels: int
    before: tuple[str, ...]


class ForeignLabels:
    """Asks of each such label whether it is a new class or a mistake.

    Until that is answered its pixels are kept, neither scored nor trained on.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def first(self) -> ForeignLabel | None:
        """Return the smallest one, with its pixels."""
        session, ledger = self._workspace.session, self._ledger
        pixels = {} if ledger is None else ledger.foreign_pixels
        if session is None or not pixels:
            return None
        label = min(pixels)
        return ForeignLabel(label, pixels[label], names_before(session.classes, label))

    def adopt(self, label: int, name: str) -> bool:
        """Add a class for `label`, and for each id before it; return whether done."""
        workspace, session = self._workspace, self._workspace.session
        if session is None or label < len(session.classes):
            return False
        before = names_before(session.classes, label)
        if not name.strip() or name.strip() in (*session.classes, *before):
            workspace.failed.emit(
                InputError(
                    f"The class name {name!r} is empty or taken; choose another one."
                )
            )
            return False
        for each in (*before, name):
            workspace.add_class(each)
        return True

    def take_back(self, label: int) -> None:
        """Give the pixels of `label` what the model said, background where nothing."""
        workspace, ledger = self._workspace, self._ledger
        if ledger is None:
            return
        workspace.settling.emit()
        touched: Box | None = None
        for piece in split(as_box(None, ledger.shape)):
            labels = ledger.labels[piece]
            wrong = labels == label
            box = changed_box(wrong, piece)
            if box is not None:
                np.copyto(labels, untouched_label(ledger.reference[piece]), where=wrong)
                workspace.edited(box)
                touched = union(touched, box)
        if touched is not None:
            workspace.pixels_changed.emit(touched)
            workspace.stroke_finished()

    @property
    def _ledger(self) -> Ledger | None:
        session = self._workspace.session
        return None if session is None else session.ledger


def names_before(classes: Sequence[str], label: int) -> tuple[str, ...]:
    """Return names for the ids behind the classes and before `label`."""
    names = []
    for class_id in range(len(classes), label):
        name = f"class {class_id}"
        while name in classes:
            name += "'"
        names.append(name)
    return tuple(names)
