"""An image that is sent to the workers of a cluster tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.inference.agenda import Agenda, Index, Look
from napari_seg.inference.axes import AxesReading, Box, as_array, read_axes
from napari_seg.inference.cluster import (
    Call,
    Cluster,
    compute,
    find_context,
    model_here,
)
from napari_seg.inference.engine import ImagePixels, Job, TileResult
from napari_seg.inference.normalization import channel_ranges
from napari_seg.inference.predict import PredictOptions, plan
from napari_seg.inference.runner import Context
from napari_seg.inference.tiling import clip_box, contains
from napari_seg.inference.zoom import Zoom
from napari_seg.models.base import SegmentationModel

__all__ = ["stream_on"]


def _plan(
    name: str,
    reading: AxesReading,
    options: PredictOptions,
    ranges: NDArray[np.float64],
    within: Box | None,
    indices: Sequence[Sequence[int]] | None,
) -> Job:
    runner = model_here(name).runner()
    return plan(
        runner, None, reading, options, within=within, indices=indices, ranges=ranges
    )


def _as_is(result: TileResult) -> TileResult:
    return result


@dataclass(frozen=True)
class _Excerpt:
    """Boxes of an image's planes that are sent to a worker.

    Attributes
    ----------
    boxes : tuple
        For each plane that is there, its boxes and their pixels (C, Y, X).
    """

    boxes: dict[Index, list[tuple[Box, NDArray[Any]]]]

    @property
    def lazy(self) -> bool:
        """Whether fetching pixels takes a while: they are here."""
        return False

    def plane(self, index: Index, box: Box) -> NDArray[Any]:
        """Return a box of a plane, (C, Y, X) in the image's dtype."""
        origin, pixels = next(
            (outer, pixels)
            for outer, pixels in self.boxes[index]
            if contains(outer, box)
        )
        rows, columns = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip(box, origin, strict=True)
        )
        return pixels[:, rows, columns]


def _excerpt(job: Job, index: Index, boxes: Iterable[Box]) -> Job:
    """Return the job with the pixels of these boxes of a plane alone."""
    shape = job.reading.plane_shape
    inside = [clip_box(box, shape) for box in boxes]
    read = [(box, np.ascontiguousarray(job.pixels.plane(index, box))) for box in inside]
    return replace(job, pixels=_Excerpt({index: read}), indices=(index,), look=None)


def stream_on(
    cluster: Cluster,
    model: SegmentationModel,
    image: Any,
    *,
    axes: str | None = None,
    rgb: bool = False,
    channels: Sequence[int] | None = None,
    device: str = "auto",
    options: PredictOptions | None = None,
    look: Look | None = None,
    within: Box | None = None,
    indices: Sequence[Sequence[int]] | None = None,
    ranges: NDArray[np.float64] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[TileResult, None, None]:
    """Segment an image on a cluster, whose workers need not see its file.

    The pixels are read here and sent tile by tile; parameters, order and result are
    those of :func:`~napari_seg.inference.predict.stream`. With a look, ``auto`` never
    takes OpenVINO.

    Yields
    ------
    TileResult

    Raises
    ------
    ImageError, ChannelError, InputError, DeviceError
        As :func:`~napari_seg.inference.predict.predict`.
    ClusterError
        If the cluster is lost.
    """
    image = as_array(image)
    reading = read_axes(image.shape, image.dtype, model.spec, axes, rgb, channels)
    options = options or PredictOptions()
    if look is not None and options.runtime == "auto":
        options = replace(options, runtime="torch")

    def results() -> Generator[TileResult, None, None]:
        name = cluster.load(model, device, options)
        known = ranges
        if known is None:
            known = channel_ranges(image, reading, model.spec.normalization)
        planned = cluster.call(_plan, name, reading, options, known, within, indices)
        job = replace(planned, pixels=ImagePixels(image, reading), look=look)
        total = len(job.indices) * len(job.tiles)
        done = count(1)
        shared = Zoom.near(options.zoom) if model.global_context else None
        calls = _calls(cluster, name, job, shared)
        for _, parts in cluster.run(calls, cancelled):
            # Where memory ran out, a tile comes in halves.
            total += len(parts) - 1
            for result in parts:
                yield replace(result, done=next(done), total=total)

    return results()


def _calls(
    cluster: Cluster, name: str, job: Job, shared: Zoom | None
) -> Iterator[Call]:
    """Yield a call for each tile; `shared` is for what tiles of a plane share."""
    agenda = Agenda(job.indices, job.tiles, job.look)
    contexts: dict[Index, Context | None] = {}
    while agenda:
        index, tile = agenda.next()
        if shared is not None and index not in contexts:
            boxes = job.sample(shared)
            contexts[index] = _context_of(cluster, name, job, index, boxes)
        known = {index: contexts.get(index)}
        part = replace(_excerpt(job, index, [tile.read]), tiles=(tile,), contexts=known)
        yield Call(None, compute, (name, part, _as_is))


def _context_of(
    cluster: Cluster, name: str, job: Job, index: Index, boxes: list[Box]
) -> Context | None:
    if not boxes:
        return None
    part = replace(_excerpt(job, index, boxes), tiles=job.tiles[:1])
    return cluster.call(find_context, name, part, index)
