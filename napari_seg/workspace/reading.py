"""How the image is read: its axes, the channels that the model takes, its slices."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING

from napari_seg.errors import InputError
from napari_seg.inference.axes import as_array, guess_axes
from napari_seg.models.spec import LARGEST_ZOOM, SMALLEST_ZOOM

if TYPE_CHECKING:
    from napari_seg.inference.axes import AxesReading
    from napari_seg.workspace.workspace import Workspace

__all__ = ["LETTERS", "SLICES", "Reading"]

#: What an axis before Y and X can be, in the order of the list.
LETTERS = "TZCQI"
#: What of a source says how it is read.
_HOW = ("axes", "channels", "zoom")
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
        return source.axes or (guess + "C" * source.rgb if guess else "")

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
        return choice.spec.slices if "Z" in current.axes else None

    @property
    def zoom(self) -> float:
        """In which size the model sees the image."""
        source = self._workspace.source
        return 1.0 if source is None else source.zoom

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
        return fitting if abs(log(fitting / source.zoom)) > log(_NEAR) else None

    def set_zoom(self, zoom: float) -> None:
        """Let the model see the image in another size."""
        source = self._workspace.source
        if source is not None and not self._workspace.misfit and zoom != source.zoom:
            self._workspace.read_as(replace(source, zoom=zoom))

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
        self._read_as(axes="".join(letters), channels=None)

    def take_channels(self, channels: tuple[int, ...]) -> None:
        """Give the model these channels of the image, in this order."""
        self._read_as(axes=self.axes or None, channels=channels)

    def take_slices(self, slices: int) -> None:
        """Let a new model see so many neighbouring slices at a time."""
        choice = self._workspace.choice
        if choice is not None and choice.untrained:
            self._workspace.set_model(choice.with_slices(slices))

    def go_on(
        self, axes: str | None, channels: tuple[int, ...] | None, zoom: float
    ) -> None:
        """Read the image as on an earlier day, if its model can take it so."""
        source, choice = self._workspace.source, self._workspace.choice
        if source is None or choice is None or axes is None:
            return
        if self.axes == axes:
            # Unlike one that was given, what was guessed follows the model.
            axes = source.axes
        saved = replace(source, axes=axes, channels=channels, zoom=zoom)
        if all(getattr(saved, n) == getattr(source, n) for n in _HOW):
            return
        with suppress(InputError):
            saved.read_for(choice.spec)
            self._workspace.read_as(saved)

    @property
    def _current(self) -> AxesReading | None:
        session = self._workspace.session
        return None if session is None else session.reading

    def _read_as(self, axes: str | None, channels: tuple[int, ...] | None) -> None:
        """Read the image so from now on, or say why that does not work."""
        workspace = self._workspace
        source, choice = workspace.source, workspace.choice
        if source is None or choice is None:
            return
        wanted = replace(source, axes=axes, channels=channels)
        try:
            wanted.read_for(choice.spec)
        except InputError as error:
            workspace.failed.emit(error)
            workspace.changed.emit()
            return
        workspace.read_as(wanted)


def _within(zoom: float) -> float:
    return min(max(zoom, SMALLEST_ZOOM), LARGEST_ZOOM)


def _channel_text(channels: tuple[int, ...], rgb: bool) -> str:
    if rgb and channels == (0, 1, 2):
        return "RGB"
    names = ", ".join(_RGB[each] if rgb else str(each) for each in channels)
    return names if rgb else f"channel{'s' * (len(channels) > 1)} {names}"
