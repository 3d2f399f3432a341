"""Objects that a person cuts in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.draw import disk

from napari_seg.objects.cutting import cut_along, cut_at_waist, drawn_pixels
from napari_seg.objects.splitting import split_by_shape

SHAPE = (60, 80)


def drawn(*disks: tuple[tuple[int, int], int]) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    for centre, radius in disks:
        mask[disk(centre, radius)] = True
    return mask


def test_a_waist_too_weak_for_all_objects_is_found_when_asked_for() -> None:
    mask = drawn(((30, 25), 14), ((30, 39), 13))
    assert split_by_shape(mask.astype(np.uint8), mask.astype(np.uint8)).max() == 1
    parts = cut_at_waist(mask)
    assert parts is not None
    assert set(np.unique(parts)) == {0, 1, 2}
    np.testing.assert_array_equal(parts > 0, mask)
    assert parts[30, 18] == 1, "the larger one"
    assert parts[30, 45] == 2


def test_the_narrowest_waist_is_the_one() -> None:
    mask = drawn(((30, 15), 11), ((30, 33), 11), ((30, 56), 13))
    parts = cut_at_waist(mask)
    assert parts is not None
    assert parts[30, 15] == parts[30, 33] == 1
    assert parts[30, 56] == 2


def test_a_disk_and_a_dot_have_no_waist() -> None:
    assert cut_at_waist(drawn(((30, 30), 12))) is None
    assert cut_at_waist(np.ones((1, 1), bool)) is None
    assert cut_at_waist(np.ones((20, 30), bool)) is None


def test_a_line_divides_what_it_crosses() -> None:
    mask = drawn(((30, 30), 12))
    parts = cut_along(mask, drawn_pixels([(10, 25), (50, 28)], (0, 0), SHAPE))
    assert parts is not None
    np.testing.assert_array_equal(parts > 0, mask)
    assert parts[30, 35] == 1
    assert parts[30, 20] == 2
    window = np.s_[15:46, 15:46]
    path = drawn_pixels([(10, 25), (50, 28)], (15, 15), mask[window].shape)
    np.testing.assert_array_equal(cut_along(mask[window], path), parts[window])


def test_a_line_that_ends_within_divides_nothing() -> None:
    mask = drawn(((30, 30), 12))
    assert cut_along(mask, drawn_pixels([(10, 30), (35, 30)], (0, 0), SHAPE)) is None
    assert cut_along(mask, drawn_pixels([(0, 0), (0, 79)], (0, 0), SHAPE)) is None


def test_a_diagonal_line_has_no_gaps() -> None:
    mask = np.ones((30, 30), bool)
    parts = cut_along(mask, drawn_pixels([(0, 0), (29, 29)], (0, 0), (30, 30)))
    assert parts is not None
    assert parts.max() == 2
