"""Boxes read what numpy's indexing reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_seg.errors import InputError
from napari_seg.scoring.regions import (
    as_box,
    box_shape,
    changed_box,
    intersection,
    pixels,
    relative,
    split,
    union,
)

SHAPE = (3, 7, 11)
bounds = st.one_of(st.none(), st.integers(-15, 15))
steps = st.sampled_from([None, 1, 2, -1, -3])
slices = st.builds(slice, bounds, bounds, steps)
entries = st.one_of(slices, st.integers(-3, 2))
regions = st.one_of(
    st.lists(entries, max_size=3).map(tuple),
    st.tuples(st.just(...), slices),
    st.tuples(entries, st.just(...)),
    entries,
)


@given(regions)
def test_box_is_the_smallest_around_what_numpy_selects(region):
    selected = np.zeros(SHAPE, bool)
    selected[region] = True
    box = as_box(region, SHAPE)
    if selected.any():
        assert box == changed_box(selected, as_box(None, SHAPE))
    else:
        assert pixels(box) == 0


@given(regions, st.integers(1, 60))
def test_pieces_cover_the_box_once(region, limit):
    box = as_box(region, SHAPE)
    seen = np.zeros(SHAPE, int)
    for piece in split(box, limit):
        assert 0 < pixels(piece) <= limit
        seen[piece] += 1
    assert (seen[box] == 1).all()
    assert seen.sum() == pixels(box)


def test_union_intersection_relative():
    a, b = np.s_[0:4, 2:5], np.s_[3:6, 0:3]
    assert union(a, b) == np.s_[0:6, 0:5]
    assert union(None, b) == b
    assert intersection(a, b) == np.s_[3:4, 2:3]
    assert intersection(a, np.s_[4:9, 2:5]) is None
    assert relative(np.s_[3:4, 2:3], a) == np.s_[3:4, 0:1]
    assert box_shape(a) == (4, 3)


@pytest.mark.parametrize(
    "region", [(0, 0, 0, 0), (..., ...), "all", np.ones(SHAPE, bool), 3, (True,)]
)
def test_refused(region):
    with pytest.raises(InputError):
        as_box(region, SHAPE)
