"""The dock widget ``Segmentation``: panels, workspace and viewer, wired together."""

from __future__ import annotations

from importlib import import_module

import napari
from qtpy.QtCore import QEvent, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_seg._qt.activity_dock import ActivityDock
from napari_seg._qt.auditor import Auditor
from napari_seg._qt.ending import Ending
from napari_seg._qt.expert import ExpertOptions
from napari_seg._qt.keys import Keys
from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.notify import show_failure, show_info
from napari_seg._qt.panels.batch import BatchPanel
from napari_seg._qt.panels.correct import CorrectPanel
from napari_seg._qt.panels.foreign_mask import ForeignMaskRow
from napari_seg._qt.panels.library import LibraryPanel
from napari_seg._qt.panels.objects import ObjectsPanel
from napari_seg._qt.panels.score import ScorePanel
from napari_seg._qt.panels.source import SourcePanel
from napari_seg._qt.panels.teach import TeachPanel
from napari_seg._qt.panels.welcome import WelcomePanel
from napari_seg._qt.presenters.batch import BatchPresenter
from napari_seg._qt.presenters.compare import ComparePresenter
from napari_seg._qt.presenters.computers import ComputersPresenter
from napari_seg._qt.presenters.correct import CorrectPresenter
from napari_seg._qt.presenters.foreign_mask import ForeignMaskPresenter
from napari_seg._qt.presenters.library import LibraryPresenter
from napari_seg._qt.presenters.live import LivePresenter
from napari_seg._qt.presenters.objects import ObjectsPresenter
from napari_seg._qt.presenters.score import ScorePresenter
from napari_seg._qt.presenters.source import SourcePresenter
from napari_seg._qt.presenters.teach import TeachPresenter
from napari_seg._qt.presenters.uncertainty import UncertaintyPresenter
from napari_seg._qt.presenters.welcome import WelcomePresenter
from napari_seg._qt.review_outline import ReviewOutline
from napari_seg._qt.viewer_link import ViewerLink
from napari_seg._qt.worker import QtRunner
from napari_seg.workspace import Workspace
from napari_seg.workspace.exports import EXPORTS
from napari_seg.workspace.tasks import Job

__all__ = ["SegmentationDock"]

_MINIMUM_WIDTH, _WIDTH = 320, 400


class SegmentationDock(QWidget):
    """Predict, correct, see the score, fine-tune.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that the dock is added to.

    Attributes
    ----------
    workspace : Workspace
        State and decisions.
    mask_view : MaskView
        The mask layer.
    """

    #: Errors may come from the thread that writes to the disk.
    _failed = Signal(object)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setObjectName("Segmentation")
        self._runner = QtRunner()
        self.workspace = Workspace(self._runner)
        self.link = ViewerLink(napari_viewer)
        self.mask_view = MaskView(self.workspace, self.link)
        self._build()
        self._connect()
        ending = self._ending = Ending(
            self.mask_view,
            self.workspace,
            self._runner,
            self._outline,
            self.link,
            (*self._presenters, Auditor(self.workspace, self.mask_view)),
        )
        # A window that is closed destroys the dock without asking it; by then its
        # attributes are gone, so the function itself holds what it needs.
        self.destroyed.connect(lambda: ending.run())
        self._load_libraries()
        self.source.follow_layers()

    def _build(self) -> None:
        """Stack the panels in a column that scrolls where the screen is low."""
        self._panels = (
            SourcePanel(),
            CorrectPanel(),
            ScorePanel(),
            TeachPanel(),
            LibraryPanel(
                {key: (what.menu, what.title) for key, what in EXPORTS.items()}
            ),
        )
        self._batch_panel = BatchPanel()
        self._objects_panel = ObjectsPanel()
        column = QWidget()
        layout = QVBoxLayout(column)
        layout.setContentsMargins(8, 4, 8, 8)
        self._welcome = WelcomePanel()
        self._foreign_row = ForeignMaskRow()
        source, *steps, library = self._panels
        for panel in (
            self._welcome,
            source,
            self._foreign_row,
            *steps,
            self._objects_panel,
            self._batch_panel,
            library,
        ):
            layout.addWidget(panel)
        layout.addStretch(1)
        scroll = self._scroll = QScrollArea()
        scroll.setWidget(column)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(_MINIMUM_WIDTH)

    def _connect(self) -> None:
        source, correct, score, teach, library = self._panels
        self.source = SourcePresenter(source, self.workspace, self.link)
        self._computers = ComputersPresenter(source, self.workspace)
        self._expert = ExpertOptions(library, self.workspace)
        self._presenters = (
            CorrectPresenter(correct, self.workspace, self.link, self.mask_view),
            UncertaintyPresenter(correct, self.workspace, self.link, self.mask_view),
            ScorePresenter(score, self.workspace, self.link, self.mask_view),
            TeachPresenter(teach, self.workspace),
            ComparePresenter(teach, library, self.workspace, self.link, self.mask_view),
            LivePresenter(source, self.workspace, self.link, self.source),
            ActivityDock(self.workspace),
            self._foreign(),
            self._objects(),
            self._batch(),
            self._keys(),
        )
        self._first_steps = WelcomePresenter(self._welcome, self.link, self._runner)
        self._library = LibraryPresenter(library, self.workspace)
        self.workspace.mask_started.connect(self._mask_started)
        self.workspace.changed.connect(self._come_back)
        self.workspace.verdict_changed.connect(self._show_verdict)
        self._outline = ReviewOutline(self.workspace, self.link, self.mask_view)
        self.workspace.failed.connect(self._failed.emit)
        self._failed.connect(show_failure)
        self.workspace.told.connect(show_info)
        self.link.themeChanged.connect(self._take_theme)
        self._take_theme(self.link.viewer.theme)

    def _foreign(self) -> ForeignMaskPresenter:
        self.foreign = ForeignMaskPresenter(
            self._foreign_row, self.workspace, self.link, self.source, self.mask_view
        )
        return self.foreign

    def _objects(self) -> ObjectsPresenter:
        self.objects = ObjectsPresenter(
            self._objects_panel, self.workspace, self.link, self.mask_view
        )
        return self.objects

    def _batch(self) -> BatchPresenter:
        self.batch = BatchPresenter(
            self._batch_panel,
            self.workspace,
            self.link,
            self.source,
            self.mask_view,
            self._runner,
        )
        return self.batch

    def _keys(self) -> Keys:
        keys = Keys(self, self.link.viewer, self._choose_class)
        self._panels[0].keysWanted.connect(keys.show_sheet)
        return keys

    def _choose_class(self, class_id: int) -> None:
        session = self.workspace.session
        if session is not None and class_id < len(session.classes):
            self.mask_view.choose_class(class_id)

    def _take_theme(self, name: str) -> None:
        score, teach = self._panels[2], self._panels[3]
        score.plot.set_theme(name)
        teach.plot.set_theme(name)
        self.objects.take_theme(name)

    def _mask_started(self) -> None:
        if self.source.layer is not None:
            self.mask_view.start(self.source.layer)

    def _show_verdict(self) -> None:
        """Scroll to the card, once the layout has made room for it."""
        if self.workspace.verdict is not None:
            card = self._panels[3].card
            QTimer.singleShot(0, lambda: self._scroll.ensureWidgetVisible(card))

    def _come_back(self) -> None:
        """Go on with the mask of an image that was left for another one."""
        session = self.workspace.session
        begun = session is None or session.ledger is not None
        if not begun and self.mask_view.has_left(self.source.layer):
            self.workspace.begin()

    def _load_libraries(self) -> None:
        """Import torch and zarr beside the main thread, then say what computes."""

        def job() -> Job:
            import_module("napari_seg.corrections.store")
            device = import_module("napari_seg.inference.device")
            yield device.describe_device(device.pick_device("auto"))

        self._runner(
            job(),
            on_item=self._computers.show_device,
            on_done=self._expert.build,
            on_error=self.workspace.failed.emit,
        )

    def predict_when_ready(self) -> None:
        """Predict the whole image as soon as its first view is on the screen."""
        QTimer.singleShot(0, self.source.predict_all)

    def sizeHint(self) -> QSize:
        """Return a width that leaves room for the image on a small screen."""
        return QSize(_WIDTH, super().sizeHint().height())

    def changeEvent(self, event: QEvent) -> None:
        """Shut down when napari takes the dock out of its frame to close it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()

    def shut_down(self) -> None:
        """Save, end every thread and process, and forget the viewer."""
        self._ending.run()
