"""Colours of classes: distinct, stable, and legible to napari."""

from __future__ import annotations

import numpy as np

from napari_seg._qt.palette import class_colormap, object_colormap
from napari_seg.colors import (
    BACKGROUND,
    OKABE_ITO,
    _distance,
    _oklab,
    _rgb,
    class_colors,
)


def test_the_first_colours_are_those_of_okabe_and_ito() -> None:
    assert class_colors(0) == ()
    assert class_colors(8) == (BACKGROUND, *OKABE_ITO)


def test_a_further_class_changes_no_colour() -> None:
    for n in (1, 7, 8, 9, 30, 255):
        assert class_colors(n) == class_colors(255)[:n]


def test_all_colours_can_be_told_apart() -> None:
    lab = np.array([_oklab(_rgb(color)) for color in class_colors(32)])
    between = _distance(lab[:, None], lab[None])
    # 0.02 is about the least difference that is seen side by side.
    assert between[~np.eye(32, dtype=bool)].min() > 0.08
    assert len(set(class_colors(255))) == 255


def test_oklab_of_known_colours() -> None:
    assert np.allclose(_oklab(np.array([255, 255, 255])), [1, 0, 0], atol=1e-4)
    red = [0.628, 0.2249, 0.1258]
    assert np.allclose(_oklab(np.array([255, 0, 0])), red, atol=1e-3)


def test_a_colormap_for_napari() -> None:
    colormap = class_colormap(class_colors(3))
    shown = np.round(colormap.map(np.array([0, 1, 2, 9, 255], np.uint8)) * 255)
    assert shown[0, 3] == 0
    assert shown[1].tolist() == [0xE6, 0x9F, 0x00, 255]
    assert shown[3].tolist() == [255, 255, 255, 255]
    assert shown[4].tolist() == [128, 128, 128, 128]


def test_outlines_of_objects_stand_out_from_black_white_and_the_mask() -> None:
    shown = object_colormap().map(np.array([0, *range(1, 9)], np.uint32))
    assert shown[0, 3] == 0
    assert (shown[1:, 3] == 1).all()
    np.testing.assert_array_equal(shown[8], shown[1])
    lab = np.array([_oklab(np.round(each[:3] * 255)) for each in shown[1:8]])
    mask = [_rgb(color) / 2 for color in class_colors(2)[1:]]
    grounds = [np.zeros(3), np.full(3, 255), *mask]
    beside = np.array([_oklab(each) for each in grounds])
    assert _distance(lab[:, None], beside[None]).min() > 0.15
    # Of objects that follow each other, too.
    assert _distance(lab, np.roll(lab, 1, axis=0)).min() > 0.15
