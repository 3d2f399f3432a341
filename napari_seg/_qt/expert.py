"""The expert sections: forms made from the configuration dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_seg._qt.forms import OptionsForm
from napari_seg._qt.panels.library import LibraryPanel
from napari_seg.options import as_arguments, rebased
from napari_seg.workspace import Workspace

if TYPE_CHECKING:
    from napari_seg.inference.predict import PredictOptions
    from napari_seg.training.finetune import FinetuneOptions

__all__ = ["ExpertOptions"]


class ExpertOptions:
    """Connects the expert forms with the workspace.

    The configurations live beside the code that needs torch, so the forms are built
    once torch is there.
    """

    def __init__(self, panel: LibraryPanel, workspace: Workspace) -> None:
        self._panel, self._workspace = panel, workspace

    def build(self) -> None:
        """Add the forms to the panel."""
        from napari_seg.inference.predict import PredictOptions
        from napari_seg.training.finetune import FinetuneOptions

        predict = OptionsForm(PredictOptions, hidden=frozenset({"confidence", "zoom"}))
        predict.valueChanged.connect(self._take_predict)
        self._panel.add_form("Expert: prediction", "expert_predict", predict)
        self._defaults = FinetuneOptions()
        self._teach = OptionsForm(FinetuneOptions)
        self._teach.valueChanged.connect(self._take_finetune)
        self._panel.add_form("Expert: training", "expert_finetune", self._teach)
        self._workspace.changed.connect(self._follow_model)
        self._follow_model()

    def _take_predict(self, options: PredictOptions) -> None:
        self._workspace.predict_options = options

    def _follow_model(self) -> None:
        """Show the defaults of the chosen model; what was set by hand stays."""
        from napari_seg.training.finetune import default_options

        choice, before = self._workspace.choice, self._defaults
        if choice is None or (now := default_options(choice.spec)) == before:
            return
        self._defaults = now
        options = rebased(self._teach.value(), before, now)
        self._teach.setValue(options)
        self._take_finetune(options)

    def _take_finetune(self, options: FinetuneOptions) -> None:
        defaults = self._defaults
        self._workspace.finetune_arguments = (
            *as_arguments(options, defaults),
            *as_arguments(options.augmentation, defaults.augmentation, "augment_"),
        )
