"""Two versions side by side in the view: what one of them would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.scoring.regions import relative
from napari_seg.workspace.prediction import Predictor
from napari_seg.workspace.source import View
from napari_seg.workspace.tasks import Runner
from napari_seg.workspace.words import quantity

if TYPE_CHECKING:
    from napari_seg.inference.predict import TileResult
    from napari_seg.workspace.choices import ModelChoice
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Compared", "Comparison"]


@dataclass(frozen=True, eq=False)
class Compared:
    """What two masks of one view have in common and what not.

    Attributes
    ----------
    versions : tuple of str
        One, which is compared with the mask as it is, or two.
    view : View
        Where.
    labels : ndarray of uint8, (Y, X)
        Class ids of the view as the last version would have it; beside the mask, what
        the user vouches for is left as it is.
    differs : ndarray of bool, (Y, X)
        Where the other one has another class.
    """

    versions: tuple[str, ...]
    view: View
    labels: NDArray[np.uint8]
    differs: NDArray[np.bool_]

    @property
    def sentence(self) -> str:
        """The difference in words."""
        count = int(np.count_nonzero(self.differs))
        share = 100 * count / max(self.differs.size, 1)
        first = "the mask" if len(self.versions) == 1 else self.versions[0]
        if not count:
            return f"{self.versions[-1]} and {first} are alike in this view."
        return (
            f"{self.versions[-1]} differs from {first} in {share:.1f} % of this view "
            f"({quantity(count)} px)."
        )


class Comparison:
    """Predicts a view with other versions, and leaves the mask alone.

    Parameters
    ----------
    workspace : Workspace
        Of which session, versions and settings are read.
    runner : Runner
        Drives the predictions beside the main thread.

    Attributes
    ----------
    shown : Compared or None
        What is on the screen now.
    wanted : tuple of str
        The versions of `shown`, or those that are being predicted with; else empty.
    """

    #: Begun, finished or over.
    changed = Signal()

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace = workspace
        self._predictor = Predictor(runner)
        self.shown: Compared | None = None
        self.wanted: tuple[str, ...] = ()
        self._last: tuple[tuple[object, ...], Compared] | None = None

    def start(self, versions: Sequence[str], view: View) -> None:
        """Compare one version with the mask as it is, or two with each other.

        What was compared last is shown at once if nothing has changed since.
        """
        session = self._workspace.session
        if session is None or session.ledger is None:
            return
        choices = [self._workspace.version_choice(version) for version in versions]
        known = [choice for choice in choices if choice is not None]
        if not known or len(known) < len(choices):
            return
        self.end()
        self.wanted = tuple(versions)
        key = (self.wanted, view, session.ledger, session.ledger.moves)
        if self._last is not None and self._last[0] == key:
            self.shown = self._last[1]
            self.changed.emit()
            return
        self.changed.emit()
        self._predict(known, view, key, [])

    def _predict(
        self,
        choices: Sequence[ModelChoice],
        view: View,
        key: tuple[object, ...],
        masks: list[NDArray[np.uint8]],
    ) -> None:
        """Predict with one version after the other, then compare."""
        workspace = self._workspace
        if len(masks) == len(choices):
            self._finish(view, key, masks)
            return
        session = workspace.session
        assert session is not None
        shape = tuple(part.stop - part.start for part in view.box)
        mask = np.full(shape, UNKNOWN, np.uint8)

        def tile_arrived(tile: TileResult, _progress: object) -> None:
            mask[relative(tile.box, view.box)] = tile.labels

        def ended(error: Exception | None) -> None:
            if error is not None:
                self.end()
                workspace.failed.emit(error)
            else:
                self._predict(choices, view, key, [*masks, mask])

        self._predictor.start(
            session,
            choices[len(masks)],
            workspace.predict_options,
            workspace.device,
            view,
            everything=False,
            on_tile=tile_arrived,
            on_fetch=lambda _: None,
            on_end=ended,
        )

    def _finish(
        self, view: View, key: tuple[object, ...], masks: list[NDArray[np.uint8]]
    ) -> None:
        session = self._workspace.session
        assert session is not None
        labels = masks[-1]
        if len(masks) == 2:
            other = masks[0]
        else:
            other = session.mask.labels[view.region].reshape(labels.shape)
            truth = session.mask.truth(view.region).reshape(labels.shape)
            labels = np.where(truth == UNKNOWN, labels, truth)
        compared = Compared(self.wanted, view, labels, labels != other)
        # The mask may have been painted on meanwhile; the key is of the beginning.
        self._last = (key, compared)
        self.shown = compared
        self.changed.emit()

    def end(self) -> None:
        """Show the mask again; end what is being predicted for a comparison."""
        self._predictor.cancel()
        if self.wanted:
            self.shown, self.wanted = None, ()
            self.changed.emit()

    def forget(self) -> None:
        """End, and keep nothing: the image or its mask is another one."""
        self.end()
        self._last = None
