"""Layers as images, views as boxes, masks where their images are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import napari
import numpy as np
import pytest
from napari.layers import Image

from napari_seg._qt.viewer_link import ViewerLink, find_view, mask_transform
from napari_seg.inference.axes import AxesReading, read_axes
from napari_seg.models.spec import ModelSpec
from tests._qt import hands
from tests._qt.person import Person


def _reading(layer: Image, channels: int = 1) -> AxesReading:
    spec = ModelSpec(
        arch="unet", encoder=None, classes=("a", "b"), in_channels=channels
    )
    data = layer.data[0] if layer.multiscale else layer.data
    return read_axes(data.shape, data.dtype, spec, None, bool(layer.rgb))


@pytest.fixture
def link(viewer: napari.Viewer) -> Iterator[ViewerLink]:
    link = ViewerLink(viewer)
    yield link
    link.disconnect_all()


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


# Transforms -------------------------------------------------------------------


def _settings(ndim: int) -> dict[str, Any]:
    affine = np.eye(ndim + 1)
    affine[-3:-1, -1] = 2, 5
    affine[-2, -3] = 0.1
    return {
        "scale": [2 + i for i in range(ndim)],
        "translate": [10 * i for i in range(ndim)],
        "affine": affine,
        "units": ("s",) * (ndim - 2) + ("um", "um"),
    }


@pytest.mark.parametrize(
    ("shape", "mask_ndim"), [((40, 50), 2), ((3, 40, 50), 3), ((3, 40, 50), 2)]
)
def test_a_pixel_of_the_mask_lies_on_its_pixel(
    shape: tuple[int, ...], mask_ndim: int
) -> None:
    image = Image(_zeros(*shape), **_settings(len(shape)))
    if len(shape) == 2:
        image.rotate, image.shear = 30, [0.2]
    mask = napari.layers.Labels(
        _zeros(*shape[-mask_ndim:]), **mask_transform(image, mask_ndim)
    )
    for point in ([0, 0, 0], [1, 7, 9], [2, 39, 49]):
        there = image.data_to_world(point[-len(shape) :])[-mask_ndim:]
        np.testing.assert_allclose(mask.data_to_world(point[-mask_ndim:]), there)
    assert mask.units == image.units[-mask_ndim:]


# Views ------------------------------------------------------------------------


def test_all_of_a_small_image_is_visible(viewer: napari.Viewer) -> None:
    layer = viewer.add_image(_zeros(60, 80), scale=(3, 3), translate=(50, -20))
    hands.settle(0.2)
    view = find_view(viewer, layer, _reading(layer))
    assert (view.index, view.rows, view.columns) == ((), slice(0, 60), slice(0, 80))
    assert view.region == (slice(0, 60), slice(0, 80))


def _zoom_to(viewer: napari.Viewer, centre: tuple[float, float], zoom: float) -> None:
    camera = getattr(viewer, "scene", viewer).camera
    camera.center, camera.zoom = centre, zoom
    hands.settle(0.3)


def test_a_part_of_it(viewer: napari.Viewer) -> None:
    layer = viewer.add_image(_zeros(400, 400), scale=(0.5, 0.5))
    _zoom_to(viewer, (100, 50), 40)
    view = find_view(viewer, layer, _reading(layer))
    assert view.rows.start < 200 < view.rows.stop
    assert view.columns.start < 100 < view.columns.stop
    assert view.rows.stop - view.rows.start < 60
    _zoom_to(viewer, (5000, 5000), 40)
    nothing = find_view(viewer, layer, _reading(layer))
    assert nothing.box == (slice(399, 400), slice(399, 400)), "what is nearest"


def test_of_a_pyramid_in_pixels_of_its_finest_level(viewer: napari.Viewer) -> None:
    levels = [_zeros(2048, 2048), _zeros(1024, 1024), _zeros(512, 512)]
    layer = viewer.add_image(levels, multiscale=True)
    hands.settle(0.3)
    assert layer.data_level > 0
    view = find_view(viewer, layer, _reading(layer))
    assert view.rows.stop > 2000
    assert view.columns.stop > 2000


@pytest.mark.parametrize(
    ("shape", "channels", "point", "index"),
    [
        ((5, 64, 64), 1, (3,), (3,)),
        ((2, 5, 64, 64), 1, (1, 4), (1, 4)),
        ((3, 64, 64), 3, (2,), ()),
        ((4, 3, 64, 64), 3, (2, 1), None),
    ],
)
def test_the_plane_on_the_sliders(
    viewer: napari.Viewer,
    shape: tuple[int, ...],
    channels: int,
    point: tuple[int, ...],
    index: tuple[int, ...] | None,
) -> None:
    layer = viewer.add_image(_zeros(*shape), channel_axis=None, rgb=False)
    for axis, position in enumerate(point):
        viewer.dims.set_point(axis, position)
    hands.settle(0.2)
    reading = _reading(layer, channels)
    view = find_view(viewer, layer, reading)
    assert len(view.index) == len(reading.leading)
    if index is not None:
        assert view.index == index
    assert (view.rows, view.columns) == (slice(0, 64), slice(0, 64))


def test_other_axes_on_the_screen_mean_the_whole_plane(viewer: napari.Viewer) -> None:
    layer = viewer.add_image(_zeros(5, 64, 64))
    viewer.dims.set_point(0, 2)
    _zoom_to(viewer, (10, 10), 30)
    viewer.dims.order = (1, 0, 2)
    hands.settle(0.2)
    view = find_view(viewer, layer, _reading(layer))
    assert view.box == (slice(0, 64), slice(0, 64))
    viewer.dims.order, viewer.dims.ndisplay = (0, 1, 2), 3
    hands.settle(0.2)
    assert find_view(viewer, layer, _reading(layer)).box == view.box
    viewer.dims.ndisplay = 2
    samples_last = viewer.add_image(_zeros(64, 64, 5), rgb=False)
    hands.settle(0.2)
    last = find_view(viewer, samples_last, _reading(samples_last, 5))
    assert last.box == view.box


def test_beside_layers_of_more_axes(viewer: napari.Viewer) -> None:
    viewer.add_image(_zeros(4, 5, 64, 64))
    layer = viewer.add_image(_zeros(64, 64))
    viewer.dims.set_point(0, 3)
    hands.settle(0.2)
    view = find_view(viewer, layer, _reading(layer))
    assert (view.index, view.box) == ((), (slice(0, 64), slice(0, 64)))


# Layers -----------------------------------------------------------------------


def test_what_comes_goes_and_is_renamed_is_told(viewer: napari.Viewer) -> None:
    link = ViewerLink(viewer)
    heard: list[None] = []
    link.imagesChanged.connect(lambda: heard.append(None))

    def changes() -> int:
        count = len(heard)
        heard.clear()
        return count

    first = viewer.add_image(_zeros(40, 40), name="a")
    assert changes()
    viewer.add_image(_zeros(40, 40), name="b")
    assert [layer.name for layer in link.images()] == ["b", "a"]
    changes()
    first.name = "c"
    assert changes() == 1
    viewer.layers.move(0, 2)
    assert changes()
    viewer.layers.remove(first)
    assert changes()
    first.name = "d"
    assert not changes(), "it is no longer there"
    link.disconnect_all()
    viewer.add_image(_zeros(40, 40))
    viewer.layers[0].name = "e"
    assert not changes()


def test_a_place_is_brought_to_the_middle(
    viewer: napari.Viewer, link: ViewerLink
) -> None:
    image = viewer.add_image(_zeros(5, 64, 64), scale=(4, 0.5, 0.5))
    mask = link.add_mask(image, _zeros(5, 64, 64), "mask")
    assert viewer.layers.selection.active is mask
    assert mask.mode == "paint"
    link.show(mask, (slice(3, 4), slice(10, 21), slice(40, 51)))
    camera = getattr(viewer, "scene", viewer).camera
    assert viewer.dims.current_step[0] == 3
    np.testing.assert_allclose(camera.center[-2:], (7.5, 22.5))
    link.remove(mask)
    link.remove(mask)
    link.remove(None)
    assert mask not in viewer.layers


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Mesa is on Linux")
def test_what_draws_a_mask_outlives_it(person: Person) -> None:
    """Else the viewer crashes with Mesa's drivers when the next layer is drawn."""
    mask = person.predict()
    layers = person.viewer.layers
    layers.remove(mask)
    kept = {type(each).__name__ for each in layers.visuals_kept_by_napari_seg}
    assert {"VispyLabelsLayer", "VispyLabelsPolygonOverlay"} <= kept
    assert "VispyCanvas" not in kept
    assert person.predict() is not mask
