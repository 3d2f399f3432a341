"""Scores of outlines against their definitions, pixel by pixel."""

from __future__ import annotations

import json
from itertools import product
from math import hypot, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import napari_seg
from napari_seg.errors import InputError, LabelsError
from napari_seg.scoring import UNKNOWN, boundary
from napari_seg.scoring.boundary import boundary_scores

CLASSES = 3
shapes = st.shared(st.tuples(*[st.integers(1, 8)] * 2), key="shape")
volumes = st.shared(st.tuples(*[st.integers(1, 4)] * 3), key="shape")
tolerances = st.floats(0.3, 5)
sizes = st.floats(0.2, 3)


def masks(of=shapes, ids=(0, 1, 2, UNKNOWN)):
    return arrays(np.uint8, of, elements=st.sampled_from(ids))


def square(top: int, left: int, side: int, shape=(40, 40)) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def outline(
    inside: NDArray[np.bool_], known: NDArray[np.bool_], spacing: tuple[float, float]
) -> list[tuple[float, float, float]]:
    """Return (y, x, length) of an outline in 2-D by the rules of marching squares."""
    height, width = spacing
    inside = np.pad(inside, 1)
    known = np.pad(known, 1, constant_values=True)
    elements = []
    for y, x in product(*(range(n - 1) for n in inside.shape)):
        four = inside[y : y + 2, x : x + 2]
        if not known[y : y + 2, x : x + 2].all() or four.sum() in (0, 4):
            continue
        if four.sum() != 2:
            length = hypot(height, width) / 2
        elif four[0, 0] == four[1, 1]:
            length = hypot(height, width)
        else:
            length = width if four[0, 0] == four[0, 1] else height
        elements.append((y * height, x * width, length))
    return elements


def by_definition(prediction, truth, tolerance, spacing):
    """Return boundary IoU and NSD per class from all pairs of pixels and elements."""
    known = (prediction != UNKNOWN) & (truth != UNKNOWN)
    padded = np.pad(known, 1, constant_values=True)
    boundary_iou, nsd = [], []
    for class_id in range(CLASSES):
        rims, outlines = [], []
        for mask in (prediction, truth):
            inside = (mask == class_id) & known
            outside = np.argwhere(padded & ~np.pad(inside, 1)) - 1
            rim = set()
            for place in np.argwhere(inside):
                gaps = (outside - place) * spacing
                if np.sqrt((gaps**2).sum(axis=1)).min() <= tolerance * (1 + 1e-9):
                    rim.add(tuple(place))
            rims.append(rim)
            outlines.append(outline(inside, known, spacing))
        either = len(rims[0] | rims[1])
        boundary_iou.append(len(rims[0] & rims[1]) / either if either else np.nan)
        close = whole = 0.0
        for ours, theirs in (outlines, outlines[::-1]):
            for y, x, length in ours:
                nearest = min((hypot(y - v, x - u) for v, u, _ in theirs), default=1e9)
                close += length if nearest <= tolerance * (1 + 1e-9) else 0
                whole += length
        nsd.append(close / whole if whole else np.nan)
    return boundary_iou, nsd


@settings(max_examples=50, deadline=None)
@given(masks(), masks(), tolerances, st.tuples(sizes, sizes))
def test_equals_the_definitions(prediction, truth, tolerance, spacing):
    found = boundary_scores(prediction, truth, tolerance, CLASSES, spacing=spacing)
    boundary_iou, nsd = by_definition(prediction, truth, tolerance, spacing)
    np.testing.assert_allclose(found.boundary_iou, boundary_iou)
    np.testing.assert_allclose(found.nsd, nsd)


@settings(max_examples=20, deadline=None)
@given(masks(volumes), masks(volumes), tolerances, st.tuples(sizes, sizes, sizes))
def test_steps_and_distance_transform_agree(prediction, truth, tolerance, spacing):
    found = []
    for most in (0, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boundary, "_MOST_OFFSETS", most)
            found.append(
                boundary_scores(prediction, truth, tolerance, CLASSES, spacing=spacing)
            )
    scores, expected = found
    np.testing.assert_array_equal(scores.rim_overlap, expected.rim_overlap)
    np.testing.assert_array_equal(scores.surface_close, expected.surface_close)


class TestInvariants:
    @settings(max_examples=20, deadline=None)
    @given(st.one_of(masks(), masks(volumes)), tolerances)
    def test_identical_masks_are_perfect(self, mask, tolerance):
        scores = boundary_scores(mask, mask, tolerance, CLASSES)
        for values in (scores.boundary_iou, scores.nsd):
            np.testing.assert_allclose(values[~np.isnan(values)], 1)
        for class_id in range(CLASSES):
            if (mask == class_id).any() and not (mask == UNKNOWN).any():
                assert not np.isnan(scores.nsd[class_id])

    @settings(max_examples=20, deadline=None)
    @given(
        st.one_of(
            st.tuples(masks(), masks()), st.tuples(masks(volumes), masks(volumes))
        ),
        tolerances,
        sizes,
    )
    def test_neither_mask_comes_first(self, pair, tolerance, size):
        one, other = pair
        there = boundary_scores(one, other, tolerance, CLASSES, spacing=size)
        back = boundary_scores(other, one, tolerance, CLASSES, spacing=size)
        np.testing.assert_allclose(there.nsd, back.nsd)
        np.testing.assert_array_equal(there.boundary_iou, back.boundary_iou)

    @settings(max_examples=20, deadline=None)
    @given(masks(), masks(), tolerances, tolerances)
    def test_more_tolerance_never_lowers_the_surface_dice(self, one, other, a, b):
        strict, lenient = (
            boundary_scores(one, other, tolerance, CLASSES).nsd
            for tolerance in sorted((a, b))
        )
        assert np.all((lenient >= strict - 1e-12) | np.isnan(strict))

    @settings(max_examples=20, deadline=None)
    @given(masks(), masks(), tolerances, sizes)
    def test_units_do_not_matter(self, one, other, tolerance, size):
        in_pixels = boundary_scores(one, other, tolerance, CLASSES)
        in_um = boundary_scores(one, other, tolerance * size, CLASSES, spacing=size)
        np.testing.assert_allclose(in_um.nsd, in_pixels.nsd)
        np.testing.assert_allclose(in_um.boundary_iou, in_pixels.boundary_iou)

    @settings(max_examples=20, deadline=None)
    @given(masks(), masks(), masks(), tolerances)
    def test_what_lies_under_unknown_pixels_does_not_matter(
        self, one, truth, noise, tolerance
    ):
        changed = np.where(truth == UNKNOWN, noise, one)
        before = boundary_scores(one, truth, tolerance, CLASSES)
        after = boundary_scores(changed, truth, tolerance, CLASSES)
        np.testing.assert_array_equal(before.surface, after.surface)
        np.testing.assert_array_equal(before.rim_union, after.rim_union)
        np.testing.assert_array_equal(before.rim_overlap, after.rim_overlap)

    @settings(max_examples=20, deadline=None)
    @given(masks(ids=(0, 1)), masks(ids=(0, 1)), st.integers(1, 30))
    def test_empty_surroundings_change_nothing(self, one, other, margin):
        """The work is cut down to the surroundings of a class."""
        tight = boundary_scores(one, other, 2, 2)
        wide = boundary_scores(np.pad(one, margin), np.pad(other, margin), 2, 2)
        assert wide.nsd[1] == pytest.approx(tight.nsd[1], nan_ok=True)
        np.testing.assert_equal(wide.boundary_iou[1], tight.boundary_iou[1])


class TestByHand:
    def test_a_shift_is_forgiven_up_to_the_tolerance(self):
        """The outline has 4 × 19 units and four corners that are cut off."""
        truth, shifted = square(10, 10, 20), square(10, 13, 20)
        assert boundary_scores(shifted, truth, 3).nsd[1] == 1
        strict = boundary_scores(shifted, truth, 2.9).nsd[1]
        corner = sqrt(0.5)
        # Far are the side beyond the other square with its corners, and the side
        # within it but for the two units at each end, next to the other's long sides.
        far = (19 + 2 * corner) + (19 - 2 * 2)
        assert strict == pytest.approx(1 - far / (4 * 19 + 4 * corner))

    def test_rims_of_a_square(self):
        """Rims of 2 px of squares of 10 and of 8 inside it share nothing but one px."""
        outer, inner = square(10, 10, 10), square(11, 11, 8)
        # 64 px in the outer rim, 48 in the inner; the ring between 1 and 2 px is both.
        assert boundary_scores(inner, outer, 2).boundary_iou[1] == 28 / (64 + 48 - 28)
        assert boundary_scores(inner, outer, 100).boundary_iou[1] == 64 / 100

    def test_slices_farther_apart_than_the_tolerance(self):
        """Moved by one slice of 3 µm: within 3 µm, not within 2.9."""
        truth = np.zeros((9, 14, 14), np.uint8)
        truth[2:6, 3:10, 3:10] = 1
        moved = np.roll(truth, 1, axis=0)
        spacing = (3.0, 0.5, 0.5)
        assert boundary_scores(moved, truth, 3, spacing=spacing).nsd[1] == 1
        assert boundary_scores(moved, truth, 2.9, spacing=spacing).nsd[1] < 0.9
        sideways = np.roll(truth, 2, axis=2)
        assert boundary_scores(sideways, truth, 1, spacing=spacing).nsd[1] == 1

    def test_area_of_a_box_with_long_voxels(self):
        """Marching cubes cut the edges off; the faces are there in full."""
        mask = np.zeros((12, 13, 14), np.uint8)
        mask[2:10, 2:11, 2:12] = 1
        scores = boundary_scores(mask, mask, 1, spacing=(3, 0.5, 1))
        faces = 2 * (24 * 4.5 + 24 * 10 + 4.5 * 10)
        assert 0.8 * 2 * faces < scores.surface[1] < 2 * faces

    def test_thousandths_of_a_pixel_do_not_decide(self):
        """Three pixels of 0.1 µm are a little more than 0.3 in binary."""
        truth, shifted = square(10, 10, 20), square(10, 13, 20)
        assert boundary_scores(shifted, truth, 0.3, spacing=0.1).nsd[1] == 1

    def test_the_border_of_the_image_is_an_outline(self):
        """As in the programs of both papers: the truth is cut off there."""
        full, most = np.ones((2, 30, 30), np.uint8)
        most[:, 20:] = 0
        scores = boundary_scores(most, full, 1)
        assert scores.rim_union[1] == 4 * 29 + 28
        assert 0 < scores.nsd[1] < 1

    def test_an_outline_against_unknown_pixels_is_none(self):
        truth = square(5, 5, 20)
        truth[:, 15:] = UNKNOWN
        prediction = square(5, 5, 30)
        prediction[truth == 0] = 0
        scores = boundary_scores(prediction, truth, 2)
        assert scores.nsd[1] == scores.boundary_iou[1] == 1


class TestClasses:
    def test_absent_classes_have_no_score_and_do_not_count(self):
        mask = square(5, 5, 10)
        scores = boundary_scores(mask, mask, 2, n_classes=4)
        assert np.isnan(scores.nsd).tolist() == [False, False, True, True]
        assert scores.mean_nsd == scores.mean_boundary_iou == 1
        assert scores.to_dict()["nsd"] == [1, 1, None, None]
        json.dumps(scores.to_dict(), allow_nan=False)

    def test_a_class_in_one_mask_only_scores_zero(self):
        scores = boundary_scores(square(5, 5, 10), np.zeros((40, 40), int), 2)
        assert scores.nsd[1] == scores.boundary_iou[1] == 0

    def test_nothing_known_is_nan_without_a_warning(self):
        scores = boundary_scores(np.zeros((9, 9), int), np.full((9, 9), UNKNOWN))
        assert np.isnan([scores.mean_nsd, scores.mean_boundary_iou]).all()

    def test_an_id_of_the_truth_can_be_left_out(self):
        truth = square(5, 5, 20)
        marked = truth.astype(int)
        truth[:, 15:], marked[:, 15:] = UNKNOWN, 9
        prediction = square(5, 6, 20)
        one = boundary_scores(prediction, truth, 1)
        other = boundary_scores(prediction, marked, 1, 2, ignore=9)
        np.testing.assert_array_equal(one.surface_close, other.surface_close)

    def test_sums_of_images_come_first(self):
        pairs = [(square(5, 7, 10), square(5, 5, 10)), (square(9, 9, 6),) * 2]
        scores = [boundary_scores(*pair, 1) for pair in pairs]
        more = boundary_scores(square(0, 0, 4) * 2, square(0, 0, 4) * 2, 1)
        total = scores[0] + more + scores[1]
        assert total.nsd[1] == pytest.approx(
            sum(s.surface_close[1] for s in scores) / sum(s.surface[1] for s in scores)
        )
        assert total.nsd[2] == 1
        with pytest.raises(InputError, match="same one"):
            scores[0] + boundary_scores(*pairs[0], 2)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((40, 50), (0.5, 2.0)),
        ((14, 20, 22), (1.0,) * 3),
        ((14, 20, 22), (3.0, 0.7, 1.0)),
    ],
)
def test_surface_dice_is_that_of_the_authors_program(shape, spacing):
    """MONAI's tables of lengths and areas are those of Nikolov et al."""
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(0)
    pair = [gaussian_filter(rng.standard_normal(shape), 2) > 0.02 for _ in range(2)]
    tensors = [torch.from_numpy(np.stack([~mask, mask])[None]).float() for mask in pair]
    for tolerance in (0.5, 1, 2, 3.3):
        expected = metrics.compute_surface_dice(
            *tensors,
            [tolerance] * 2,
            include_background=True,
            spacing=spacing,
            use_subvoxels=True,
        )
        found = boundary_scores(*pair, tolerance, 2, spacing=spacing)
        np.testing.assert_allclose(found.nsd, expected[0], rtol=1e-5)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 0.7, 1)])
def test_an_outline_is_the_same_from_both_sides(spacing):
    volume = np.random.default_rng(0).integers(0, 2, (9, 9, 9))
    # Unknown around it, since the image's border is outside both classes.
    volume = np.pad(volume, 1, constant_values=UNKNOWN)
    scores = boundary_scores(volume, volume, 1, spacing=spacing)
    assert scores.surface[0] == pytest.approx(scores.surface[1])


def test_the_public_name():
    assert napari_seg.boundary_scores is boundary_scores


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tolerance": 0}, InputError, "above 0"),
        ({"tolerance": float("nan")}, InputError, "above 0"),
        ({"spacing": -1}, InputError, "above 0"),
        ({"spacing": (1, 1, 1)}, InputError, "each of the 2"),
        ({"truth": np.zeros((3, 3), int)}, LabelsError, "same shape"),
        ({"prediction": np.zeros((40, 40))}, LabelsError, "integers"),
        ({"prediction": np.full((40, 40), 7), "n_classes": 2}, LabelsError, "classes"),
        (
            {"prediction": np.zeros(9, int), "truth": np.zeros(9, int)},
            LabelsError,
            r"\(Y, X\) or \(Z, Y, X\)",
        ),
    ],
)
def test_refused_with_what_would_work(changes, error, message):
    given_values = {"prediction": square(5, 5, 9), "truth": square(5, 5, 9)} | changes
    with pytest.raises(error, match=message):
        boundary_scores(**given_values)
