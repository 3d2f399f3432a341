"""Augmentation moves image and labels as one, and invents no label."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_seg.errors import InputError
from napari_seg.training.augmentation import AugmentOptions, augment

UNKNOWN = 255
NOTHING = AugmentOptions(
    flips=False, rotation=0, scale=1, intensity=0, blur=0, inversion=0
)
STRONG = AugmentOptions(scale=2.0, intensity=2.0, blur=1.0, inversion=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, channels: int = 2, side: int = 48):
    images = torch.rand(count, channels, side, side, generator=seeded(1))
    labels = torch.randint(3, (count, side, side), generator=seeded(2)).byte()
    labels[:, :10] = UNKNOWN
    return images, labels


def test_no_option_changes_nothing():
    images, labels = batch()
    same, kept = augment(images, labels, NOTHING, seeded())
    torch.testing.assert_close(same, images, atol=1e-4, rtol=1e-4)
    assert torch.equal(kept, labels)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rotation=st.floats(0, 180), scale=st.floats(1, 3))
def test_labels_move_with_the_image(seed, rotation, scale):
    """Wherever the image shows the disc, the labels say so."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((y - 20) ** 2 + (x - 40) ** 2 < 12**2) | (
        (y - 45) ** 2 + (x - 15) ** 2 < 25
    )
    options = replace(NOTHING, flips=True, rotation=rotation, scale=scale)
    images, labels = augment(
        disc.float()[None, None].repeat(4, 1, 1, 1),
        disc.byte()[None].repeat(4, 1, 1),
        options,
        seeded(seed),
    )
    known = labels != UNKNOWN
    seen = images[:, 0] > 0.5
    # Bilinear and nearest disagree on the rim alone.
    rim = (images[:, 0] > 0.02) & (images[:, 0] < 0.98)
    assert torch.equal(seen[known & ~rim], labels[known & ~rim] == 1)


def test_all_eight_positions_of_a_square_occur():
    corner = torch.zeros(1, 1, 32, 32)
    corner[..., :8, :4] = 1
    options = replace(NOTHING, flips=True)
    images, _ = augment(
        corner.repeat(200, 1, 1, 1),
        torch.zeros(200, 32, 32, dtype=torch.uint8),
        options,
        seeded(),
    )
    assert len({tuple(image.gt(0.5).flatten().tolist()) for image in images}) == 8


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    ids=st.sets(st.integers(0, 255), min_size=1, max_size=6),
)
def test_no_new_id_appears(seed, ids):
    """Ids are moved, never interpolated; what comes in from outside is unknown."""
    chosen = torch.tensor(sorted(ids), dtype=torch.uint8)
    labels = chosen[torch.randint(len(chosen), (3, 40, 40), generator=seeded(seed))]
    _, moved = augment(torch.rand(3, 1, 40, 40), labels, STRONG, seeded(seed))
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) <= ids | {UNKNOWN}


def test_unknown_stays_unknown():
    images, labels = batch()
    labels[:] = UNKNOWN
    _, moved = augment(images, labels, STRONG, seeded())
    assert (moved == UNKNOWN).all()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_values_stay_finite_over_the_whole_range_of_normalised_images(channels):
    images = 2.5 * torch.rand(16, channels, 32, 32, generator=seeded()) - 0.5
    images[0], images[1] = 0, 1
    changed, labels = augment(
        images, torch.zeros(16, 32, 32, dtype=torch.uint8), STRONG, seeded()
    )
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert labels.shape == (16, 32, 32)
    assert changed.isfinite().all()
    assert changed.abs().max() < 30


def test_inversion_exchanges_bright_and_dark_in_a_share_of_the_images():
    images, labels = batch(count=400, channels=1, side=32)
    changed, kept = augment(images, labels, replace(NOTHING, inversion=0.25), seeded())
    inverted = (changed - (1 - images)).abs().flatten(1).amax(dim=1) < 1e-3
    same = (changed - images).abs().flatten(1).amax(dim=1) < 1e-3
    assert (inverted ^ same).all()
    assert float(inverted.float().mean()) == pytest.approx(0.25, abs=0.07)
    assert torch.equal(kept, labels)


def test_intensity_changes_the_image_alone():
    images, labels = batch()
    changed, kept = augment(images, labels, replace(NOTHING, intensity=1), seeded())
    assert torch.equal(kept, labels)
    assert ((changed - images).abs().flatten(1).amax(dim=1) > 0.02).all()


def test_blur_keeps_the_mean_and_takes_the_contrast():
    images, labels = batch(count=8, channels=2)
    changed, _ = augment(images, labels, replace(NOTHING, blur=1), seeded())
    torch.testing.assert_close(
        changed.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.02, rtol=0
    )
    assert (changed.std(dim=(2, 3)) < 0.8 * images.std(dim=(2, 3))).all()


def test_the_same_seed_gives_the_same_batch_and_leaves_the_global_state_alone():
    images, labels = batch()
    state = torch.get_rng_state()
    first, again, other = (
        augment(images, labels, STRONG, seeded(seed))[0] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_batch_that_was_given_stays_as_it_is():
    images, labels = batch()
    before = images.clone(), labels.clone()
    augment(images, labels, STRONG, seeded())
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize(
    "changes", [{"rotation": 181}, {"scale": 0.5}, {"blur": 1.5}, {"intensity": -1}]
)
def test_strengths_out_of_range_are_refused(changes):
    with pytest.raises(InputError, match=f"{next(iter(changes))} is"):
        AugmentOptions(**changes)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_stain_keeps_range_labels_and_what_is_darker(seed):
    images = torch.rand(6, 3, 40, 40, generator=seeded(seed))
    labels = torch.randint(3, (6, 40, 40), generator=seeded(seed)).byte()
    options = replace(NOTHING, stain=0.6)
    stained, kept = augment(images, labels, options, seeded(seed))
    darker, _ = augment(0.5 * images, labels, options, seeded(seed))
    assert torch.equal(kept, labels)
    assert stained.min() >= -1e-5
    assert stained.max() <= 1 + 1e-5
    assert (darker <= stained + 1e-5).all(), "dark stays dark"


def test_stain_changes_a_share_of_the_colour_images_and_no_other_ones():
    gray = torch.rand(200, 1, 32, 32, generator=seeded(1)).repeat(1, 3, 1, 1)
    labels = torch.zeros(200, 32, 32).byte()
    options = replace(NOTHING, stain=0.5)
    stained, _ = augment(gray, labels, options, seeded())
    changed = (stained - gray).abs().amax(dim=(1, 2, 3)) > 1e-3
    coloured = (stained[:, 0] - stained[:, 1]).abs().amax(dim=(1, 2)) > 1e-3
    # A third of those that are chosen become gray, which these are already.
    assert 40 < changed.sum() < 95
    assert torch.equal(changed, coloured)
    same, _ = augment(gray[:, :1], labels, options, seeded())
    torch.testing.assert_close(same, gray[:, :1], atol=1e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_clutter_hides_contrast_but_turns_none_around(seed):
    brighter = torch.rand(6, 2, 48, 48, generator=seeded(seed))
    darker = brighter * torch.rand(6, 2, 48, 48, generator=seeded(seed + 1))
    labels = torch.zeros(6, 48, 48).byte()
    options = replace(NOTHING, clutter=1.0)
    over, _ = augment(brighter, labels, options, seeded(seed))
    under, _ = augment(darker, labels, options, seeded(seed))
    assert (over >= under - 1e-5).all()
    assert over.max() <= 1 + 1e-5
    assert under.min() >= -1e-5


def test_clutter_is_seen_in_most_of_the_chosen_images():
    images = torch.rand(60, 1, 48, 48, generator=seeded(1))
    labels = torch.zeros(60, 48, 48).byte()
    cluttered, _ = augment(images, labels, replace(NOTHING, clutter=0.5), seeded())
    changed = ((cluttered - images).abs().amax(dim=(1, 2, 3)) > 0.02).sum()
    assert 15 < changed < 36
