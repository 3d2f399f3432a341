"""How the image is read: its axes, the channels that the model takes, its slices."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING

from napari_seg.corrections.manifest import AS_GUESSED, ReadAs
from napari_seg.errors import InputError
from napari_seg.inference.axes import as_array, guess_axes
from napari_seg.models.spec import LARGEST_ZOOM, SMALLEST_ZOOM

if TYPE_CHECKING:
    from napari_seg.inference.axes import AxesReading
    from napari_seg.workspace.workspace import Workspace

__all__ = ["LETTERS", "SLICES", "Reading"]

#: What an axis before Y and X can be, in the order of the list.
LETTERS = "TZCQI"
#: Networks do not mind objects larger or smaller by this factor.
_NEAR = 1.25
_RGB = ("red", "green", "blue")
#: Neighbouring slices that a new model can take.
SLICES = (1, 3, 5, 7)


class Reading:
    """Changes how the image of a workspace is read.

    Parameters
    ----------
    workspace : Workspace
        Whose image it is.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of the axes before Y and X, whose letters can be chosen."""
        source = self._workspace.source
        if source is None:
            return ()
        shape = as_array(source.data).shape
        return tuple(map(int, shape[: -3 if source.rgb else -2]))

    @property
    def axes(self) -> str:
        """Letters of the axes as they are read, or would be."""
        source, current = self._workspace.source, self._current
        if current is not None and not self._workspace.misfit:
            return current.axes
        if source is None:
            return ""
        guess = guess_axes(len(self.lengths) + 2)
        return source.read_as.axes or (guess + "C" * source.rgb if guess else "")

    @property
    def channels(self) -> list[tuple[str, tuple[int, ...]]]:
        """What the model could take of the channels, each with a name."""
        source, choice = self._workspace.source, self._workspace.choice
        if source is None or choice is None:
            return []
        choices = source.channel_choices(choice.spec)
        return [(_channel_text(each, source.rgb), each) for each in choices]

    @property
    def picked(self) -> tuple[int, ...] | None:
        """The channels that the model takes, None where it can take none."""
        current = self._current
        return None if current is None or self._workspace.misfit else current.picked

    @property
    def slices(self) -> int | None:
        """Slices that a new model sees at a time; None where that is no choice."""
        choice, current = self._workspace.choice, self._current
        if choice is None or not choice.untrained or current is None:
            return None
        if choice.spec.ndim == 3:
            return None
        return choice.spec.slices if "Z" in current.axes else None

    @property
    def zoom(self) -> float:
        """In which size the model sees the image."""
        source = self._workspace.source
        return 1.0 if source is None else source.read_as.zoom

    @property
    def fitting_zoom(self) -> float | None:
        """The zoom with which pixels are as large as those that the model has learned.

        None where that is not known, or near enough to the zoom as it is.
        """
        source, choice = self._workspace.source, self._workspace.choice
        if source is None or choice is None:
            return None
        if source.pixel_size is None or choice.spec.pixel_size is None:
            return None
        fitting = _within(source.pixel_size / choice.spec.pixel_size)
        return fitting if abs(log(fitting / self.zoom)) > log(_NEAR) else None

    def set_zoom(self, zoom: float) -> None:
        """Let the model see the image in another size."""
        if not self._workspace.misfit and zoom != self.zoom:
            self._workspace.read_as(replace(self._how, zoom=zoom))

    def measured(self, diameter: float) -> None:
        """Take in how long a typical object is in the image, in pixels."""
        choice = self._workspace.choice
        learned = None if choice is None else choice.spec.object_diameter
        if learned is not None and diameter > 0:
            self.set_zoom(round(_within(learned / diameter), 2))

    def name_axis(self, axis: int, letter: str) -> None:
        """Give an axis another letter; the axis that had it takes the old one."""
        letters = list(self.axes)
        if letter in letters:
            letters[letters.index(letter)] = letters[axis]
        letters[axis] = letter
        # The channels that were chosen belong to the axis that held them.
        how = replace(self._how, axes="".join(letters), channels=None)
        self._workspace.read_as(how)

    def take_channels(self, channels: tuple[int, ...]) -> None:
        """Give the model these channels of the image, in this order."""
        how = replace(self._how, axes=self.axes or None, channels=channels)
        self._workspace.read_as(how)

    def take_slices(self, slices: int) -> None:
        """Let a new model see so many neighbouring slices at a time."""
        choice = self._workspace.choice
        if choice is not None and choice.untrained:
            self._workspace.set_model(choice.with_slices(slices))

    def go_on(self, saved: ReadAs) -> None:
        """Read the image as on an earlier day, if its model can take it so."""
        source, choice = self._workspace.source, self._workspace.choice
        if source is None or choice is None or saved.axes is None:
            return
        if saved.axes == self.axes:
            # Unlike what was said, what was guessed follows the model.
            saved = replace(saved, axes=self._how.axes)
        if saved == self._how:
            return
        with suppress(InputError):
            replace(source, read_as=saved).read_for(choice.spec)
            self._workspace.read_as(saved)

    @property
    def _how(self) -> ReadAs:
        source = self._workspace.source
        return AS_GUESSED if source is None else source.read_as

    @property
    def _current(self) -> AxesReading | None:
        session = self._workspace.session
        return None if session is None else session.reading


def _within(zoom: float) -> float:
    return min(max(zoom, SMALLEST_ZOOM), LARGEST_ZOOM)


def _channel_text(channels: tuple[int, ...], rgb: bool) -> str:
    if rgb and channels == (0, 1, 2):
        return "RGB"
    names = ", ".join(_RGB[each] if rgb else str(each) for each in channels)
    return names if rgb else f"channel{'s' * (len(channels) > 1)} {names}"
