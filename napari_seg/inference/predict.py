"""Image → mask, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.inference.agenda import Look
from napari_seg.inference.axes import AxesReading, Box, as_array, read_axes
from napari_seg.inference.crf import CRFOptions
from napari_seg.inference.device import pick_device
from napari_seg.inference.engine import ImagePixels, Job, TileResult
from napari_seg.inference.normalization import channel_ranges
from napari_seg.inference.openvino_runtime import (
    can_compute,
    check_usable,
    is_installed,
)
from napari_seg.inference.runner import Cancelled, TileRunner
from napari_seg.inference.tiling import choose_tile, clip_box, plan_tiles, read_area
from napari_seg.inference.volume import check_volume_options, plan_volume
from napari_seg.inference.zoom import Zoom
from napari_seg.models.base import MIN_SIDE, SegmentationModel
from napari_seg.models.objects import require_object_head
from napari_seg.models.spec import LARGEST_ZOOM, SMALLEST_ZOOM
from napari_seg.options import Options, option

__all__ = [
    "PredictOptions",
    "Prediction",
    "TileResult",
    "check_options",
    "make_runner",
    "plan",
    "predict",
    "stream",
]

#: Tiles of 0.4 s from which on another runtime is worth its preparation.
_LARGE = 50


@dataclass(frozen=True)
class PredictOptions(Options):
    """How a mask is computed; none of it is needed for a good one."""

    tile: int | None = option(
        None,
        "Tile",
        "Side of the square that is computed at once, without its surroundings. "
        "Automatic: as large as memory and a quick Cancel allow.",
        minimum=32,
        step=32,
        unit="px",
    )
    halo: int | None = option(
        None,
        "Halo",
        "Surroundings that each tile sees. Automatic, and at least: what this kind of "
        "model needs.",
        minimum=0,
        step=16,
        unit="px",
    )
    zoom: float = option(
        1.0,
        "Zoom",
        "In which size the model sees the image: 0.5 halves it, for objects twice as "
        "large as those that the model has learned.",
        minimum=SMALLEST_ZOOM,
        maximum=LARGEST_ZOOM,
        step=0.1,
        unit="×",
    )
    batch: int | None = option(
        None,
        "Batch",
        "Tiles computed at once. Automatic: one on a CPU; on a GPU as many as make it "
        "faster.",
        minimum=1,
        maximum=256,
    )
    precision: str = option(
        "auto",
        "Precision",
        "Numbers that the network computes with. Automatic: 16 bits where a GPU is "
        "faster with them, else 32.",
        choices=("auto", "float32", "bfloat16"),
    )
    crf: bool = option(
        False,
        "Sharpen edges (CRF)",
        "Move the borders of the mask to edges in the image with a conditional random "
        "field. Mends blurred and coarse masks; a sharp one gets worse. Slower.",
    )
    flips: bool = option(
        False,
        "Average mirror images",
        "Predict each tile and its mirror images, and take the mean: a little better, "
        "and four times as slow.",
    )
    confidence: bool = option(
        False,
        "Keep confidence",
        "Also keep how sure the model is of each pixel.",
    )
    runtime: str = option(
        "auto",
        "Runtime",
        "What computes on a CPU. OpenVINO is faster, once it has been prepared for a "
        "second or two. Automatic: OpenVINO where it is installed, for large images "
        "that nobody is watching.",
        choices=("auto", "torch", "openvino"),
    )
    crf_options: CRFOptions = field(default_factory=CRFOptions)


@dataclass(frozen=True)
class Prediction:
    """A whole mask.

    Attributes
    ----------
    labels : ndarray
        (..., Y, X) uint8 class ids, in the image's spatial shape.
    confidence : ndarray or None
        (..., Y, X) float32, the probability of the predicted class.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None


def predict(
    model: SegmentationModel,
    image: Any,
    axes: str | None = None,
    device: str | torch.device = "auto",
    tile: int | None = None,
    crf: bool | CRFOptions = False,
    confidence: bool = False,
    *,
    rgb: bool = False,
    channels: Sequence[int] | None = None,
    halo: int | None = None,
    zoom: float = 1.0,
    flips: bool = False,
    runtime: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Segment an image.

    A model of volumes (:attr:`~napari_seg.models.spec.ModelSpec.ndim` 3) sees Z, Y and
    X at once, in blocks: `tile` and `halo` are told in pixels of the plane, and are as
    long along Z, by the model's anisotropy. It goes without CRF, zoom and OpenVINO.

    Parameters
    ----------
    model : SegmentationModel
        Left as it is, in mode and place.
    image : array
        At least 32 × 32 pixels, of bool, integers or real numbers; NumPy, dask, zarr,
        or a list of levels, of which the first is taken.
    axes : str or None
        One letter for each axis, such as ``TZYX`` or ``YXC``; None guesses, by the
        rules of :func:`~napari_seg.inference.axes.read_axes`.
    device : str or torch.device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    tile, confidence, halo, zoom, flips, runtime
        See :class:`PredictOptions`.
    crf : bool or CRFOptions
        Whether to move the borders to edges of the image, or how.
    rgb : bool
        Whether the last axis is known to be RGB or RGBA.
    channels : sequence of int or None
        Which channels the model takes, from 0, in its order; None is all.
    on_progress : callable or None
        Called with the numbers of finished and of all tiles after each.

    Returns
    -------
    Prediction

    Raises
    ------
    ImageError, ChannelError
        If the image is none, or does not fit the model.
    InputError
        If an option is out of range.
    DeviceError
        If the device is missing, or its memory too small for the smallest tile.
    """
    image = as_array(image)
    options = PredictOptions(
        tile=tile,
        halo=halo,
        zoom=zoom,
        crf=bool(crf),
        flips=flips,
        confidence=confidence,
        runtime=runtime,
        crf_options=crf if isinstance(crf, CRFOptions) else CRFOptions(),
    )
    reading = read_axes(image.shape, image.dtype, model.spec, axes, rgb, channels)
    labels = np.zeros(reading.spatial_shape, np.uint8)
    sure = np.zeros(reading.spatial_shape, np.float32) if confidence else None
    for result in stream(
        model,
        image,
        axes=reading.axes,
        channels=reading.picked,
        device=device,
        options=options,
    ):
        labels[result.region] = result.labels
        if sure is not None:
            sure[result.region] = result.confidence
        if on_progress is not None:
            on_progress(result.done, result.total)
    return Prediction(labels, sure)


def stream(
    model: SegmentationModel,
    image: Any,
    *,
    axes: str | None = None,
    rgb: bool = False,
    channels: Sequence[int] | None = None,
    device: str | torch.device = "auto",
    options: PredictOptions | None = None,
    look: Look | None = None,
    within: Box | None = None,
    indices: Iterable[Sequence[int]] | None = None,
    ranges: NDArray[np.float64] | None = None,
    cancelled: Callable[[], bool] | None = None,
    objects: bool = False,
) -> Generator[TileResult, None, None]:
    """Segment an image and yield each tile as soon as it is finished.

    What cannot work is refused here and now, before the generator starts. It may be
    closed at any moment, and the model is never touched: what runs is a twin that
    shares its weights.

    The mask does not depend on where tiles were cut, up to the influence of what lies
    beyond the halo. Image pooling, as in ASPP, would see the whole plane: it gets a
    mean that is taken once from a sample of the plane, so that all tiles see the same.
    Group and instance normalisation go by the tile.

    Parameters
    ----------
    model, image, axes, rgb, channels, device
        As in :func:`predict`.
    options : PredictOptions or None
        Tile, halo, batch, precision, CRF, mirror images, confidence, runtime.
    look : callable or None
        Asked before each tile for the plane and the rows and columns that are on the
        screen now. They come first, from the middle of the screen outwards, then what
        is next to them.
    within : tuple of slice or None
        Rows and columns to which the work is limited.
    indices : iterable of sequence of int or None
        Planes in the order in which to go through them without a look; None is all. A
        model of volumes gives all slices from the first to the last of these.
    ranges : ndarray or None
        (C, 2) of :func:`~napari_seg.inference.normalization.channel_ranges` where they
        are known already; None reads them off the image.
    cancelled : callable or None
        Asked before each layer of the network; once it returns True, the generator
        ends without finishing the tile.
    objects : bool
        Whether the model's object head computes, too.

    Yields
    ------
    TileResult

    Raises
    ------
    ImageError, ChannelError, InputError, DeviceError
        As :func:`predict`.
    """
    image = as_array(image)
    reading = read_axes(image.shape, image.dtype, model.spec, axes, rgb, channels)
    chosen = pick_device(device)
    options = options or PredictOptions()
    check_options(model, chosen, options, objects=objects)

    def results() -> Generator[TileResult, None, None]:
        runner = make_runner(model, chosen, options, cancelled, objects=objects)
        try:
            decide = plan if model.spec.ndim == 2 else plan_volume
            job = decide(
                runner,
                image,
                reading,
                options,
                look=look,
                within=within,
                indices=indices,
                ranges=ranges,
            )
            yield from job.results(runner)
        except Cancelled:
            return
        finally:
            runner.release()

    return results()


def check_options(
    model: SegmentationModel,
    device: torch.device,
    options: PredictOptions,
    *,
    objects: bool = False,
) -> None:
    """Refuse what cannot work, before anything is computed.

    Raises
    ------
    InputError
        If so.
    """
    if model.spec.ndim == 3:
        check_volume_options(options)
    if options.runtime == "openvino":
        check_usable(model, device)
    if objects:
        require_object_head(model)
        if options.flips:
            raise InputError(
                "The mean over mirror images is not on offer for objects: what tells "
                "them apart has a direction. Switch one of both off."
            )
    _Grid.of(model, options)


def make_runner(
    model: SegmentationModel,
    device: torch.device,
    options: PredictOptions,
    cancelled: Callable[[], bool] | None = None,
    *,
    objects: bool = False,
) -> TileRunner:
    """Return what computes tiles with these options; `model` is left as it is."""
    zoom = Zoom.near(options.zoom)
    return TileRunner(
        model,
        device,
        cancelled,
        flips=options.flips,
        zoom=zoom,
        precision=options.precision,
        objects=objects,
    )


def plan(
    runner: TileRunner,
    image: Any,
    reading: AxesReading,
    options: PredictOptions,
    *,
    look: Look | None = None,
    within: Box | None = None,
    indices: Iterable[Sequence[int]] | None = None,
    ranges: NDArray[np.float64] | None = None,
    tile: tuple[int, int] | None = None,
    cores: int | None = None,
) -> Job:
    """Decide on tiles, intensities and runtime; :meth:`Job.results` does the rest.

    Parameters
    ----------
    runner : TileRunner
        What will compute the tiles.
    image : array
        One that can be indexed.
    reading : AxesReading
        Meaning of its axes.
    options : PredictOptions
        Tile, halo, CRF, confidence, runtime.
    look, within, indices, ranges
        As in :func:`stream`.
    tile : tuple of int or None
        Height and width of a tile's core in pixels, instead of the one in `options`.
    cores : int or None
        Cores of the machine for which tiles are sized; None is those that compute here.
    """
    grid = _Grid.of(runner.model, options)
    work = clip_box(within, reading.plane_shape)
    side = tile or options.tile or _automatic_tile(runner, work, grid, cores)
    tiles = plan_tiles(
        reading.plane_shape, side, grid.halo, grid.stride, work, grid.least
    )
    planes = reading.indices() if indices is None else indices
    places = tuple(tuple(map(int, index)) for index in planes)
    area = len(places) * sum(map(read_area, tiles))
    if ranges is None:
        ranges = channel_ranges(image, reading, runner.model.spec.normalization)
    # OpenVINO computes with 32 bits.
    undecided = options.runtime == "auto" and options.precision != "bfloat16"
    return Job(
        pixels=ImagePixels(image, reading),
        reading=reading,
        ranges=ranges,
        indices=places,
        tiles=tuple(tiles),
        halo=grid.halo,
        stride=grid.stride,
        least=grid.least,
        crf=options.crf_options if options.crf else None,
        confidence=options.confidence,
        batch=options.batch,
        openvino=options.runtime == "openvino"
        or (undecided and look is None and _is_large(runner, area, cores)),
        look=look,
        clip=runner.model.spec.normalization.clip,
    )


class _Grid(NamedTuple):
    """How tiles lie, in pixels of the image."""

    zoom: Zoom
    halo: int
    stride: int
    least: int

    @classmethod
    def of(cls, model: SegmentationModel, options: PredictOptions) -> _Grid:
        zoom = Zoom.near(options.zoom)
        stride = zoom.stride(model.stride)
        halo = max(zoom.in_image(model.halo), options.halo or 0)
        if options.crf:
            halo += options.crf_options.halo
        return cls(zoom, -(-halo // stride) * stride, stride, zoom.in_image(MIN_SIDE))


def _is_large(runner: TileRunner, area: int, cores: int | None) -> bool:
    """Return whether tiles of this area in all are worth preparing OpenVINO for."""
    if not (is_installed() and can_compute(runner.model, runner.device)):
        return False
    return area > _LARGE * runner.cost.budget(runner.device, cores)


def _automatic_tile(
    runner: TileRunner, box: Box, grid: _Grid, cores: int | None
) -> tuple[int, int]:
    budget = runner.cost.budget(runner.device, cores)
    limit = runner.cost.limit(runner.device)
    height, width = (max(1, span.stop - span.start) for span in box)
    return choose_tile(
        (height, width), grid.halo, grid.stride, budget, limit, grid.least
    )
