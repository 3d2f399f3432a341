"""Which crops training sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_seg.errors import NothingToLearnError
from napari_seg.training.sampling import CropSampler, Example, MixedSampler

UNKNOWN = 255
CROP = 32


def numbered(shape: tuple[int, int], weight: float = 1.0, offset: int = 0) -> Example:
    """An image whose pixels are numbered, without a known label yet."""
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) + offset
    return Example(pixels, np.full(shape, UNKNOWN, np.uint8), weight)


def scribbled(
    shape: tuple[int, int], marks: dict[int, list[tuple[int, int]]]
) -> Example:
    """An image in which single pixels are known: class id → places."""
    example = numbered(shape)
    for class_id, places in marks.items():
        for place in places:
            example.labels[place] = class_id
    return example


places = st.lists(
    st.tuples(st.integers(0, 39), st.integers(0, 69)), min_size=1, max_size=6
)


@settings(max_examples=50, deadline=None)
@given(
    marks=st.dictionaries(st.integers(0, 4), places, min_size=1), seed=st.integers(0)
)
def test_every_crop_holds_a_known_pixel(marks, seed):
    sampler = CropSampler([scribbled((40, 70), marks)], CROP, seed % 2**32)
    images, labels = sampler.batch(8)
    assert images.shape == (8, 1, CROP, CROP)
    assert images.dtype == torch.float32
    assert labels.shape == (8, CROP, CROP)
    assert labels.dtype == torch.uint8
    assert (labels != UNKNOWN).flatten(1).any(dim=1).all()


def test_labels_lie_on_their_pixels():
    rng = np.random.default_rng(0)
    example = numbered((60, 80))
    example.labels[:] = rng.integers(0, 3, (60, 80))
    images, labels = CropSampler([example], CROP, 1).batch(20)
    flat = example.labels.ravel()
    np.testing.assert_array_equal(labels.numpy(), flat[images[:, 0].long().numpy()])


def test_a_rare_class_is_in_about_a_third_of_the_crops():
    """One pixel among ten thousand: half of the draws choose a class uniformly."""
    example = numbered((100, 100))
    example.labels[:] = 0
    example.labels[50:, :] = 1
    example.labels[3, 97] = 2
    _, labels = CropSampler([example], CROP, 0).batch(300)
    share = (labels == 2).flatten(1).any(dim=1).float().mean()
    assert 0.5 / 3 < share < 0.5


def test_classes_are_drawn_by_share_and_alike_in_equal_parts():
    """A class of 90 % leads half of the draws by its share and 1/2 of the others."""
    example = numbered((200, 200))
    example.labels[:180], example.labels[180:] = 0, 1
    sampler = CropSampler([example], 1, 0)
    _, labels = sampler.batch(2000)
    assert float((labels == 0).float().mean()) == pytest.approx(0.7, abs=0.04)


def test_a_small_correction_is_seen_beside_a_large_region():
    large, small = numbered((128, 128)), numbered((128, 128), offset=100_000)
    large.labels[:] = 1
    small.labels[60:68, 60:68] = 1
    images, _ = CropSampler([large, small], CROP, 0).batch(600)
    share = float((images[:, 0, 0, 0] >= 100_000).float().mean())
    # The root of 64 pixels against that of 16384: 8 to 128.
    assert share == pytest.approx(8 / 136, abs=0.03)


def test_weight_counts_as_pixels_do():
    images = [numbered((64, 64), 9.0), numbered((64, 64), 1.0, offset=100_000)]
    for example in images:
        example.labels[:] = 0
    drawn, _ = CropSampler(images, CROP, 0).batch(800)
    share = float((drawn[:, 0, 0, 0] < 100_000).float().mean())
    assert share == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("shape", [(20, 70), (70, 20), (5, 5)])
def test_small_images_are_filled_up_with_unknown(shape):
    example = numbered(shape)
    example.labels[:] = 1
    images, labels = CropSampler([example], CROP, 0).batch(6)
    assert images.shape == (6, 1, CROP, CROP)
    known = (labels != UNKNOWN).sum(dim=(1, 2))
    assert (known == min(shape[0], CROP) * min(shape[1], CROP)).all()
    # Beyond the border, the border goes on.
    assert images.max() <= example.image.max()


def test_the_same_seed_draws_the_same_crops():
    example = scribbled((64, 64), {0: [(1, 1), (50, 50)], 1: [(30, 30)]})
    first, again, other = (CropSampler([example], CROP, s) for s in (7, 7, 8))
    for _ in range(3):
        drawn = [sampler.batch(4)[0] for sampler in (first, again, other)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def test_the_examples_stay_as_they_are():
    example = scribbled((20, 64), {1: [(1, 1)]})
    before = example.image.copy(), example.labels.copy()
    images, labels = CropSampler([example], CROP, 0).batch(2)
    images.zero_()
    labels.zero_()
    np.testing.assert_array_equal(example.image, before[0])
    np.testing.assert_array_equal(example.labels, before[1])


def test_images_without_a_known_pixel_are_left_out():
    empty, full = numbered((64, 64), offset=100_000), numbered((64, 64))
    full.labels[:] = 0
    sampler = CropSampler([empty, full], CROP, 0)
    assert sampler.classes == [0]
    assert (sampler.batch(50)[0] < 100_000).all()


def test_nothing_known_at_all_is_refused_with_a_way_out():
    with pytest.raises(NothingToLearnError, match="brush or accept a region"):
        CropSampler([numbered((64, 64))], CROP)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_replay_has_its_share_whatever_its_size(share):
    """Fifty earlier images must not crowd out the one that was just corrected."""
    new = scribbled((64, 64), {1: [(30, 30)]})
    earlier = [numbered((64, 64), offset=100_000) for _ in range(50)]
    for example in earlier:
        example.labels[:] = 0
    mixed = MixedSampler(
        CropSampler([new], CROP), CropSampler(earlier, CROP), share, seed=1
    )
    images, labels = mixed.batch(400)
    assert images.shape == (400, 1, CROP, CROP)
    assert labels.shape == (400, CROP, CROP)
    found = float((images[:, 0, 0, 0] >= 100_000).float().mean())
    assert found == pytest.approx(share, abs=0.07)


class TestPriority:
    """An example that is forgotten is drawn more often."""

    @staticmethod
    def share_of_second(sampler: CropSampler, losses: tuple[float, float]) -> float:
        count = 0
        for _ in range(50):
            crops = sampler.draw(8)
            second = [bool(image.mean() > 0.5) for image, _ in crops]
            sampler.learn_from([losses[each] for each in second])
            count += sum(second)
        return count / 400

    @staticmethod
    def sampler(**options: bool) -> CropSampler:
        examples = [
            Example(
                np.full((1, 64, 64), value, np.float32), np.zeros((64, 64), np.uint8)
            )
            for value in (0.0, 1.0)
        ]
        return CropSampler(examples, 32, seed=0, **options)

    def test_by_the_loss(self):
        share = self.share_of_second(self.sampler(prioritized=True), (0.1, 0.9))
        assert 0.8 < share < 0.95, "about six times as often"
        share = self.share_of_second(self.sampler(prioritized=True), (0.0, 0.0))
        assert 0.4 < share < 0.6

    def test_only_where_it_is_asked_for(self):
        share = self.share_of_second(self.sampler(), (0.1, 0.9))
        assert 0.4 < share < 0.6

    def test_one_that_was_easy_once_is_looked_at_again(self):
        share = self.share_of_second(self.sampler(prioritized=True), (0.0, 1.0))
        assert 0.85 < share < 0.98

    def test_a_crop_without_known_pixels_says_nothing(self):
        nothing = float("nan")
        sampler = self.sampler(prioritized=True)
        share = self.share_of_second(sampler, (nothing, nothing))
        assert 0.4 < share < 0.6
        share = self.share_of_second(sampler, (nothing, 0.5))
        assert 0.4 < share < 0.6, "what is not known of the first is taken as high"

    def test_one_that_was_not_seen_yet_comes_soon(self):
        sampler = self.sampler(prioritized=True)
        seen = set()
        for _ in range(12):
            ((image, _),) = sampler.draw(1)
            seen.add(float(image.mean()))
            sampler.learn_from([0.1])
        assert seen == {0.0, 1.0}

    def test_a_mixture_tells_each_what_is_its_own(self):
        heard = {}

        class Heard(CropSampler):
            def learn_from(self, losses):
                heard[self.name] = list(losses)

        example = Example(
            np.zeros((1, 64, 64), np.float32), np.zeros((64, 64), np.uint8)
        )
        samplers = [Heard([example], 32, seed=seed) for seed in range(3)]
        for sampler, name in zip(samplers, ("new", "drawn", "old"), strict=True):
            sampler.name = name
        new, drawn, old = samplers
        mixed = MixedSampler(MixedSampler(new, drawn, 0.5), old, 0.5)
        mixed.batch(32)
        assert mixed.replayed == 32 - len(new._drawn)
        mixed.learn_from(list(range(mixed.replayed)))
        assert min(len(heard[name]) for name in ("drawn", "old")) > 2
        assert heard["old"] + heard["drawn"] == list(range(mixed.replayed))
        assert heard["new"] == []
