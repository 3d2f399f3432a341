"""Where a napari Labels layer was edited, as boxes of its array.

napari says this in several ways, most of them in private attributes whose form has
changed (two forms of undo steps since 0.8).  They are read here and nowhere else.
Each reader answers with a box that is large enough, or with None where it understands
nothing: then everything has to be compared.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.scoring.regions import (
    PIECE,
    Box,
    as_box,
    intersection,
    pixels,
    relative,
    split,
    union,
)

if TYPE_CHECKING:
    from napari_seg.corrections.history import Stroke

__all__ = [
    "Shown",
    "UndoSteps",
    "forget_steps",
    "forget_steps_in",
    "merged",
    "restore_steps",
    "shown",
    "step_boxes",
    "step_pixels",
    "updated_box",
]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """What the viewer shows of a layer.

    Attributes
    ----------
    axes : tuple of int
        The displayed axes of the array, in the order in which they are displayed.
    box : tuple of slice
        All of these axes; of every other axis the one position on the slider.  It is
        empty where a slider stands outside of the layer.
    """

    axes: tuple[int, ...]
    box: Box


def shown(layer: Labels) -> Shown | None:
    """Return what the viewer shows of `layer`, None if napari does not tell."""
    try:
        slicing = layer._slice_input
        axes = tuple(int(axis) for axis in slicing.displayed)
        at = np.rint(layer.world_to_data(slicing.world_slice.point))
    except AttributeError:
        return None
    whole = as_box(None, layer.data.shape)
    box = tuple(
        all_of_it if axis in axes else _only(at[axis], all_of_it)
        for axis, all_of_it in enumerate(whole)
    )
    return Shown(axes, box)


def _only(at: float, axis: slice) -> slice:
    inside = axis.start <= at < axis.stop
    return slice(int(at), int(at) + 1) if inside else slice(0, 0)


def updated_box(layer: Labels, offset: Sequence[int], data: Any) -> Box | None:
    """Return where a stroke in progress has changed the array.

    Parameters
    ----------
    layer : Labels
        The layer whose event ``labels_update`` is being emitted.
    offset, data : sequence of int, array
        What the event carries: the new pixels in the displayed axes, in their order.

    Returns
    -------
    tuple of slice or None
        A brush in three dimensions also changes slices that are not displayed.  Where
        napari does not tell which ones, these axes are whole.
    """
    # The pixels are fewer than were changed where the layer is hidden.
    exact = getattr(layer, "_updated_slice", None)
    if isinstance(exact, tuple) and len(exact) == layer.data.ndim:
        return as_box(exact, layer.data.shape)
    now = shown(layer)
    if now is None or not len(now.axes) == len(offset) == np.ndim(data):
        return None
    box = list(as_box(None, layer.data.shape))
    for axis, start, length in zip(now.axes, offset, np.shape(data), strict=True):
        box[axis] = slice(int(start), int(start) + length)
    return as_box(tuple(box), layer.data.shape)


class UndoSteps:
    """Tell which undo steps napari has moved, made or lost since the last look.

    An undone step goes to the list of steps to redo, and back, as a new object each
    time: so a step not seen before is one that was just done, undone or redone.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        # The steps are held, too: a number may be given again once its owner is gone.
        self._undo: dict[int, Any] = {}
        self._redo: dict[int, Any] = {}
        self.fresh()

    def fresh(self) -> list[Any]:
        """Return the steps that are new, and count them as seen.

        Nothing tells of an undo while the layer is hidden, and the next stroke
        clears the list to which the step went.  It is missing in its old place then,
        as a step that is too old for napari to keep is; both are returned as well.
        """
        seen_undo, seen_redo = self._undo, self._redo
        self._undo = {id(step): step for step in self._stack("_undo_history")}
        self._redo = {id(step): step for step in self._stack("_redo_history")}
        undone = _without(self._redo, seen_undo | seen_redo)
        done = _without(self._undo, seen_undo | seen_redo)
        missing = _without(seen_undo, self._undo)
        if not (self._undo or self._redo):
            missing += seen_redo.values()
        return [*done, *undone, *(missing if len(missing) > len(undone) else ())]

    def unfinished(self) -> list[Any]:
        """Return the step of a stroke that goes on."""
        return self._stack("_staged_history")

    def _stack(self, name: str) -> list[Any]:
        return list(getattr(self._layer, name, ()))


def _without(steps: dict[int, Any], others: dict[int, Any]) -> list[Any]:
    return [step for key, step in steps.items() if key not in others]


def step_boxes(step: Iterable[Any], shape: tuple[int, ...]) -> list[Box]:
    """Return where an undo step has changed an array of `shape`.

    It is the whole array if the step cannot be read.
    """
    try:
        return merged(_atom_box(atom, shape) for atom in step)
    except (InputError, TypeError, ValueError):
        return [as_box(None, shape)]


def _atom_box(atom: Any, shape: tuple[int, ...]) -> Box:
    """Return the box of one part of an undo step, in the old or the new form."""
    key = getattr(atom, "slice_key", None)
    if key is None:
        key, _before, _after = atom
    if not isinstance(key, tuple):
        raise TypeError(f"an undo step at {type(key).__name__}")
    return as_box(tuple(_range(k, n) for k, n in zip(key, shape, strict=True)), shape)


def step_pixels(
    step: Sequence[Any], shape: tuple[int, ...], *, undone: bool
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return which pixels an undo step has changed, and what they were before.

    Parameters
    ----------
    step : sequence
        From napari's list of steps to undo, or of those to redo.
    shape : tuple of int
        Of the array.
    undone : bool
        Whether it was undone just now; before that the pixels were as it had made
        them.

    Returns
    -------
    where : (N,) ndarray of int64
        Places in the flattened array; each once.
    before : (N,) ndarray
        Their values.
    """
    places, values = [], []
    # An undone step is kept backwards: its last part comes first.
    for atom in step:
        where, old, new = _atom_pixels(atom, shape)
        places.append(where)
        values.append(np.broadcast_to(new if undone else old, where.shape))
    where, first = np.unique(np.concatenate(places), return_index=True)
    return where, np.concatenate(values)[first]


def _atom_pixels(
    atom: Any, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], Any, Any]:
    """Return places, values before and values after of one part of an undo step."""
    if not hasattr(atom, "slice_key"):
        key, old, new = atom
        at = tuple(np.asarray(k).reshape(-1) for k in key)
        return np.ravel_multi_index(at, shape).astype(np.int64), old, new
    box = as_box(atom.slice_key, shape)
    inside = tuple(side.stop - side.start for side in box)
    mask = np.ones(inside, bool) if atom.mask is None else atom.mask.reshape(inside)
    at = tuple(i + s.start for i, s in zip(np.nonzero(mask), box, strict=True))
    old = np.asarray(atom.old_values).reshape(-1)
    return np.ravel_multi_index(at, shape).astype(np.int64), old, atom.new_value


def forget_steps_in(layer: Labels, box: Box) -> None:
    """Forget the steps to undo or redo that changed something in a box.

    So are those that could be reached only through them: they, too, would write over
    what is there now.
    """
    shape = tuple(layer.data.shape)
    for name in ("_undo_history", "_redo_history"):
        steps = getattr(layer, name, None)
        if not isinstance(steps, deque):
            continue
        meets = [
            any(intersection(part, box) for part in step_boxes(step, shape))
            for step in steps
        ]
        # The last one is the next to be taken.
        for _ in range(len(meets) - meets[::-1].index(True) if any(meets) else 0):
            steps.popleft()


def restore_steps(layer: Labels, strokes: Sequence[Stroke]) -> None:
    """Let napari undo what was done in another session, after all that it knows.

    Parameters
    ----------
    layer : Labels
        The mask as the last step left it, or with own steps made since.
    strokes : sequence of sequence of (box, before, after)
        Oldest first, as are the steps of each.  Only pixels that differ between
        `before` and `after` will be changed.  What is more than napari keeps, the
        oldest, is left out; so is a stroke without any difference.
    """
    if not _napari_replays():
        _LOG.warning("This napari keeps undo in another way; older steps are lost.")
        return
    history = layer._undo_history
    room = len(strokes) if history.maxlen is None else history.maxlen - len(history)
    for stroke in reversed(strokes):
        if room <= 0:
            return
        atoms = [atom for step in stroke for atom in _atoms(*step)]
        if atoms:
            history.appendleft(atoms)
            room -= 1


def forget_steps(layer: Labels) -> None:
    """Empty napari's lists of steps to undo and to redo."""
    for name in ("_undo_history", "_redo_history"):
        steps = getattr(layer, name, None)
        if isinstance(steps, deque):
            steps.clear()


def _atoms(
    box: Box, before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> Iterator[tuple[Any, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield parts of an undo step, in the form that every napari can replay.

    Numbers of pixels take many times their memory.  So pieces that changed as a
    whole are given as slices, as most of a large fill is.
    """
    for piece in split(box):
        part = relative(piece, box)
        old, new = before[part], after[part]
        changed = old != new
        if changed.all():
            yield piece, old.copy(), new.copy()
        elif changed.any():
            at = zip(np.nonzero(changed), piece, strict=True)
            indices = tuple(index + where.start for index, where in at)
            yield indices, old[changed], new[changed]


@cache
def _napari_replays() -> bool:
    """Whether napari can undo and redo what :func:`_atoms` makes."""
    before = np.zeros((3, 4), np.uint8)
    between, after = before.copy(), before.copy()
    between[:2, 1:3], after[:2, 1:3], after[2, 3] = 1, 1, 2
    box = np.s_[0:2, 1:3]
    layer = Labels(after.copy())
    history = getattr(layer, "_undo_history", None)
    if not isinstance(history, deque):
        return False
    history.append([*_atoms(box, before[box], between[box])])
    history.append([*_atoms(as_box(None, before.shape), between, after)])
    found = []
    try:
        for replay in (layer.undo, layer.undo, layer.redo, layer.redo):
            replay()
            found.append(np.asarray(layer.data).copy())
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        _LOG.info("Undo steps of another form: %s", error)
        return False
    return np.array_equal(found, [between, before, between, after])


def _range(key: Any, length: int) -> Any:
    """Return a slice that holds every index in `key`."""
    if isinstance(key, slice | int | np.integer):
        return key
    indices = np.asarray(key)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"an undo step at indices of {indices.dtype}")
    if indices.size == 0:
        return slice(0, 0)
    low, high = int(indices.min()), int(indices.max())
    return slice(low, high + 1) if low >= 0 else slice(0, length)


def merged(boxes: Iterable[Box]) -> list[Box]:
    """Join boxes that follow each other, as long as little is added between them.

    A stroke is hundreds of overlapping dabs: too many to compare one by one, and the
    box around a long diagonal one may be the whole image.
    """
    joined: list[Box] = []
    for box in boxes:
        both = union(joined[-1], box) if joined else box
        assert both is not None
        largest = max(PIECE, *(pixels(b) for b in (*joined[-1:], box)))
        if joined and pixels(both) <= largest:
            joined[-1] = both
        else:
            joined.append(box)
    return joined
