from __future__ import annotations

import copy
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_seg.errors import ChannelError, DeviceError, ImageError, InputError
from napari_seg.inference import predict as predict_module
from napari_seg.inference import runner
from napari_seg.inference.axes import read_axes
from napari_seg.inference.batching import BatchTrial
from napari_seg.inference.crf import CRFOptions
from napari_seg.inference.halo import exact_halo
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.inference.predict import (
    Prediction,
    PredictOptions,
    TileResult,
    predict,
    stream,
)
from napari_seg.inference.runner import TileRunner
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "unet": {"width": 8},
    "fcn8s": {"width": 16},
    "fcn": {"encoder": "resnet18"},
    "deeplabv3plus": {"encoder": "resnet18"},
}


@cache
def model_of(arch: str, in_channels: int = 1, gray_as_rgb: bool = False) -> Any:
    torch.manual_seed(1)
    options = ARCHITECTURES[arch]
    model = create_model(
        arch, in_channels, ("a", "b", "c"), gray_as_rgb=gray_as_rgb, **options
    ).eval()
    return model


@pytest.fixture
def unet() -> SegmentationModel:
    """Return a model of one's own, to tamper with."""
    torch.manual_seed(1)
    return create_model("unet", width=4, depth=2)


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = np.sin(y / 9) * np.cos(x / 13) + 0.5 * np.sin((x + y) / 31)
    return (waves * 800 + 2000).astype(np.uint16)


def agreement(one: Any, other: Any) -> tuple[float, float]:
    """Return the largest difference in confidence and the share of other classes."""
    difference = np.abs(one.confidence - other.confidence).max()
    return float(difference), float((one.labels != other.labels).mean())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_tile_is_the_networks_own_answer(arch: str) -> None:
    model, image = model_of(arch), smooth_image(96, 128)
    reading = read_axes(image.shape, image.dtype, model.spec)
    ranges = channel_ranges(image, reading, model.spec.normalization)
    with torch.inference_mode():
        x = torch.from_numpy(normalize(image[np.newaxis], ranges))[np.newaxis]
        expected = model(x)[0].softmax(0).amax(0).numpy()
        labels = model(x)[0].argmax(0).numpy()

    result = predict(model, image, device="cpu", tile=512, confidence=True)

    np.testing.assert_allclose(result.confidence, expected, atol=1e-4)
    assert (result.labels != labels).mean() < 1e-3
    assert result.labels.dtype == np.uint8
    assert result.confidence is not None
    assert result.confidence.dtype == np.float32


@pytest.mark.parametrize(
    ("arch", "tile"),
    [("unet", 64), ("unet", 100), ("unet", 257), ("fcn", 128), ("fcn8s", 128)],
)
def test_tiles_with_the_exact_halo_equal_the_whole(
    arch: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Narrow, but longer than a tile with its halo.
    model, image = model_of(arch), smooth_image(45, 669)
    halo = exact_halo(model)
    whole = predict(model, image, device="cpu", tile=1024, confidence=True)

    tiled = predict(model, image, device="cpu", tile=tile, halo=halo, confidence=True)

    difference, changed = agreement(tiled, whole)
    assert difference <= 1e-4
    assert changed <= 1e-4
    # The test has teeth: without any halo, the seams show.
    monkeypatch.setattr(model, "halo", 0)
    seams = predict(model, image, device="cpu", tile=tile, confidence=True)
    assert agreement(seams, whole)[0] > 1e-3


def test_the_mean_of_mirror_images_mirrors_with_the_image() -> None:
    model, image = model_of("unet"), smooth_image(96, 128)

    def predicted(pixels: NDArray[np.generic], **how: Any) -> Prediction:
        return predict(model, pixels, device="cpu", confidence=True, **how)

    mean = predicted(image, flips=True)
    for mirror in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]):
        other = predicted(image[mirror], flips=True)
        np.testing.assert_allclose(other.confidence[mirror], mean.confidence, atol=1e-5)
        assert (other.labels[mirror] != mean.labels).mean() < 1e-3
    # The test has teeth: one pass alone does not.
    one, other = predicted(image), predicted(image[::-1])
    assert np.abs(other.confidence[::-1] - one.confidence).max() > 1e-3
    assert np.abs(one.confidence - mean.confidence).max() > 1e-3


def test_tiles_of_mirror_images_equal_the_whole() -> None:
    """Also where the last ones are no multiple of the stride."""
    model, image = model_of("unet"), smooth_image(45, 669)
    how = {"device": "cpu", "confidence": True, "flips": True}
    whole = predict(model, image, tile=1024, **how)
    tiled = predict(model, image, tile=64, halo=exact_halo(model), **how)
    difference, changed = agreement(tiled, whole)
    assert difference <= 1e-4
    assert changed <= 1e-4


class NoPooling(nn.Module):
    """Stands in for ASPP's image pooling, which alone sees the whole tile."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 256, *x.shape[-2:])


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("deeplabv3", {"output_stride": 16}),
        ("deeplabv3plus", {"output_stride": 8, "separable": True}),
    ],
)
def test_tiles_of_atrous_networks_fall_on_the_grid_of_their_stride(
    arch: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    model = create_model(arch, encoder="resnet18", **options).eval()
    aspp = model.aspp if arch == "deeplabv3plus" else model.classifier[0]
    aspp.convs[-1], model.global_context = NoPooling(), False
    image = smooth_image(32, 1900)
    halo = exact_halo(model)
    assert halo is not None
    assert 200 < 2 * halo < 1600
    whole = predict(model, image, device="cpu", tile=2048, confidence=True)

    tiled = predict(model, image, device="cpu", tile=250, halo=halo, confidence=True)

    difference, changed = agreement(tiled, whole)
    assert difference <= 1e-4
    assert changed <= 1e-4


@pytest.mark.parametrize("arch", ["deeplabv3", "deeplabv3plus"])
def test_tiles_share_what_pooling_sees_of_the_plane(arch: str) -> None:
    """Left is bright and right is dark: the tiles alone would see two worlds."""
    torch.manual_seed(1)
    model = create_model(arch, encoder="resnet18", output_stride=16).eval()
    alone = copy.deepcopy(model)
    aspp = alone.aspp if arch == "deeplabv3plus" else alone.classifier[0]
    aspp.convs[-1], alone.global_context = NoPooling(), False
    halo = exact_halo(alone)
    assert halo is not None
    image = smooth_image(32, 2400) + np.linspace(0, 3, 2400, dtype=np.float32)

    def found(tile: int) -> Prediction:
        return predict(
            model, image, device="cpu", tile=tile, halo=halo, confidence=True
        )

    small = found(300)
    difference, changed = agreement(small, found(800))
    assert difference <= 1e-4
    assert changed <= 1e-4
    # A part of the plane is as in the whole.
    options = PredictOptions(tile=300, halo=halo, confidence=True)
    view = slice(0, 32), slice(1200, 1400)
    for tile in stream(model, image, device="cpu", options=options, within=view):
        part = small.confidence[tile.region]
        np.testing.assert_allclose(tile.confidence, part, atol=1e-4)
    # What is shared stays with the twin.
    assert all(getattr(m, "mean", None) is None for m in model.modules())


def test_tiles_with_the_default_halo_hardly_differ_from_the_whole() -> None:
    # The effective receptive field is one of trained weights: with random ones, every
    # pixel stands on the brink between two classes.
    torch.manual_seed(0)
    model = create_model("unet", width=8)
    image = smooth_image(384, 512)
    reading = read_axes(image.shape, image.dtype, model.spec)
    ranges = channel_ranges(image, reading, model.spec.normalization)
    x = torch.from_numpy(normalize(image[np.newaxis], ranges))[np.newaxis]
    train_to_threshold(model, x, steps=40)
    whole = predict(model, image, device="cpu", tile=512, confidence=True)

    tiled = predict(model, image, device="cpu", tile=128, confidence=True)

    difference, changed = agreement(tiled, whole)
    assert difference > 0
    assert changed <= 1e-4


def train_to_threshold(model: SegmentationModel, x: Tensor, steps: int) -> None:
    """Teach a model that bright pixels are foreground."""
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for corner in torch.randint(0, 256, (steps, 2)).tolist():
        top, left = corner
        crop = x[..., top : top + 128, left : left + 128]
        noisy = crop + 0.1 * torch.randn_like(crop)
        loss = nn.functional.cross_entropy(model(noisy), (crop[:, 0] > 0.5).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", ">u2", "i4", ">i8", "f2", "f4", ">f8"]
)
def test_any_dtype(unet: SegmentationModel, dtype: str) -> None:
    image = (smooth_image(50, 70) / 30).astype(dtype)

    result = predict(unet, image, device="cpu", confidence=True)

    assert result.labels.shape == (50, 70)
    assert np.isfinite(result.confidence).all()
    strided = np.repeat(image, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(predict(unet, strided).labels, result.labels)


def test_nan_and_inf_stay_where_they_are(unet: SegmentationModel) -> None:
    image = smooth_image(200, 200).astype(float)
    clean = predict(unet, image, device="cpu", confidence=True)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, np.inf, -np.inf

    result = predict(unet, image, device="cpu", confidence=True)

    assert np.isfinite(result.confidence).all()
    assert (result.labels != clean.labels).mean() < 0.01


@pytest.mark.parametrize("shape", [(32, 32), (33, 32), (32, 333), (47, 61)])
def test_any_size(unet: SegmentationModel, shape: tuple[int, int]) -> None:
    image = smooth_image(*shape)
    whole = predict(unet, image, device="cpu", tile=512).labels
    np.testing.assert_array_equal(predict(unet, image, tile=32, halo=64).labels, whole)


def test_stacks_go_plane_by_plane(unet: SegmentationModel) -> None:
    image = smooth_image(6 * 40, 50).reshape(2, 3, 40, 50)
    progress: list[tuple[int, int]] = []

    result = predict(
        unet, image, device="cpu", on_progress=lambda *step: progress.append(step)
    )

    assert result.labels.shape == image.shape
    assert progress == [(i + 1, 6) for i in range(6)]
    reading = read_axes(image.shape, image.dtype, unet.spec)
    ranges = channel_ranges(image, reading, unet.spec.normalization)
    # One range for the whole image: a plane of its own would get another.
    (plane,) = stream(unet, image[1, 2], device="cpu", ranges=ranges)
    np.testing.assert_array_equal(plane.labels, result.labels[1, 2])


def test_gray_rgb_and_rgba_for_a_model_that_takes_both() -> None:
    model = model_of("unet", 3, True)
    gray = (smooth_image(64, 80) / 16).astype(np.uint8)
    rgb = np.stack([gray] * 3, axis=-1)
    rgba = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)

    results = [
        predict(model, image, device="cpu").labels for image in (gray, rgb, rgba)
    ]

    assert len(np.unique(results[0])) > 1
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("kind", ["dask", "zarr", "levels"])
def test_lazy_and_multiscale_images(unet: SegmentationModel, kind: str) -> None:
    image = smooth_image(3 * 100, 150).reshape(3, 100, 150)
    expected = predict(unet, image, device="cpu", tile=64).labels
    lazy: Any = {
        "dask": lambda: da.from_array(image, chunks=(1, 64, 64)),
        "zarr": lambda: zarr.array(image, chunks=(1, 64, 64)),
        "levels": lambda: [image, image[:, ::2, ::2]],
    }[kind]()

    result = predict(unet, lazy, device="cpu", tile=64)

    np.testing.assert_array_equal(result.labels, expected)


def test_the_view_comes_first_and_the_work_can_be_limited(
    unet: SegmentationModel,
) -> None:
    image = smooth_image(2 * 256, 256).reshape(2, 256, 256)
    view = (slice(130, 180), slice(120, 190))
    options = PredictOptions(tile=64, halo=64)
    expected = predict(unet, image, device="cpu", tile=64, halo=64).labels

    ordered = list(
        stream(
            unet,
            image,
            device="cpu",
            options=options,
            look=lambda: ((1,), view),
            indices=[(1,)],
        )
    )
    limited = list(
        stream(unet, image, device="cpu", options=options, within=view, indices=[(1,)])
    )

    assert ordered[0].box == (slice(128, 192), slice(128, 192))
    assert {result.index for result in ordered} == {(1,)}
    assert (ordered[-1].done, ordered[-1].total) == (16, 16)
    mask = put_together(limited, image.shape)
    np.testing.assert_array_equal(mask[1][view], expected[1][view])
    assert (mask != 9).sum() == 50 * 70


def test_a_closed_stream_leaves_nothing_behind(unet: SegmentationModel) -> None:
    image = smooth_image(128, 128)
    alive = weakref.ref(image)
    unet.train()
    results = stream(unet, image, device="cpu", options=PredictOptions(tile=32))

    next(results)
    assert unet.training
    results.close()
    del image, results
    gc.collect()

    assert unet.training
    assert all(p.requires_grad for p in unet.parameters())
    assert not any(module._forward_pre_hooks for module in unet.modules())
    assert alive() is None


def test_cancelled_within_a_tile(unet: SegmentationModel) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    results = stream(
        unet,
        smooth_image(128, 128),
        device="cpu",
        options=PredictOptions(tile=64),
        cancelled=cancelled,
    )

    # The first tile passes through 25 layers, the second is stopped at its sixth.
    assert len(list(results)) < 4
    assert asked == 31


def out_of_memory_above(pixels: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """Return a hook that fails as a device does whose memory is too small."""

    def fail(_: nn.Module, inputs: tuple[Tensor]) -> None:
        # The pass that tells what the network takes is the smallest one.
        size = inputs[0][0, 0].numel()
        if size > pixels and size != 64 * 64:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    return fail


def test_tiles_are_halved_where_memory_runs_out(unet: SegmentationModel) -> None:
    image = smooth_image(512, 512)
    expected = predict(unet, image, device="cpu", tile=256, halo=64).labels
    unet.register_forward_pre_hook(out_of_memory_above(82_000))
    options = PredictOptions(tile=256, halo=64)

    with pytest.warns(RuntimeWarning, match="going on with halves") as caught:
        results = list(stream(unet, image, device="cpu", options=options))

    np.testing.assert_array_equal(put_together(results, image.shape), expected)
    assert results[-1].done == results[-1].total > 4
    assert len(caught) == 1, "what was learned holds for the tiles that follow"


def put_together(
    results: Iterable[TileResult], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return the mask of tiles, none of which may be computed twice."""
    mask = np.full(shape, 9, np.uint8)
    for result in results:
        assert (mask[result.region] == 9).all(), "a finished tile was done again"
        mask[result.region] = result.labels
    return mask


def test_batches_are_halved_before_tiles_are(
    unet: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.stack([smooth_image(64, 64 + i)[:, :64] for i in range(11)])
    expected = predict(unet, image, device="cpu", tile=64).labels
    monkeypatch.setattr(BatchTrial, "size", 8, raising=False)
    monkeypatch.setattr(BatchTrial, "__init__", lambda *_: None)
    monkeypatch.setattr(BatchTrial, "took", lambda *_: None)
    sizes = []

    def fail(_: nn.Module, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    unet.register_forward_pre_hook(fail)
    options = PredictOptions(tile=64)

    with pytest.warns(RuntimeWarning, match="tiles at once") as caught:
        results = list(stream(unet, image, device="cpu", options=options))

    np.testing.assert_array_equal(put_together(results, image.shape), expected)
    assert max(sizes[len(caught) + 1 :]) == 2
    assert 1 <= len(caught) <= 2


@pytest.mark.parametrize("planes", [1, 2])
def test_a_lazy_image_is_read_ahead(unet: SegmentationModel, planes: int) -> None:
    image = np.stack([smooth_image(96, 96)] * planes)
    events, main = [], threading.get_ident()

    def note(block: NDArray[Any]) -> NDArray[Any]:
        events.append(("read", threading.get_ident() != main))
        return block

    unet.register_forward_pre_hook(lambda *_: events.append(("compute", True)))
    lazy = da.from_array(image, chunks=(1, 96, 96)).map_blocks(
        note, dtype=image.dtype, meta=image[:0]
    )
    ranges = np.array([[0.0, 1.0]])
    options = PredictOptions(tile=96)
    threads = threading.active_count()
    list(stream(unet, lazy, device="cpu", options=options, ranges=ranges))

    assert [kind for kind, _ in events].count("read") == planes
    assert all(beside for _, beside in events)
    # Also where the image cannot be read nothing is left behind.
    broken = lazy.map_blocks(_broken, dtype=image.dtype, meta=image[:0])
    with pytest.raises(OSError, match="gone"):
        list(stream(unet, broken, device="cpu", options=options, ranges=ranges))
    wait_for = time.monotonic() + 5
    while threading.active_count() > threads + 8 and time.monotonic() < wait_for:
        time.sleep(0.01)
    names = [thread.name for thread in threading.enumerate()]
    assert not any("napari-seg reader" in name for name in names)


def _broken(_: NDArray[Any]) -> NDArray[Any]:
    raise OSError("the share is gone")


def test_more_tiles_at_once_while_that_pays() -> None:
    trial = BatchTrial(torch.device("cuda"))
    for size, each in ((1, 1.0), (2, 0.6), (4, 0.4)):
        assert trial.size == size
        # The last tiles of a plane, being fewer, do not count.
        trial.took(9.0, size - 1)
        trial.took(each * size, size)
    trial.took(0.39 * 8, 8)
    assert trial.size == 4
    trial.took(0.1, 4)
    assert trial.size == 4
    alone = BatchTrial(torch.device("cpu"))
    alone.took(1.0, 1)
    assert alone.size == 1


def test_the_cpu_takes_over_where_a_gpu_is_too_small(
    unet: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No GPU is needed: a second name of the CPU stands for one that fails twice.
    image = smooth_image(160, 160)
    expected = predict(unet, image, device="cpu", tile=32).labels
    monkeypatch.setattr(predict_module, "pick_device", lambda _: torch.device("cpu:0"))
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    unet.register_forward_pre_hook(fail)

    with pytest.warns(RuntimeWarning, match="using the CPU"):
        result = predict(unet, image, tile=32)

    np.testing.assert_array_equal(result.labels, expected)


def test_a_machine_that_is_too_small_says_so(unet: SegmentationModel) -> None:
    unet.register_forward_pre_hook(out_of_memory_above(0))
    with (
        pytest.warns(RuntimeWarning, match="halves"),
        pytest.raises(DeviceError, match="close other programs"),
    ):
        predict(unet, smooth_image(512, 512), device="cpu", tile=256)


def test_other_errors_of_the_network_are_not_mistaken(unet: SegmentationModel) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="mat1"):
        predict(unet, smooth_image(64, 64), device="cpu", tile=64)


def test_float16_gives_way_where_its_range_ends(
    unet: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "mixed_precision", lambda _: torch.float16)
    plane = np.random.default_rng(0).random((1, 64, 64), np.float32)
    with torch.inference_mode():
        unet.head.weight *= 1e7
        expected = unet.eval()(torch.from_numpy(plane)[np.newaxis])[0]
        logits = TileRunner(unet, torch.device("cpu"))([plane])[0]

    assert float(expected.abs().max()) > 65504
    rounding = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0, atol=rounding)


@pytest.mark.parametrize("crf", [True, CRFOptions(radius=9, appearance_weight=8)])
def test_the_crf_joins_without_seams(crf: bool | CRFOptions) -> None:
    model, image = model_of("unet"), smooth_image(100, 160)
    plain = predict(model, image, device="cpu", halo=96)

    whole, tiled = (
        predict(
            model, image, device="cpu", tile=tile, halo=96, crf=crf, confidence=True
        )
        for tile in (256, 64)
    )

    difference, changed = agreement(whole, tiled)
    assert difference <= 1e-3
    assert changed <= 1e-3
    assert (whole.labels != plain.labels).any()


def test_the_crf_goes_by_its_options() -> None:
    model, image = model_of("unet"), smooth_image(64, 80)
    without = predict(model, image, device="cpu", confidence=True)
    idle = CRFOptions(appearance_weight=0, smoothness_weight=0)
    strong = CRFOptions(appearance_weight=50)

    idle_one, usual, strong_one = (
        predict(model, image, device="cpu", crf=crf, confidence=True)
        for crf in (idle, True, strong)
    )

    assert agreement(idle_one, without) < (1e-5, 1e-3)
    assert agreement(strong_one, usual)[0] > 0.01


@pytest.mark.parametrize(
    ("image", "options", "error"),
    [
        (np.zeros((0, 40)), {}, ImageError),
        (np.zeros(512), {}, ImageError),
        (np.zeros((64, 64), complex), {}, ImageError),
        (np.zeros((64, 64, 3), np.uint8), {}, ChannelError),
        (np.zeros((64, 64)), {"axes": "ZYX"}, ImageError),
        (np.zeros((64, 64)), {"device": "abacus"}, DeviceError),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(
    unet: SegmentationModel, image: np.ndarray, options: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        stream(unet, image, **options)


def test_options_out_of_range() -> None:
    with pytest.raises(InputError, match="tile is 8; it can be from 32 px"):
        PredictOptions(tile=8)
    with pytest.raises(InputError, match="halo is -1"):
        PredictOptions(halo=-1)


def test_wide_networks_get_smaller_tiles() -> None:
    cpu = torch.device("cpu")
    small, large = (
        TileRunner(create_model("unet", width=width), cpu).cost for width in (8, 32)
    )

    assert large.macs == pytest.approx(16 * small.macs, rel=0.1)
    assert large.budget(cpu) < small.budget(cpu)
    assert large.limit(cpu) == pytest.approx(small.limit(cpu) / 4)


def test_batches_and_precision_on_request(unet: SegmentationModel) -> None:
    image = smooth_image(200, 300)
    shapes: list[torch.Size] = []
    dtypes: set[torch.dtype] = set()

    def watch(_: nn.Module, inputs: tuple[Tensor]) -> None:
        shapes.append(inputs[0].shape)

    def listen(_: nn.Module, __: Any, output: Tensor) -> None:
        dtypes.add(output.dtype)

    expected = predict(unet, image, device="cpu", tile=64).labels
    unet.register_forward_pre_hook(watch)
    next(m for m in unet.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        listen
    )
    options = PredictOptions(tile=64, batch=4, precision="bfloat16")
    labels = np.zeros_like(expected)
    for tile in stream(unet, image, device="cpu", options=options):
        labels[tile.region] = tile.labels
    assert max(shape[0] for shape in shapes) > 1
    assert torch.bfloat16 in dtypes
    assert np.mean(labels != expected) < 0.05
