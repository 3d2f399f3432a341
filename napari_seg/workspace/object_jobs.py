"""What is done with objects beside the main thread: found, read, measured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.ledger import CORRECTED
from napari_seg.inference.axes import as_array
from napari_seg.workspace.session import Session
from napari_seg.workspace.tasks import Job
from napari_seg.workspace.uncertainty import CellConfidence

# What numbers objects is imported late, since scikit-image takes its time to load.
if TYPE_CHECKING:
    import pandas as pd

    from napari_seg.corrections.objects import ObjectsFile
    from napari_seg.inference.object_maps import Seen
    from napari_seg.objects.numbering import Split

__all__ = ["find_job", "measure_job", "read_job"]


class _Stopped(Exception):
    """Raised inside work that is no longer wanted."""


def _check(stopped: threading.Event, *_: Any) -> None:
    if stopped.is_set():
        raise _Stopped


def find_job(
    session: Session,
    split: Split,
    stopped: threading.Event,
    seen: Callable[[], Seen] | None,
) -> Job:
    """Yield the objects of the mask as it is now, as Numbered.

    `seen` returns the model and the image that tell some of them apart, and is called
    here, not before.
    """
    from napari_seg.inference.object_maps import split_maps
    from napari_seg.objects.numbering import number_objects
    from napari_seg.workspace.numbered import Numbered

    labels, leading = session.mask.labels, session.reading.leading
    countable = session.countable
    with suppress(_Stopped):
        # A copy, since the user may go on painting; here, where nobody waits for it.
        mask, check = labels.copy(), partial(_check, stopped)
        ids = number_objects(
            mask,
            leading,
            split,
            maps=None if seen is None else split_maps(split, seen(), mask),
            countable=countable,
            on_block=check,
        )
        yield Numbered(ids, leading, countable=countable)


def read_job(file: ObjectsFile, session: Session) -> Job:
    """Yield the objects that were saved, as Numbered, right for the mask as it is."""
    from napari_seg.objects.follow import reconcile
    from napari_seg.workspace.numbered import Numbered

    labels, leading = session.mask.labels, session.reading.leading
    countable = session.countable
    stored = file.load()
    if stored is not None:
        # A crash, or a program that knows no objects, has left them behind the mask.
        done = reconcile(stored.ids, labels, stored.last, leading, countable)
        numbered = Numbered(stored.ids, leading, done.last, countable)
        numbered.moved.append(done.where)
        yield numbered


def measure_job(
    session: Session, ids: NDArray[np.uint32], stopped: threading.Event
) -> Job:
    """Yield the table of measurements, a row for each object."""
    from napari_seg.objects.measure import measure_objects

    reading, mask = session.reading, session.mask
    doubt = session.uncertainty
    confidence: Any = None
    if doubt is not None and doubt.known:
        confidence = CellConfidence(doubt, mask)
    with suppress(_Stopped):
        table: pd.DataFrame = measure_objects(
            ids,
            mask.labels,
            as_array(session.source.data),
            classes=session.classes,
            confidence=confidence,
            pixel_size=None if "Z" in reading.leading else session.source.pixel_size,
            corrected=(mask.state() & CORRECTED) > 0,
            axes=reading.leading + "YX",
            image_axes=reading.axes,
            progress=partial(_check, stopped),
        )
        yield table
