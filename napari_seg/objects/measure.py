"""Objects → a table: size, place, shape, intensity, and what is vouched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_seg.errors import InputError
from napari_seg.objects.content import Content
from napari_seg.objects.layers import blocks, steps
from napari_seg.objects.shapes import shape_columns
from napari_seg.objects.sums import BlockSums, add_up
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["measure_objects"]

Progress = Callable[[int, int], None]


def measure_objects(
    ids: ArrayLike,
    labels: ArrayLike | None = None,
    image: ArrayLike | None = None,
    *,
    classes: Sequence[str] = (),
    channel_names: Sequence[str] | None = None,
    pixel_size: float | Sequence[float] | None = None,
    confidence: ArrayLike | None = None,
    corrected: ArrayLike | None = None,
    axes: str | None = None,
    image_axes: str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure each object: one row for each, of each time step.

    Shapes are those of `skimage.measure.regionprops`.  Everything is read in blocks of
    a million pixels and counted there, so that memory follows the block and the number
    of objects, not the image; the numbers are those of the whole image.

    Parameters
    ----------
    ids : array of int, shape (Y, X), (Z, Y, X) or with further axes
        Id of the object that each pixel belongs to, 0 for none.  Like all arrays here
        NumPy, a memory map, dask or zarr.
    labels : array of int, shape of `ids`, optional
        Class ids; 255 is unknown.
    image : array of numbers, shape of `ids`, or (C, ...), optional
        What intensities are measured in.  NaN and infinity are left out.
    classes : sequence of str
        Names of the classes in the order of their ids; without, ``class`` is the id.
    channel_names : sequence of str, optional
        Names of the channels; by default their numbers from 0.
    pixel_size : float or sequence of float, optional
        Micrometres along each axis of space, or along all; adds columns in µm.
    confidence : array of float, shape of `ids`, optional
        Of the prediction, 0 to 1.
    corrected : array of bool, shape of `ids`, optional
        Which pixels the user has corrected.
    axes : str, optional
        A letter for each axis of `ids`; by default ``YX``, ``ZYX`` or ``TZYX``.  An
        object reaches through Z, Y and X, and is measured anew at each step along any
        other axis.
    image_axes : str, optional
        The same for `image`, in which C holds the channels; by default those of `ids`,
        with C before them if there is one axis more.
    progress : function, optional
        Called with blocks done and blocks in all; what it raises ends the measuring.

    Returns
    -------
    DataFrame
        Columns as in :mod:`napari_seg.objects.columns`, rows by step and id.

    Raises
    ------
    InputError
        If axes, names or pixel size do not fit, or the image holds no real numbers.
    LabelsError
        If ids or classes are no integers, or out of range.
    """
    content = Content(ids, axes)
    content.add(labels=labels, confidence=confidence, corrected=corrected)
    names = content.add_image(image, image_axes, channel_names)
    sizes = _checked_sizes(pixel_size, len(content.space))
    spans = blocks(content.shape)
    places = list(steps(content.ids))
    frames = []
    for at, step in enumerate(places):
        parts = []
        for done, span in enumerate(spans, at * len(spans) + 1):
            parts.append(content.count(step, span))
            if progress is not None:
                progress(done, len(spans) * len(places))
        total = add_up(parts)
        if total is not None:
            frames.append(_table(total, content, step, names, classes, sizes))
    if frames:
        return pd.concat(frames, ignore_index=True)
    # Which columns there are does not depend on what is found.
    one = content.single_pixel()
    return _table(one, content, places[0], names, classes, sizes).iloc[:0]


def _checked_sizes(given: Any, ndim: int) -> tuple[float, ...] | None:
    if given is None:
        return None
    sizes = np.atleast_1d(np.asarray(given, float))
    fits = sizes.shape in ((1,), (ndim,))
    if not fits or not ((sizes > 0) & np.isfinite(sizes)).all():
        raise InputError(
            f"The pixel size is {given}; it must be above 0, one number for all axes "
            f"or one for each of the {ndim}."
        )
    return tuple(float(size) for size in np.broadcast_to(sizes, ndim))


def _table(
    total: BlockSums,
    content: Content,
    step: dict[str, int],
    names: Sequence[str],
    classes: Sequence[str],
    sizes: tuple[float, ...] | None,
) -> pd.DataFrame:
    """Return the finished table of one step."""
    sums, axes = total.sums, content.space.lower()
    found: dict[str, Any] = {letter.lower(): at for letter, at in step.items()}
    found["id"] = sums["id"]
    if content.labels is not None:
        found["class"] = _class_of(total, classes)
    found |= shape_columns(total, axes, sizes)
    for i, name in enumerate(names):
        found |= _intensities(sums, f"channel{i}", name)
    for key, column in (
        ("confidence", "mean_confidence"),
        ("corrected", "corrected_share"),
    ):
        if (key,) in content.values:
            found[column] = _mean(sums, key)
    touching = [
        (sums[f"first_{a}"] == 0) | (sums[f"stop_{a}"] == n)
        for a, n in zip(axes, content.shape, strict=True)
        # Of a single slice everything touches both sides.
        if n > 1
    ]
    found["touches_border"] = np.logical_or.reduce(touching) if touching else True
    return pd.DataFrame(found)


def _intensities(sums: pd.DataFrame, key: str, name: str) -> dict[str, Any]:
    any_finite = sums[f"count_{key}"] > 0
    return {
        f"intensity_mean_{name}": _mean(sums, key),
        f"intensity_min_{name}": sums[f"min_{key}"].where(any_finite),
        f"intensity_max_{name}": sums[f"max_{key}"].where(any_finite),
    }


def _mean(sums: pd.DataFrame, key: str) -> Any:
    count = sums[f"count_{key}"]
    return sums[f"sum_{key}"] / count.where(count > 0)


def _class_of(total: BlockSums, names: Sequence[str]) -> NDArray[Any]:
    """Return the class of most of each object's known pixels, the lower one in ties."""
    counts = total.classes.sort_values("class", kind="stable")
    known = counts[counts["class"] != UNKNOWN]
    first = known.loc[known.groupby("id")["area"].idxmax()].set_index("id")["class"]
    ids = first.reindex(total.sums["id"], fill_value=UNKNOWN).to_numpy(np.int64)
    if not names:
        return np.asarray(ids)
    highest = int(first.max()) if len(first) else 0
    if highest >= len(names):
        raise InputError(
            f"There are objects of class {highest}, and names for the classes 0 to "
            f"{len(names) - 1} ({', '.join(names)}); name all, the background first."
        )
    table = np.array([*names, "unknown"], object)
    return np.asarray(table[np.where(ids == UNKNOWN, len(names), ids)])
