"""Vouching for a part of the mask, by whatever the user points at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal

from napari_seg.corrections.ledger import ACCEPTED, Ledger
from napari_seg.scoring.regions import Box, as_box, pixels, relative, split, union
from napari_seg.workspace.areas import PIECE, Area, find_object, polygon_areas

if TYPE_CHECKING:
    from napari_seg.workspace.source import View
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Review"]

_AT_ONCE = 1 << 22
"""Pixels up to which nobody waits for the steps."""


class Review:
    """Accepts parts of the mask of a workspace, and takes acceptance back.

    Every method that accepts returns whether the part counts as reviewed now (with
    `back`, whether it no longer does), and tells the user what would work where it
    could not.

    Parameters
    ----------
    workspace : Workspace
        Whose mask it is.

    Attributes
    ----------
    changed : Signal(Box)
        Acceptance changed somewhere in this box.
    waiting : Signal
        There are steps to be done.
    at_once : bool
        Whether a large part is done before the method returns.  Otherwise whoever
        listens to `waiting` calls :meth:`step` whenever there is time; before
        anything else is done with the mask as a whole, the rest is done at once.
    """

    changed = Signal(object)
    waiting = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._steps: Iterator[None] | None = None
        self.at_once = True
        workspace.settling.connect(self.finish)

    def view(self, view: View, *, back: bool = False) -> bool:
        """Accept what is visible."""
        session = self._workspace.session
        if session is not None and view.beside(session.reading.plane_shape):
            return self._refuse(
                "The image is not on the screen: press Home in the viewer to see it."
            )
        return self._whole(view.region, back)

    def plane(self, index: tuple[int, ...], *, back: bool = False) -> bool:
        """Accept the plane at `index`, one number for each axis before Y and X."""
        return self._whole(tuple(slice(i, i + 1) for i in index), back)

    def everything(self, *, back: bool = False) -> bool:
        """Accept all planes."""
        return self._whole((), back)

    def object_at(
        self, index: tuple[int, ...], point: Sequence[float], *, back: bool = False
    ) -> bool:
        """Accept the object under a point of a plane.

        Parameters
        ----------
        index : tuple of int
            The plane.
        point : (y, x)
            In pixels of the mask; their centres are whole numbers.
        back : bool
            Take acceptance back.
        """
        ledger = self._settled(back)
        if ledger is None:
            return False
        plane = ledger.labels[index]
        y, x = (int(v) for v in np.rint(point))
        obstacle = _no_object(plane, (y, x), ledger.n_classes)
        if obstacle:
            return self._refuse(obstacle)
        found = find_object(plane, (y, x))
        if found is None:
            return self._refuse(
                "This object reaches too far to be followed: use Accept view where it "
                "is right, or draw a polygon around that part."
            )
        box, mask = found
        areas = [(part, mask[relative(part, box)]) for part in split(box, PIECE)]
        return self._review([(_in_plane(index, b), m) for b, m in areas], back)

    def polygon(
        self, index: tuple[int, ...], vertices: ArrayLike, *, back: bool = False
    ) -> bool:
        """Accept what lies inside of a polygon in a plane.

        Parameters
        ----------
        index : tuple of int
            The plane.
        vertices : array of float, (N, 2)
            Y and X of the corners, in pixels of the mask.
        back : bool
            Take acceptance back.
        """
        ledger = self._settled(back)
        if ledger is None:
            return False
        height, width = ledger.shape[-2:]
        areas = polygon_areas(vertices, (height, width))
        if not areas:
            return self._refuse(
                "No pixel of the mask lies in this polygon: draw it over the image, "
                "with three corners or more."
            )
        return self._review([(_in_plane(index, b), m) for b, m in areas], back)

    def plane_obstacle(self) -> str:
        """Return why a plane cannot be accepted for itself, or nothing."""
        session = self._workspace.session
        if session is not None and not session.reading.leading:
            return "This image has a single plane: choose everything instead."
        return ""

    def _settled(self, back: bool) -> Ledger | None:
        """Return the ledger after all edits came in, None without a mask."""
        workspace = self._workspace
        session = workspace.session
        begun = session is not None and session.ledger is not None
        if session is None or not (begun if back else workspace.begin()):
            return None
        workspace.settling.emit()
        return session.ledger

    def step(self) -> bool:
        """Do a step of what waits; return whether there are more."""
        # A step that fails must not be tried for ever.
        steps, self._steps = self._steps, None
        if steps is not None and next(steps, True) is None:
            self._steps = steps
        return self._steps is not None

    def finish(self) -> None:
        """Do all steps that wait."""
        while self.step():
            pass

    def _whole(self, region: Box, back: bool) -> bool:
        ledger = self._settled(back)
        if ledger is None:
            return False
        pieces = split(as_box(region, ledger.shape), PIECE)
        return self._review([(piece, None) for piece in pieces], back)

    def _review(self, areas: Sequence[Area], back: bool) -> bool:
        self._steps = self._stepwise(areas, back)
        if self.at_once or sum(pixels(box) for box, _ in areas) <= _AT_ONCE:
            self.finish()
        else:
            self.waiting.emit()
        return True

    def _stepwise(self, areas: Iterable[Area], back: bool) -> Iterator[None]:
        workspace = self._workspace
        assert workspace.session is not None
        ledger = workspace.session.mask
        act = ledger.unaccept if back else ledger.accept
        touched: Box | None = None
        for box, mask in areas:
            if _differs(ledger, box, mask, back):
                workspace.record(act(box, mask))
                touched = union(touched, box)
                yield
        if touched is not None:
            self.changed.emit(touched)
        workspace._reviewed()

    def _refuse(self, reason: str) -> bool:
        self._workspace.told.emit(reason)
        return False


def _in_plane(index: tuple[int, ...], box: Box) -> Box:
    return (*(slice(i, i + 1) for i in index), *box)


def _no_object(plane: NDArray[np.uint8], point: tuple[int, int], n_classes: int) -> str:
    """Return why there is no object at a point, or nothing."""
    if any(not 0 <= p < n for p, n in zip(point, plane.shape, strict=True)):
        return "This place lies outside of the mask: click on an object in it."
    label = int(plane[point])
    if label == 0:
        return (
            "This is background, which is no object: click on an object, or draw a "
            "polygon around the background that is right."
        )
    if label >= n_classes:
        return "No class has this label: add the class, or paint with another one."
    return ""


def _differs(
    ledger: Ledger, box: Box, mask: NDArray[np.bool_] | None, back: bool
) -> bool:
    """Return whether there is something to accept, or to take back."""
    accepted = ledger.state(box) & ACCEPTED > 0
    wanted = accepted if back else ~accepted
    return bool(wanted.any() if mask is None else (wanted & mask).any())
