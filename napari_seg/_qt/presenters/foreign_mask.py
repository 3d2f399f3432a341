"""Presents masks of other programs that were opened as layers."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import ref

from napari.layers import Image, Labels, Layer

from napari_seg._qt.mask_view import MaskView
from napari_seg._qt.panels.correct import shortened
from napari_seg._qt.panels.foreign_mask import ForeignMaskRow
from napari_seg._qt.presenters.source import SourcePresenter
from napari_seg._qt.viewer_link import OWN, ViewerLink
from napari_seg.errors import InputError
from napari_seg.workspace import Workspace
from napari_seg.workspace.intaking import ForeignMask, Treatment
from napari_seg.workspace.meaning import Meaning, Survey

__all__ = ["ForeignMaskPresenter"]


class _Seen:
    """What is known of a layer that is not ours."""

    def __init__(self, layer: Layer) -> None:
        # A number may be given again once its owner is gone.
        self.layer = ref(layer)
        self.survey: Survey | None = None
        #: It was taken in, or is not wanted.
        self.done = False
        #: As what it was taken in.
        self.mask: ForeignMask | None = None


class ForeignMaskPresenter:
    """Connects :class:`ForeignMaskRow` with the workspace and the viewer's layers."""

    def __init__(
        self,
        row: ForeignMaskRow,
        workspace: Workspace,
        link: ViewerLink,
        source: SourcePresenter,
        mask: MaskView,
    ) -> None:
        self._row, self._workspace, self._link = row, workspace, link
        self._source, self._mask = source, mask
        self._seen: dict[int, _Seen] = {}
        self._offered: Layer | None = None
        self._meanings: list[Meaning] = []
        self._stopped = False
        row.takeWanted.connect(self._take_offered)
        row.ignoreWanted.connect(self._ignore)
        link.imagesChanged.connect(self.show)
        link.viewer.layers.selection.events.active.connect(self._active_changed)
        workspace.changed.connect(self.show)
        workspace.intake.changed.connect(self.show)
        workspace.intake.moved.connect(self._moved)

    def stop(self) -> None:
        """Leave the viewer as it is."""
        self._stopped = True
        self._offered = None
        self._link.viewer.layers.selection.events.active.disconnect(
            self._active_changed
        )
        self._workspace.changed.disconnect(self.show)
        self._workspace.intake.changed.disconnect(self.show)
        self._workspace.intake.moved.disconnect(self._moved)

    def _active_changed(self, _: Any = None) -> None:
        active = self._link.viewer.layers.selection.active
        if active is not None and not self._has_content(active):
            # Somebody may have painted on it since.
            self._forget(active)
        self.show()

    # What is there ------------------------------------------------------------

    def show(self) -> None:
        """Offer the chosen layer, else the topmost one, if it looks like a mask."""
        if self._stopped:
            return
        there = {id(_bare(layer)) for layer in self._link.viewer.layers}
        self._seen = {key: seen for key, seen in self._seen.items() if key in there}
        candidates = [layer for layer in self._candidates() if self._looks(layer)]
        active = self._link.viewer.layers.selection.active
        fitting = [each for each in candidates if not self._misfit(each)]
        order = [each for each in candidates if each == active] + fitting + candidates
        self._offer(order[0] if order else None)

    def _offer(self, layer: Layer | None) -> None:
        self._offered = layer
        survey = None if layer is None else self._seen_of(layer).survey
        if layer is None or survey is None:
            self._meanings = []
            self._row.show_mask("", [], "")
            return
        intake, mask = self._workspace.intake, _foreign(layer)
        obstacle, misfit = intake.obstacle(mask), intake.misfit(mask)
        self._meanings = [] if misfit else intake.meanings(survey)
        self._row.show_mask(
            misfit or f"{shortened(layer.name)} looks like a mask.",
            [each.text for each in self._meanings],
            obstacle,
        )

    def _candidates(self) -> list[Layer]:
        """Return the layers that may be masks of others, the topmost first."""
        if self._workspace.session is None:
            return []
        return [
            layer
            for layer in reversed(self._link.viewer.layers)
            if self._may_be_offered(layer) and not self._seen_of(layer).done
        ]

    def _may_be_offered(self, layer: Layer) -> bool:
        if OWN in layer.metadata or layer == self._source.layer:
            return False
        if isinstance(layer, Labels):
            return not self._mask.knows(layer)
        # Of an image that does not fit nobody would think that it is the mask.
        return isinstance(layer, Image) and not self._misfit(layer)

    def _looks(self, layer: Layer) -> bool:
        """Whether a layer holds a mask; what is not known yet is found out."""
        seen = self._seen_of(layer)
        if seen.survey is None:
            if not seen.done:
                # To be asked for once, whatever comes of it.
                seen.done = True
                found = partial(self._surveyed, seen)
                doubtful = isinstance(layer, Image)
                self._workspace.intake.look(_foreign(layer), found, doubtful)
            return False
        return bool(seen.survey.values)

    def _surveyed(self, seen: _Seen, survey: Survey) -> None:
        seen.survey, seen.done = survey, False
        self.show()

    def _has_content(self, layer: Layer) -> bool:
        seen = self._seen.get(id(_bare(layer)))
        return seen is None or seen.survey is None or bool(seen.survey.values)

    def _forget(self, layer: Layer) -> None:
        self._seen.pop(id(_bare(layer)), None)

    def _seen_of(self, layer: Layer) -> _Seen:
        bare = _bare(layer)
        seen = self._seen.get(id(bare))
        if seen is None or seen.layer() is not bare:
            seen = self._seen[id(bare)] = _Seen(bare)
        return seen

    def _misfit(self, layer: Layer) -> str:
        return self._workspace.intake.misfit(_foreign(layer))

    # What becomes of it -------------------------------------------------------

    def take_active(self, treatment: Treatment) -> None:
        """Take the chosen layer in, whatever it looks like, as it is likeliest read."""
        layer = self._link.viewer.layers.selection.active
        if not isinstance(layer, Image | Labels) or self._mask.knows(layer):
            self._refuse("Choose the layer of the other mask in the layer list first.")
            return
        if layer == self._source.layer:
            self._refuse(
                f"{layer.name} is the image that is worked on: choose another one "
                "under Image, or the layer of the mask in the layer list."
            )
            return
        obstacle = self._workspace.intake.obstacle(_foreign(layer))
        if obstacle:
            self._refuse(obstacle)
            return

        def found(survey: Survey) -> None:
            if not self._stopped:
                meanings = self._workspace.intake.meanings(survey)
                self._take(layer, meanings[0], treatment)

        self._workspace.intake.look(_foreign(layer), found)

    def _refuse(self, reason: str) -> None:
        self._workspace.failed.emit(InputError(reason))

    def _take_offered(self, treatment: Treatment, choice: int) -> None:
        if self._offered is not None and choice < len(self._meanings):
            self._take(self._offered, self._meanings[choice], treatment)

    def _take(self, layer: Layer, meaning: Meaning, treatment: Treatment) -> None:
        mask, seen = _foreign(layer), self._seen_of(layer)
        # Where jobs run at once it is in before this returns.
        seen.mask, seen.done = mask, True
        if not self._workspace.intake.take(mask, meaning, treatment):
            seen.done = False
            return
        # It would lie over the mask, and take the brush.
        layer.visible = False
        if self._mask.layer is not None:
            self._link.viewer.layers.selection.active = self._mask.layer
        self.show()

    def _moved(self, mask: ForeignMask, undone: bool) -> None:
        """Offer a mask again that was taken back."""
        for seen in self._seen.values():
            if seen.mask is mask:
                seen.done = not undone
        self.show()

    def _ignore(self) -> None:
        if self._offered is not None:
            self._seen_of(self._offered).done = True
            self.show()


def _foreign(layer: Layer) -> ForeignMask:
    return ForeignMask(layer.name, layer.data, bool(getattr(layer, "rgb", False)))


def _bare(layer: Any) -> Any:
    """Return a layer itself; a plugin is handed it in a wrapper, anew each time."""
    return getattr(layer, "__wrapped__", layer)
