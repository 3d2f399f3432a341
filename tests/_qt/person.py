"""A person at the dock: finds widgets by name, reads them, uses mouse and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
import numpy as np
import torch
from napari.components import Camera
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtWidgets import QComboBox, QPushButton, QTableWidget, QWidget
from sklearn.metrics import confusion_matrix

from napari_seg import create_model, save_model
from napari_seg._qt.app import show_dock
from napari_seg._qt.dock import SegmentationDock
from napari_seg.models.base import SegmentationModel
from napari_seg.workspace import Session
from tests._qt import hands

__all__ = ["PATIENCE", "SIDE", "Person", "balanced_model"]

#: Height and width of the image that most tests work on.
SIDE = 96

#: Seconds until something that does happen must have happened, on a busy machine.
PATIENCE = 60.0

#: The models that were made, which many tests ask for.
_MADE: dict[tuple[object, ...], SegmentationModel] = {}


def balanced_model(path: Path, image: NDArray[Any], seed: int = 0, **kind: Any) -> Path:
    """Save a tiny model of random weights that gives each class its share.

    Parameters
    ----------
    path : Path
        Where to save it.
    image : ndarray, (Y, X)
        On this image each class wins somewhere.
    """
    torch.manual_seed(seed)
    kind = {"width": 8, "classes": ["background", "nucleus"], **kind}
    wanted = (image.tobytes(), str(image.dtype), image.shape, seed, repr(kind))
    if wanted not in _MADE:
        _MADE[wanted] = _balanced(image, kind)
    return save_model(_MADE[wanted], path)


def _balanced(image: NDArray[Any], kind: dict[str, Any]) -> SegmentationModel:
    model = create_model("unet", **kind)
    low, high = np.percentile(image, (1, 99.8))
    plane = torch.from_numpy((image.astype(np.float32) - low) / (high - low)).float()
    with torch.no_grad():
        x = plane[None, None].expand(1, model.spec.in_channels, -1, -1)
        middles = model(x).flatten(2).median(-1).values[0]
        last = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.bias -= middles
    return model


class Person:
    """Somebody at a viewer with the dock.

    Parameters
    ----------
    viewer : napari.Viewer
        On the screen.
    model : Path, optional
        A model file that is chosen first.
    """

    def __init__(self, viewer: napari.Viewer, model: Path | None = None) -> None:
        self.viewer = viewer
        self.dock: SegmentationDock = show_dock(viewer)
        self.told: list[str] = []
        self.failures: list[Exception] = []
        self.workspace = self.dock.workspace
        self.workspace.told.connect(self._hear)
        self.workspace.failed.connect(self._fail)
        # The first thing the dock does is to load torch and say what computes.
        self.wait(lambda: self.find(QWidget, "expert_finetune") is not None)
        if model is not None:
            self.workspace.open_model(model)
        # The dock has made the canvas narrower.
        viewer.reset_view()
        hands.settle(0.1)

    @property
    def camera(self) -> Camera:
        # Since 0.9 napari wants it to be found in the scene.
        return getattr(self.viewer, "scene", self.viewer).camera

    def leave(self) -> None:
        """Shut the dock down and forget it, so that a widget that stays is a leak."""
        if vars(self):
            self.dock.shut_down()
        vars(self).clear()

    def _hear(self, text: str) -> None:
        self.told.append(text)

    def _fail(self, error: Exception) -> None:
        self.failures.append(error)

    # The dock -----------------------------------------------------------------

    def find(self, kind: type[Any], name: str) -> Any:
        """Return the widget of that name, None if there is none."""
        return self.dock.findChild(kind, name)

    def button(self, name: str) -> QPushButton:
        return self.find(QPushButton, name)

    def combo(self, name: str) -> QComboBox:
        return self.find(QComboBox, name)

    def text(self, name: str) -> str:
        return self.find(QWidget, name).text()

    def press(self, name: str) -> None:
        hands.press_button(self.button(name))

    def wait(
        self, condition: Any, timeout: float = PATIENCE, what: hands.Text = ""
    ) -> None:
        hands.wait_until(condition, timeout, what)

    def predict(self, name: str = "predict_all_button") -> Labels:
        """Predict, wait for the end, and return the mask layer."""
        self.press(name)
        self.wait(self.idle, what="the end of the prediction")
        hands.settle(0.1)
        return self.mask

    def idle(self) -> bool:
        return not self.button("cancel_button").isEnabled()

    def finetune(self, minutes: float = 0.1) -> None:
        """Fine-tune, and wait until it has ended."""
        self.find(QWidget, "finetune_minutes").setValue(minutes)
        self.press("finetune_button")
        self.wait_for_training()

    def wait_for_training(self) -> None:
        teacher = self.workspace.teacher
        self.wait(lambda: not teacher.busy, 110, "the end of the training")

    # What there is ------------------------------------------------------------

    @property
    def session(self) -> Session:
        assert self.workspace.session is not None
        return self.workspace.session

    @property
    def mask(self) -> Labels:
        layer = self.dock.mask_view.layer
        assert layer is not None, f"no mask: {self.failures}"
        return layer

    def shown_scores(self) -> dict[str, tuple[str, str]]:
        """Return IoU and Dice of each row of the score table, as they are shown."""
        table: QTableWidget = self.find(QTableWidget, "score_table")
        titles = [table.horizontalHeaderItem(i).text() for i in range(4)]
        columns = titles.index("IoU"), titles.index("Dice")
        return {
            table.item(row, 0).text(): tuple(table.item(row, c).text() for c in columns)
            for row in range(table.rowCount())
        }

    def check_scores(self) -> None:
        """Compare the table with scikit-learn's confusion matrix of what is there."""
        self.wait(lambda: not self.dock.mask_view.counting)
        hands.settle(0.1)
        session = self.session
        counted = session.mask.reference != 255
        if self.workspace.scope == "reviewed":
            counted &= session.mask.state() & 2 > 0
        expected = expected_scores(
            np.asarray(self.mask.data)[counted],
            session.mask.reference[counted],
            session.classes,
        )
        assert self.shown_scores() == expected


def expected_scores(
    truth: NDArray[Any], prediction: NDArray[Any], classes: list[str]
) -> dict[str, tuple[str, str]]:
    """Return the table that belongs to a truth and a prediction."""
    k = len(classes)
    if truth.size:
        matrix = confusion_matrix(truth, prediction, labels=range(k)).astype(float)
    else:
        matrix = np.zeros((k, k))
    both, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    present = union > 0
    iou = np.full(k, np.nan)
    dice = np.full(k, np.nan)
    iou[present] = both[present] / union[present]
    dice[present] = 2 * both[present] / (matrix.sum(0) + matrix.sum(1))[present]
    rows = dict(zip(classes, zip(iou, dice, strict=True), strict=True))
    means = (np.nan, np.nan)
    if present.any():
        means = (iou[present].mean(), dice[present].mean())
    rows["mean"] = means
    return {
        name: tuple("–" if np.isnan(v) else f"{v:.3f}" for v in values)
        for name, values in rows.items()
    }
