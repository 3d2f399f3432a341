"""Borders of pixels: exact there and back, and rings that every program takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from napari_seg.errors import InputError
from napari_seg.exchange.borders import trace
from napari_seg.exchange.filling import as_ring, fill
from tests.exchange.conftest import NOISE


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


@given(ids=NOISE)
@settings(max_examples=150, deadline=None)
def test_the_same_pixels_come_back(ids):
    back = np.zeros_like(ids)
    for outline in trace(ids):
        for rings in outline.polygons:
            rows, columns, inside = fill(rings, ids.shape, "object")
            assert (back[rows, columns][inside] == 0).all()
            back[rows, columns][inside] = outline.number
    np.testing.assert_array_equal(back, ids)


@given(ids=NOISE)
@settings(max_examples=150, deadline=None)
def test_rings_are_simple_and_turn_the_right_way(ids):
    for outline in trace(ids):
        for shell, *holes in outline.polygons:
            assert area(shell) > 0
            assert all(area(hole) < 0 for hole in holes)
            for ring in (shell, *holes):
                assert len(np.unique(ring, axis=0)) == len(ring) >= 4
                steps = np.roll(ring, -1, axis=0) - ring
                # Along one axis at a time, and never straight on at a corner.
                assert ((steps == 0).sum(axis=1) == 1).all()
                flat = steps[:, 0] == 0
                assert (flat != np.roll(flat, 1)).all()


def test_hole_that_touches_its_shell_and_an_island_in_it():
    ids = np.array(
        [
            [1, 1, 1, 1, 0],
            [1, 0, 0, 1, 1],
            [1, 0, 1, 0, 1],
            [1, 1, 1, 1, 1],
        ],
        np.uint32,
    )
    (outline,) = trace(ids)
    (shell, *holes) = outline.polygons[0]
    assert len(outline.polygons) == 1
    assert sorted(-area(hole) for hole in holes) == [1, 3]
    assert area(shell) == 19
    assert outline.box == (slice(0, 4), slice(0, 5))


def test_nothing_has_no_border():
    assert trace(np.zeros((5, 6), np.uint32)) == []


@given(
    corners=st.lists(
        st.tuples(st.integers(-30, 150), st.integers(-30, 150)), min_size=3, max_size=8
    )
)
@settings(max_examples=80, deadline=None)
def test_slanted_polygons_agree_with_scikit_image(corners):
    ring = np.array(corners) / 7
    # A centre on the border is a matter of taste: a breath to either side decides.
    expected = [
        polygon2mask((15, 18), ring[:, ::-1] - 0.5 + np.array(shift))
        for shift in ((1e-6, 1e-6), (1e-6, -1e-6), (-1e-6, 1e-6), (-1e-6, -1e-6))
    ]
    sure = np.ptp(np.array(expected, np.int8), axis=0) == 0
    found = np.zeros((15, 18), bool)
    try:
        filled = fill([ring], found.shape, "polygon")
    except InputError:
        filled = None
    if filled is not None:
        rows, columns, inside = filled
        found[rows, columns] = inside
    np.testing.assert_array_equal(found[sure], expected[0][sure])


def test_a_million_corners_are_no_problem():
    angle = np.linspace(0, 2 * np.pi, 10**6, endpoint=False)
    ring = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1)
    _, _, inside = fill([ring], (100, 100), "circle")
    assert inside.sum() == pytest.approx(np.pi * 1600, rel=0.01)


def test_a_border_that_would_fill_the_memory_is_refused():
    zigzag = np.zeros((4000, 2))
    zigzag[:, 0] = np.arange(4000)
    zigzag[::2, 1] = 20000
    with pytest.raises(InputError, match="simplify"):
        fill([zigzag], (20000, 4000), "A polygon")


@pytest.mark.parametrize(
    "points",
    [
        None,
        7,
        "abc",
        [],
        [[0, 0], [1, 1]],
        [[0, 0], [1, 1], [2]],
        [[0], [1], [2]],
        [["a", "b"]] * 3,
        [[0, 0], [1, 0], [float("nan"), 1]],
        [[0, 0], [1, 0], [1e300, 1]],
        [[0, 0], [1, 0], [10**400, 1]],
        [{"x": 1}] * 3,
    ],
)
def test_what_is_no_polygon(points):
    with pytest.raises(InputError, match="polygon"):
        as_ring(points)
