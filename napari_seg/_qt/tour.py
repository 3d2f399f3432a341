"""The tour: the whole loop, played by itself in the real window.

What a user does by hand is done here through the same layer and the same buttons:
predict, correct with the brush, accept, fine-tune, keep, predict again.  The truth is
the mask that comes with the sample; the left half of the image is corrected, the right
half is never trained on and tells whether the model has learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication, QPushButton
from scipy import ndimage

from napari_seg._qt.dock import SegmentationDock
from napari_seg.errors import NapariSegError, TrainingError
from napari_seg.scoring.confusion import Scores, score
from napari_seg.workspace import View

__all__ = ["Tour"]

#: Brush diameters in pixels, from the coarse to the fine.
_BRUSHES = (13, 7)
#: Strokes after which the window is drawn again, so that one sees them.
_STROKES_PER_FRAME = 4
_PATIENCE = 900.0


@dataclass(frozen=True)
class Halves:
    """Columns that are corrected, and columns that training never sees.

    Between them lies a gap as wide as the context of a training window.
    """

    corrected: slice
    unseen: slice

    @classmethod
    def of(cls, width: int, gap: int = 64) -> Halves:
        """Divide an image of that width."""
        middle = width // 2
        return cls(slice(0, middle - gap // 2), slice(middle + gap // 2, width))


class Tour:
    """Plays the loop in a viewer that shows one sample.

    Parameters
    ----------
    viewer : napari.Viewer
        Shown, with the image.
    dock : SegmentationDock
        Its dock.
    truth : ndarray of uint8, (Y, X)
        The right classes.
    minutes : float
        Training time.
    say : callable
        Called with what happens, in words.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        dock: SegmentationDock,
        truth: NDArray[np.uint8],
        minutes: float,
        say: Callable[[str], None],
    ) -> None:
        self._viewer, self._dock, self._truth = viewer, dock, truth
        self._minutes, self._say = minutes, say
        self._halves = Halves.of(truth.shape[1])
        self._failures: list[Exception] = []
        dock.workspace.failed.connect(self._failures.append)

    def play(self, screenshot: Path | None = None) -> dict[str, Any]:
        """Play the loop and return what was measured.

        Raises
        ------
        NapariSegError
            Whatever went wrong on the way.
        """
        start = time.monotonic()
        self._predict()
        before = self._unseen_scores()
        self._say(f"Dice before, on the unseen half: {before.mean_dice:.3f}")
        corrected = self._correct()
        self._accept()
        live = self._dock.workspace.scores
        if live is not None:
            self._say(
                f"Corrected {corrected} px; the live score says the model's Dice is "
                f"{live.mean_dice:.3f}"
            )
        self._finetune()
        if screenshot is not None:
            self._picture(screenshot)
        self._keep()
        after = self._unseen_scores()
        self._say(f"Dice after, on the unseen half: {after.mean_dice:.3f}")
        return {
            "dice_before": before.mean_dice,
            "dice_after": after.mean_dice,
            "iou_before": before.mean_iou,
            "iou_after": after.mean_iou,
            "corrected_pixels": corrected,
            "seconds": time.monotonic() - start,
        }

    # Steps of the loop --------------------------------------------------------

    def _predict(self) -> None:
        self._say("Predict all")
        self._press("predict_all_button")
        self._wait(lambda: not self._dock.workspace.predictor.busy)

    def _correct(self) -> int:
        """Paint until the corrected half is right; return the changed pixels."""
        self._say("Correct the left half with the brush")
        layer, session = self._dock.mask_view.layer, self._dock.workspace.session
        assert layer is not None
        assert session is not None
        columns = self._halves.corrected
        shown, truth = session.mask.labels[:, columns], self._truth[:, columns]
        for stroke, (class_id, size, place) in enumerate(_strokes(shown, truth)):
            layer.selected_label, layer.brush_size = class_id, size
            layer.paint((place[0], place[1] + columns.start), class_id)
            if stroke % _STROKES_PER_FRAME == 0:
                QApplication.processEvents()
        # What is left is thinner than a brush: a polygon for each error.
        for class_id in np.unique(truth):
            errors, _ = ndimage.label((truth == class_id) & (shown != class_id))
            for number, box in enumerate(ndimage.find_objects(errors), start=1):
                rows, cols = np.nonzero(errors[box] == number)
                place = (rows + box[0].start, cols + box[1].start + columns.start)
                layer.data_setitem(place, class_id)
            QApplication.processEvents()
        self._dock.mask_view.flush()
        return session.mask.corrected_pixels

    def _accept(self) -> None:
        """Accept the corrected half."""
        self._say("Accept what is right")
        workspace = self._dock.workspace
        rows = slice(0, self._truth.shape[0])
        workspace.accept(View((), rows, self._halves.corrected))
        QApplication.processEvents()

    def _finetune(self) -> None:
        self._say(f"Fine-tune for {self._minutes:g} min")
        workspace = self._dock.workspace
        workspace.finetune(self._minutes)
        self._wait(lambda: not workspace.teacher.busy)
        if workspace.verdict is None:
            raise TrainingError("Fine-tuning ended without a result.")
        self._say(workspace.verdict["sentence"])

    def _keep(self) -> None:
        self._say("Keep the new model; predict again")
        self._press("keep_button")
        self._wait(lambda: not self._dock.workspace.predictor.busy)

    # Helpers ------------------------------------------------------------------

    def _unseen_scores(self) -> Scores:
        session = self._dock.workspace.session
        assert session is not None
        columns = self._halves.unseen
        return score(
            session.mask.reference[:, columns],
            self._truth[:, columns],
            len(session.classes),
        )

    def _press(self, name: str) -> None:
        button = self._dock.findChild(QPushButton, name)
        if not button.isEnabled():
            raise NapariSegError(f"{button.text()}: {button.toolTip()}")
        button.click()

    def _wait(self, done: Callable[[], bool]) -> None:
        """Let the window live until `done`, at most a quarter of an hour."""
        end = time.monotonic() + _PATIENCE
        while not done():
            QApplication.processEvents()
            time.sleep(0.005)
            if self._failures:
                raise self._failures[0]
            if time.monotonic() > end:
                raise TrainingError("The tour took too long and was ended.")
        QApplication.processEvents()

    def _picture(self, path: Path) -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            QApplication.processEvents()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._viewer.screenshot(str(path), canvas_only=False, flash=False)


def _strokes(
    shown: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield class, brush size and place until no brush fits into an error.

    The mask changes while the strokes are painted, so it is looked at again.
    """
    for size in _BRUSHES:
        for class_id in np.unique(truth):
            while len(places := _places(shown, truth, class_id, size)):
                for y, x in places:
                    yield int(class_id), size, (int(y), int(x))


def _places(
    shown: NDArray[np.uint8], truth: NDArray[np.uint8], class_id: int, size: int
) -> NDArray[np.intp]:
    """Return centres, well apart, where the brush lies in missed pixels of a class."""
    wrong = (truth == class_id) & (shown != class_id)
    depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
    apart = ndimage.maximum_filter(depth, size) == depth
    return np.argwhere(apart & (depth > size / 2))
