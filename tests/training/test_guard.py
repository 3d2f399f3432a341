"""The guard: what is held out, that it stays held out, and what it concludes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_seg.corrections.windows import cut_windows
from napari_seg.models.registry import create_model
from napari_seg.training.guard import (
    Verdict,
    Watch,
    compare,
    hold_out,
    known_pixels,
    region_names,
)
from napari_seg.training.sampling import Example

UNKNOWN = 255
N_CLASSES = 2


def labelled(
    seed: int, shape: tuple[int, int] = (96, 130), classes: int = N_CLASSES
) -> Example:
    rng = np.random.default_rng(seed)
    return Example(
        rng.random((1, *shape), np.float32),
        rng.integers(0, classes, shape).astype(np.uint8),
    )


def held_masks(
    examples: list[Example], training: list[Example]
) -> list[NDArray[np.bool_]]:
    """Return what was taken from training, for each example."""
    return [
        (before.labels != UNKNOWN) & (after.labels == UNKNOWN)
        for before, after in zip(examples, training, strict=True)
    ]


masks = arrays(
    np.uint8,
    st.tuples(st.integers(32, 100), st.integers(32, 100)),
    elements=st.sampled_from([0, 1, 2, UNKNOWN]),
    fill=st.just(UNKNOWN),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(masks, min_size=1, max_size=3), st.floats(0, 0.9), st.integers(0, 99))
def test_training_and_guard_never_share_a_label(labels, share, seed):
    rng = np.random.default_rng(seed)
    examples = [Example(rng.random((1, *ids.shape), np.float32), ids) for ids in labels]
    training, held_out = hold_out(examples, share)
    for before, after in zip(examples, training, strict=True):
        kept = after.labels != UNKNOWN
        np.testing.assert_array_equal(after.labels[kept], before.labels[kept])
        assert before.image is after.image
    for region in held_out.regions:
        assert (training[region.example].labels[region.box] == UNKNOWN).all()
        assert (examples[region.example].labels[region.box] != UNKNOWN).any()
    boxes = [(r.example, r.box[0].start, r.box[1].start) for r in held_out.regions]
    assert len(set(boxes)) == len(boxes)
    # Every class that is labelled can be learned.
    for class_id in range(3):
        if any((example.labels == class_id).any() for example in examples):
            assert any((example.labels == class_id).any() for example in training)


def test_the_share_is_about_what_was_asked_for():
    examples = [labelled(seed, (320, 320)) for seed in range(3)]
    training, held_out = hold_out(examples, 0.2)
    share = 1 - known_pixels(training) / known_pixels(examples)
    assert share == pytest.approx(0.2, abs=0.07)
    assert 30 < len(held_out) < 90


def test_without_a_share_training_sees_everything():
    examples = [labelled(0)]
    training, held_out = hold_out(examples, 0)
    assert len(held_out) == 0
    assert known_pixels(training) == known_pixels(examples)


class TestStays:
    """No version is ever judged on what an earlier one was trained on."""

    def test_when_images_are_added(self):
        first = [labelled(seed) for seed in range(3)]
        more = [labelled(9, (40, 40)), *first, labelled(10, (200, 64))]
        before = held_masks(first, hold_out(first, 0.3)[0])
        after = held_masks(more, hold_out(more, 0.3)[0])[1:4]
        assert any(mask.any() for mask in before)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_when_labels_grow(self, seed):
        """Also where a class was labelled so rarely that a square was added for it."""
        full = [labelled(seed + index) for index in range(2)]
        rng = np.random.default_rng(seed)
        known = [rng.random(example.labels.shape) < 0.01 for example in full]
        partly = [
            replace(example, labels=np.where(mask, example.labels, UNKNOWN))
            for example, mask in zip(full, known, strict=True)
        ]
        training, _ = hold_out(partly, 0.2)
        later, held_out = hold_out(full, 0.2, region_names(training))
        assert len(held_out)
        for before, held in zip(training, held_masks(full, later), strict=True):
            assert not held[before.labels != UNKNOWN].any()

    def test_when_a_region_has_too_few_pixels_yet(self):
        """A dab falls to the guard unscored: later it would be held out anyway."""
        full = [labelled(0)]
        (region, *_) = hold_out(full, 0.3)[1].regions
        few, corner = full[0].labels.copy(), tuple(part.start for part in region.box)
        few[region.box] = UNKNOWN
        few[corner] = full[0].labels[corner]
        training, held_out = hold_out([replace(full[0], labels=few)], 0.3)
        assert training[0].labels[corner] == UNKNOWN
        assert region.box not in [other.box for other in held_out.regions]

    def test_when_a_class_was_too_rare_to_be_judged(self):
        """One region shows it and is learned from; the second one judges."""
        for seed in range(10):
            first = labelled(seed, classes=1)
            first.labels[2:12, 2:12] = 1
            training, _ = hold_out([first], 0.1)
            second = replace(first, labels=first.labels.copy())
            second.labels[70:80, 70:80] = 1
            later, _ = hold_out([second], 0.1, region_names(training))
            assert (later[0].labels[2:12, 2:12] == 1).all()
            fresh = training[0].labels[70, 70] == UNKNOWN
            assert (later[0].labels[70, 70] == UNKNOWN) == fresh

    def test_when_it_is_asked_again(self):
        examples = [labelled(3)]
        boxes = [[r.box for r in hold_out(examples, 0.3)[1].regions] for _ in range(2)]
        assert boxes[0] == boxes[1]


class TestLittle:
    def test_one_region_goes_to_training(self):
        example = labelled(0)
        example.labels[:] = UNKNOWN
        example.labels[40:50, 40:50] = 1
        for share in (0.2, 0.9):
            training, held_out = hold_out([example], share)
            assert known_pixels(training) == 100
            assert len(held_out) == 0

    def test_two_regions_are_divided(self):
        for seed in range(8):
            training, held_out = hold_out([labelled(seed, (32, 64))], 0.2)
            assert len(held_out) == 1
            assert known_pixels(training) == 32 * 32

    def test_not_everything_is_held_out(self):
        for seed in range(5):
            training, _ = hold_out([labelled(seed, (64, 64))], 0.9)
            assert known_pixels(training) > 0

    def test_one_window_can_be_judged(self):
        """Wherever the hash would put it: a window of 96 pixels is 9 regions."""
        for seed in range(30):
            training, held_out = hold_out([labelled(seed, (96, 96))], 0.2)
            assert held_out.enough
            assert known_pixels(training) >= 2 * 32 * 32

    def test_a_class_with_one_correction_is_trained_on(self):
        """Whichever region it lies in."""
        for top in range(0, 96, 32):
            for left in range(0, 128, 32):
                example = labelled(0)
                example.labels[top + 3 : top + 9, left + 3 : left + 9] = 2
                training, held_out = hold_out([example], 0.5)
                assert (training[0].labels == 2).sum() == 36
                assert len(held_out) > 0

    def test_two_windows_are_both_judged(self):
        """As far as that can be: each gives at least a square."""
        for seed in range(20):
            example = labelled(seed, (160, 320))
            everywhere = example.labels.copy()
            example.labels[:] = UNKNOWN
            for left in (7, 200):
                box = slice(30, 126), slice(left, left + 96)
                example.labels[box] = everywhere[box]
            _, held_out = hold_out([example], 0.1)
            assert len(held_out) >= 3
            assert set(held_out.places) == {0, 1}

    def test_windows_are_told_apart(self):
        example = labelled(0, (512, 512))
        _, held_out = hold_out([example], 0.9)
        assert len(set(held_out.places)) == 16, "one of 128 × 128 each"
        pair = [labelled(seed, (96, 96)) for seed in (1, 2)]
        _, held_out = hold_out(pair, 0.6)
        examples = [region.example for region in held_out.regions]
        assert len(set(zip(held_out.places, examples, strict=True))) == 2

    @pytest.mark.parametrize("seed", range(12))
    def test_a_window_in_several_files_is_one_place(self, seed):
        """The dock saves cells of 128 pixels, wherever the user accepted."""
        rng = np.random.default_rng(seed)
        truth = np.full((512, 512), UNKNOWN, np.uint8)
        pixels = rng.random((512, 512), np.float32)
        corners = [(int(rng.integers(0, 130)), int(rng.integers(0, 400)))]
        corners.append((corners[0][0] + 250, corners[0][1]))
        for top, left in corners:
            truth[top : top + 96, left : left + 96] = rng.integers(0, 2, (96, 96))
        windows = cut_windows(truth, lambda box: pixels[box], "plate")
        examples = [
            Example(
                window.image[None],
                window.labels,
                origin=("plate", window.box[0].start, window.box[1].start),
            )
            for window in windows
        ]
        _, held_out = hold_out(examples, 0.9)
        assert set(held_out.places) == {0, 1}

    def test_a_class_is_judged_in_several_regions(self):
        """In one of many it would be missing from every third draw of the bootstrap."""
        for rows, wanted in ((13, 4), (6, 2), (3, 1)):
            example = labelled(7, (512, 512))
            example.labels[:] = 0
            for row in range(rows):
                example.labels[32 * row : 32 * row + 10, :10] = 1
            training, held_out = hold_out([example], 0.01)
            shown = sum(region.counts[1] > 0 for region in held_out.regions)
            assert shown == wanted, rows
            left = (training[0].labels == 1).sum()
            assert left == 100 * (rows - wanted)

    def test_a_rare_class_is_judged_where_it_can_be_spared(self):
        """Two regions show it: one to learn from, one to be judged on."""
        for seed in range(10):
            example = labelled(seed, classes=1)
            example.labels[2:12, 2:12] = 1
            example.labels[70:80, 70:80] = 1
            training, held_out = hold_out([example], 0.1)
            assert (training[0].labels == 1).sum() == 100
            assert sum(region.counts[1] for region in held_out.regions) == 100

    def test_an_image_without_structure_is_divided_somehow(self):
        """Regions of the same pixels have the same hash."""
        flat = Example(np.zeros((1, 96, 96), np.float32), np.zeros((96, 96), np.uint8))
        training, held_out = hold_out([flat], 0.2)
        assert 0 < len(held_out) < 9
        assert known_pixels(training) > 0


class TestConfusions:
    def test_context_makes_a_region_equal_the_whole_image(self):
        torch.manual_seed(0)
        model = create_model("unet", width=4, depth=2).eval()
        model.halo = 64
        example = labelled(0, (200, 230))
        _, held_out = hold_out([example], 0.3)
        with torch.no_grad():
            whole = model(torch.from_numpy(example.image)[None])[0].argmax(0).numpy()
        counts = held_out.confusions(model)
        assert counts.shape == (len(held_out), 2, 2)
        for region, matrix in zip(held_out.regions, counts, strict=True):
            truth, found = example.labels[region.box], whole[region.box]
            expected = [
                [(found[truth == t] == p).sum() for p in (0, 1)] for t in (0, 1)
            ]
            np.testing.assert_array_equal(matrix, expected)

    @pytest.mark.parametrize("shape", [(32, 32), (33, 65), (97, 34)])
    @pytest.mark.parametrize("depth", [1, 4])
    def test_regions_at_the_border_see_an_image_large_enough(self, shape, depth):
        model = create_model("unet", width=2, depth=depth).eval()
        examples = [labelled(seed, shape) for seed in range(4)]
        _, held_out = hold_out(examples, 0.5)
        counts = held_out.confusions(model)
        pixels = [region.known for region in held_out.regions]
        np.testing.assert_array_equal(counts.sum(axis=(1, 2)), pixels)

    def test_the_first_regions_are_always_the_same(self):
        _, held_out = hold_out([labelled(1, (160, 160))], 0.5)
        few = held_out.first(3)
        assert few.regions == held_out.regions[:3]
        assert len(held_out.first(1000)) == len(held_out)


def matrices(hits: list[int], pixels: int = 100) -> NDArray[np.int64]:
    """Return a confusion matrix per region, with so many right pixels in each class."""
    return np.array([[[n, pixels - n], [pixels - n, n]] for n in hits], np.int64)


class Scripted:
    """Stands for held-out regions: mistakes of one training state after another."""

    def __init__(self, *hits: list[int]) -> None:
        self._states = iter(hits)

    def confusions(self, model: object) -> NDArray[np.int64]:
        self._last = matrices(next(self._states))
        return self._last

    @property
    def places(self) -> list[int]:
        return list(range(len(self._last)))


class TestWatch:
    @pytest.mark.parametrize(
        ("states", "fallen"),
        [
            # The best was lucky in one region.
            ([[90, 60, 60, 60], [70, 62, 61, 61]], False),
            ([[90, 91, 92, 93], [70, 71, 60, 75]], True),
            # It fell, and has recovered.
            ([[90, 91, 92, 93], [70, 71, 60, 75], [90, 90, 93, 93]], False),
            ([[70, 71, 60, 75], [90, 91, 92, 93]], False),
            ([[90, 90]], False),
        ],
    )
    def test_a_fall_counts_beyond_chance_only(self, states, fallen):
        watch = Watch(Scripted(*states))
        scores = [watch(None) for _ in states]
        assert scores[0] == pytest.approx(np.mean(states[0]) / 100)
        assert watch.has_fallen() is fallen

    def test_nothing_was_scored_yet(self):
        assert Watch(Scripted()).has_fallen() is False


def judged(
    before: list[int], after: list[int], places: list[int] | None = None
) -> Verdict:
    where = list(range(len(before))) if places is None else places
    return compare(matrices(before), matrices(after), where)


class TestVerdict:
    def test_better(self):
        verdict = judged([60, 62, 58, 61], [90, 88, 93, 91])
        assert verdict.improved
        assert verdict.sentence == "Better on held-out pixels."
        assert verdict.gain == pytest.approx(0.3025)
        assert verdict.interval[0] < verdict.gain < verdict.interval[1]
        assert (verdict.regions, verdict.pixels) == (4, 800)

    def test_worse(self):
        verdict = judged([90, 92, 91], [60, 65, 61])
        assert not verdict.improved
        assert verdict.sentence == "Worse on held-out pixels."

    @pytest.mark.parametrize(
        "after",
        [
            [90, 90, 90, 90],
            [95, 85, 91, 90],
            [99, 90, 88, 89],
            # One region alone has gained: another draw might not hold it.
            [99, 90, 90, 90],
        ],
    )
    def test_no_clear_gain(self, after):
        verdict = judged([90, 90, 90, 90], after)
        assert not verdict.improved
        assert verdict.sentence == "No clear gain on held-out pixels."

    def test_a_tiny_gain_everywhere_is_none(self):
        before, more = matrices([90] * 6), matrices([91] * 6)
        verdict = compare(10 * before, 9 * before + more, range(6))
        assert verdict.interval[0] > 0
        assert 0 < verdict.gain < 0.002
        assert not verdict.improved
        assert verdict.sentence == "No clear gain on held-out pixels."

    def test_too_little(self):
        none = np.zeros((0, 2, 2), np.int64)
        verdict = compare(none, none, [])
        assert not verdict.improved
        assert verdict.sentence.startswith("Too little is labelled")
        assert np.isnan(verdict.gain)
        values = verdict.to_dict()
        assert values["interval"] is None
        # Two regions that are both better are no proof either.
        verdict = judged([60, 70], [80, 75])
        assert verdict.gain > 0
        assert not verdict.improved
        assert verdict.sentence.startswith("Too little is labelled")
        assert values["before"]["mean_dice"] is None

    def test_one_window_is_too_little(self):
        """Nine squares of it, all better: what was learned may hold only there."""
        verdict = judged([60] * 9, [90] * 9, [0] * 9)
        assert verdict.gain > 0
        assert not verdict.improved
        assert verdict.sentence.startswith("Too little is labelled")
        assert verdict.to_dict()["places"] == 1

    def test_the_squares_of_a_window_count_together(self):
        """Many squares of one window have gained, those of two others have lost."""
        before, after = [70] * 8, [90] * 6 + [65, 66]
        assert judged(before, after).improved
        verdict = judged(before, after, [0] * 6 + [1, 2])
        assert not verdict.improved
        assert verdict.sentence == "No clear gain on held-out pixels."

    def test_is_ready_for_json_and_repeats_itself(self):
        texts = [
            json.dumps(
                judged([60, 70, 65], [80, 75, 80]).to_dict(),
                allow_nan=False,
            )
            for _ in range(2)
        ]
        assert texts[0] == texts[1]
        assert json.loads(texts[0])["improved"] is True
