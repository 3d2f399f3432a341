"""Blocks of volumes: exact, lean, and handed out as slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import napari_seg
from napari_seg.errors import DeviceError, InputError
from napari_seg.inference.axes import read_axes
from napari_seg.inference.halo import exact_halo
from napari_seg.inference.normalization import channel_ranges, normalize
from napari_seg.inference.predict import PredictOptions, predict, stream
from napari_seg.inference.runner import TileRunner
from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model

CLASSES = ("background", "membrane", "nucleus")


def make(anisotropy: float = 2.0, **changes: object) -> SegmentationModel:
    """Return a network whose statistics are not those that it was made with."""
    torch.manual_seed(0)
    options = {"classes": CLASSES, "width": 4, "depth": 2, "anisotropy": anisotropy}
    model = create_model("unet3d", **(options | changes)).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(1, model.spec.in_channels, 8, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return make()


def volume(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def test_one_block_is_the_networks_own_answer(model):
    image = volume(9, 50, 70)
    reading = read_axes(image.shape, image.dtype, model.spec, "ZYX")
    ranges = channel_ranges(image, reading, model.spec.normalization)
    x = torch.from_numpy(normalize(image[None], ranges))[None]
    with torch.no_grad():
        probabilities = model(x)[0].softmax(0)
    found = predict(model, image, axes="ZYX", confidence=True, device="cpu")
    assert found.labels.shape == found.confidence.shape == image.shape
    assert (found.labels == probabilities.argmax(0).numpy()).all()
    np.testing.assert_allclose(found.confidence, probabilities.amax(0), atol=1e-5)


@pytest.mark.parametrize(
    ("anisotropy", "tiles"),
    [(1.0, [32]), (2.0, [32, 64]), (2.5, [32]), (8.0, [32])],
)
def test_blocks_of_any_size_with_the_exact_halo_are_the_whole(anisotropy, tiles):
    model, image = make(anisotropy), volume(13, 36, 68)
    halo = exact_halo(model)
    whole = predict(model, image, axes="ZYX", tile=512, confidence=True, device="cpu")
    for tile in tiles:
        seen: list[int] = []
        parts = predict(
            model,
            image,
            axes="ZYX",
            tile=tile,
            halo=halo,
            confidence=True,
            device="cpu",
            on_progress=lambda done, total, seen=seen: seen.append(total - done),
        )
        assert seen == sorted(seen, reverse=True)
        assert len(seen) > image.shape[0]
        assert seen[-1] == 0
        assert (parts.labels == whole.labels).all()
        np.testing.assert_allclose(parts.confidence, whole.confidence, atol=1e-4)


def test_the_halo_is_needed(model):
    """Or the test above would tell nothing."""
    image = volume(21, 48, 48)
    network = TileRunner(model, torch.device("cpu"))
    x = normalize(image[None], np.array([[0.0, 4000.0]]))
    with torch.inference_mode():
        whole = network([x])[0, :, :8]
        cut = network([np.ascontiguousarray(x[:, :8])])[0]
    assert (whole - cut).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("axes", "shape", "mask"),
    [
        ("TZYX", (2, 5, 32, 40), (2, 5, 32, 40)),
        ("ZTYX", (5, 2, 32, 40), (5, 2, 32, 40)),
        ("ZCYX", (5, 2, 32, 40), (5, 32, 40)),
        ("CZYX", (2, 5, 32, 40), (5, 32, 40)),
        ("ZYXC", (5, 32, 40, 2), (5, 32, 40)),
        ("XYZ", (40, 32, 5), (5, 32, 40)),
        ("YX", (32, 40), (32, 40)),
    ],
)
def test_axes_are_read_as_for_planes(axes, shape, mask):
    model = make(in_channels=2 if "C" in axes else 1)
    image = volume(*shape)
    found = predict(model, image, axes=axes, device="cpu")
    assert found.labels.shape == mask
    # The same voxels in the order of the network, one volume at a time.
    wanted = [a for a in "TCZYX" if a in axes]
    ordered = image.transpose([axes.index(a) for a in wanted])
    reading = read_axes(image.shape, image.dtype, model.spec, axes)
    ranges = channel_ranges(image, reading, model.spec.normalization)
    first = ordered[0] if "T" in axes else ordered
    first = first.reshape(model.spec.in_channels, -1, 32, 40)
    with torch.no_grad():
        truth = model(torch.from_numpy(normalize(first, ranges))[None])[0].argmax(0)
    labels = found.labels
    if "T" in axes:
        labels = labels.take(0, axis=axes.index("T"))
    assert (labels.reshape(truth.shape) == truth.numpy()).all()


class Counting:
    """A lazy array that remembers the largest box that was asked for."""

    def __init__(self, data: np.ndarray) -> None:
        self._data, self.largest = data, 0
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, key):
        part = self._data[key]
        self.largest = max(self.largest, part.size)
        return part


def test_of_a_lazy_volume_no_more_is_read_than_a_block():
    model, image = make(depth=1), volume(40, 48, 64)
    lazy = Counting(image)
    given = {
        "axes": "ZYX",
        "device": "cpu",
        "options": PredictOptions(tile=32),
        "ranges": np.array([[0.0, 4000.0]]),
    }
    tiles = list(stream(model, lazy, **given))
    cores = zip((16, 32, 32), model.halos, strict=True)
    z, y, x = (core + 2 * halo for core, halo in cores)
    assert lazy.largest <= z * y * x < image.size / 2
    assert tiles[-1].done == tiles[-1].total == len(tiles)
    mask = np.full(image.shape, 9, np.uint8)
    for tile in tiles:
        mask[tile.region] = tile.labels
    assert mask.max() < 3
    for tile in stream(model, image, **given):
        assert (mask[tile.region] == tile.labels).all()


def test_what_is_on_the_screen_comes_first_and_alone_if_wanted(model):
    image = volume(2, 12, 64, 64)
    box = (slice(32, 64), slice(32, 64))
    options = PredictOptions(tile=32)
    first = next(
        stream(
            model,
            image,
            axes="TZYX",
            options=options,
            device="cpu",
            look=lambda: ((1, 9), box),
        )
    )
    assert (first.index[0], first.box) == (1, box)
    only = list(
        stream(model, image, axes="TZYX", device="cpu", within=box, indices=[(1, 9)])
    )
    assert [(tile.index, tile.box) for tile in only] == [((1, 9), box)]
    whole = predict(model, image, axes="TZYX", halo=64, device="cpu")
    near = list(
        stream(
            model,
            image,
            axes="TZYX",
            device="cpu",
            within=box,
            indices=[(1, 9)],
            options=PredictOptions(halo=64),
        )
    )
    assert (near[0].labels == whole.labels[1, 9][box]).all()


def test_it_can_be_cancelled_within_a_block(model):
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    image = volume(8, 64, 64)
    results = stream(model, image, axes="ZYX", device="cpu", cancelled=cancelled)
    assert list(results) == []


def test_where_memory_runs_out_blocks_are_halved(model, monkeypatch):
    image = volume(16, 64, 64)
    whole = predict(model, image, axes="ZYX", halo=64, device="cpu").labels
    compute = TileRunner.__call__

    def short(runner, planes, contexts=()):
        if planes[0].size > 16 * 64 * 48:
            raise RuntimeError("can't allocate memory")
        return compute(runner, planes, contexts)

    monkeypatch.setattr(TileRunner, "__call__", short)
    with pytest.warns(RuntimeWarning, match="going on with two"):
        parts = predict(model, image, axes="ZYX", device="cpu")
    assert (parts.labels != whole).mean() < 0.02

    def never(runner, planes, contexts=()):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(TileRunner, "__call__", never)
    with (
        pytest.warns(RuntimeWarning, match="going on with two"),
        pytest.raises(DeviceError, match="too small for a tile"),
    ):
        predict(model, image, axes="ZYX", device="cpu")


def test_mirror_images_are_averaged(model):
    image = volume(6, 40, 48)
    found = predict(model, image, axes="ZYX", flips=True, device="cpu").labels
    turned = predict(model, image[..., ::-1], axes="ZYX", flips=True, device="cpu")
    assert (found == turned.labels[..., ::-1]).mean() > 0.99


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"crf": True}, "CRF"),
        ({"zoom": 0.5}, "zoom"),
        ({"runtime": "openvino"}, "VINO"),
    ],
)
def test_what_only_planes_have_is_refused(model, options, what):
    with pytest.raises(InputError, match=rf"without.*{what}.*model that sees planes"):
        predict(model, volume(4, 32, 32), axes="ZYX", **options)


def test_halo_is_none_where_statistics_span_the_volume():
    assert exact_halo(make(norm="instance")) is None


def test_precision_and_channels_of_rgb():
    model = make(in_channels=3, gray_as_rgb=True)
    gray = volume(4, 32, 32)
    alike = napari_seg.predict(model, gray, axes="ZYX", device="cpu").labels
    rgb = np.repeat(gray[..., None], 3, -1)
    assert (napari_seg.predict(model, rgb, axes="ZYXC").labels == alike).all()
