"""The objects of a whole mask, also of a stack: numbered as a user expects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.objects.connected import label_objects, volumes
from napari_seg.objects.instances import SMALLEST, Split, find_objects
from napari_seg.objects.stitch import stitch_slices
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["Split", "number_objects"]


def number_objects(
    labels: Any,
    leading: str,
    split: Split = "shape",
    *,
    maps: Any = None,
    countable: NDArray[np.bool_] | None = None,
    smallest: int = SMALLEST,
    on_block: Callable[[], None] = lambda: None,
) -> NDArray[np.uint32]:
    """Return the objects of a mask as numbers, those of slices joined through Z.

    Parameters
    ----------
    labels : (..., Y, X) array of uint8
        Class ids, 0 the background and 255 unknown.
    leading : str
        Letters of the axes before Y and X. Objects reach through Z, not through others,
        such as time.
    split : str
        ``none``, what is connected is one object, diagonals and Z included; ``shape``,
        it is cut at its waists; ``probability``, also where the model is less sure;
        ``model``, as an object head says.
    maps : (..., 1 or 3, Y, X) array of float, optional
        As :func:`~napari_seg.objects.instances.find_objects` takes them.
    countable : (256,) ndarray of bool, optional
        Of which classes there are objects; by default of all but the background.
    smallest : int
        Objects that were cut are left out if they have fewer pixels in a plane.
    on_block : callable
        Called now and then while objects are cut; what it raises ends the work.

    Returns
    -------
    (..., Y, X) ndarray of uint32
        0 for none; no number occurs twice, whatever the axes.

    Notes
    -----
    A touching pair is cut slice by slice, where its waist is seen best, and the pieces
    are joined where they overlap: steps in Z are mostly too coarse for shapes in space.
    """
    if split == "none":
        known = np.asarray(labels)
        wanted = known != UNKNOWN if countable is None else countable[known]
        return label_objects(np.where(wanted, known, 0), leading)[0]
    ids: NDArray[np.uint32] = find_objects(
        labels,
        split,
        maps=maps,
        countable=countable,
        smallest=smallest,
        on_block=on_block,
    )
    if "Z" not in leading:
        return ids
    last = 0
    for place in volumes(labels.shape, leading):
        volume = stitch_slices(ids[place])
        ids[place] = np.where(volume > 0, volume + last, 0)
        last += int(volume.max(initial=0))
    return ids
