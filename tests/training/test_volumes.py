"""Learning from volumes: crops, augmentation, losses, guard, and the whole way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_seg
from napari_seg.errors import ImageError, LabelsError
from napari_seg.models.registry import create_model
from napari_seg.training.augmentation import AugmentOptions, augment
from napari_seg.training.distillation import Distillation
from napari_seg.training.examples import prepare_examples
from napari_seg.training.finetune import FinetuneOptions, default_options
from napari_seg.training.guard import hold_out
from napari_seg.training.losses import LOSSES
from napari_seg.training.sampling import CropSampler, Example

UNKNOWN = 255
STILL = AugmentOptions(
    flips=False, rotation=0, scale=1, intensity=0, blur=0, inversion=0, stain=0
)


def make(**changes):
    torch.manual_seed(0)
    options = {"width": 4, "depth": 2, "anisotropy": 2.0}
    return create_model("unet3d", **(options | changes))


def balls(seed: int, shape=(16, 64, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Return bright ellipsoids, half as high in slices as wide, and where they are."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[tuple(map(slice, shape))]
    labels = np.zeros(shape, np.uint8)
    for _ in range(8):
        c = rng.integers((3, 8, 8), np.subtract(shape, (3, 8, 8)))
        labels[(2 * (z - c[0])) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 60] = 1
    image = 1000 + 800.0 * labels + rng.normal(0, 150, shape)
    return image.clip(0).astype(np.uint16), labels


class TestCrops:
    def test_they_hold_known_voxels_and_their_labels(self):
        labels = np.full((9, 40, 48), UNKNOWN, np.uint8)
        labels[7, 30, 40], labels[2, 3, 5] = 1, 0
        image = np.where(labels == UNKNOWN, 9, labels).astype(np.float32)[None]
        sampler = CropSampler([Example(image, labels)], (4, 32, 32))
        images, drawn = sampler.batch(16)
        assert images.shape == (16, 1, 4, 32, 32)
        assert drawn.shape == (16, 4, 32, 32)
        assert bool((drawn != UNKNOWN).flatten(1).any(1).all())
        assert bool((images[:, 0][drawn != UNKNOWN] == drawn[drawn != UNKNOWN]).all())

    def test_thin_and_small_volumes_are_filled_up_with_unknown(self):
        image, labels = np.ones((1, 3, 20, 40), np.float32), np.ones((3, 20, 40))
        example = Example(image, labels.astype(np.uint8))
        images, drawn = CropSampler([example], (4, 32, 32)).batch(2)
        assert bool((images == 1).all())
        assert int((drawn[0] == 1).sum()) <= 3 * 20 * 32
        assert set(drawn.unique().tolist()) == {1, UNKNOWN}


class TestAugmentation:
    def batch(self):
        random = torch.Generator().manual_seed(0)
        labels = torch.randint(2, (3, 6, 32, 32), generator=random).to(torch.uint8)
        return labels[:, None].float(), labels

    def test_nothing_is_changed_without_options(self):
        images, labels = self.batch()
        moved, ids = augment(images, labels, STILL, torch.Generator())
        torch.testing.assert_close(moved, images)
        assert torch.equal(ids, labels)

    def test_image_and_labels_move_together_within_their_slices(self):
        images, labels = self.batch()
        turning = replace(STILL, flips=True)
        moved, ids = augment(images, labels, turning, torch.Generator().manual_seed(3))
        assert torch.equal(moved[:, 0].round(), ids.float())
        assert not torch.equal(ids, labels)
        # Mirrored and turned by 90° a slice keeps its sum, perhaps at another height.
        for before, after in zip(labels, ids, strict=True):
            sums, new = (each.sum((1, 2), dtype=torch.int) for each in (before, after))
            assert new.tolist() in (sums.tolist(), sums.flip(0).tolist())

    def test_all_of_it_together_is_finite_and_differs_from_slice_to_slice_in_nothing(
        self,
    ):
        flat = torch.rand(4, 2, 1, 32, 32).expand(-1, -1, 5, -1, -1).contiguous()
        labels = torch.zeros(4, 5, 32, 32, dtype=torch.uint8)
        strong = AugmentOptions(
            intensity=1, blur=0, inversion=0.5, stain=1, clutter=1, scale=1.5
        )
        moved, ids = augment(flat, labels, strong, torch.Generator().manual_seed(0))
        assert moved.shape == flat.shape
        assert ids.shape == labels.shape
        torch.testing.assert_close(moved, moved[:, :, :1].expand_as(moved))
        noisy, _ = augment(flat, labels, AugmentOptions(blur=1), torch.Generator())
        assert bool(noisy.isfinite().all())
        assert not torch.equal(noisy[:, :, 0], noisy[:, :, 1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_losses_count_voxels_as_pixels(name, weights):
    logits = torch.randn(2, 3, 4, 8, 10)
    target = torch.randint(3, (2, 4, 8, 10))
    target[:, 1] = UNKNOWN
    flat = LOSSES[name](
        logits.flatten(2, 3), target.flatten(1, 2), class_weights=weights
    )
    deep = LOSSES[name](logits, target, class_weights=weights)
    torch.testing.assert_close(deep, flat)


def test_self_distillation_is_zero_for_the_start_itself():
    model = make().eval()
    images = torch.rand(2, 1, 4, 32, 32)
    with torch.no_grad():
        logits = model(images)
    labels = torch.full((2, 4, 32, 32), UNKNOWN, dtype=torch.uint8)
    labels[0] = logits[0].argmax(0)
    term = Distillation(model, 1.0, 1.0)(images, logits, labels, 1)
    assert float(term) == pytest.approx(0, abs=1e-5)


def test_blocks_are_held_out_with_their_surroundings():
    image, labels = balls(0, (20, 64, 64))
    labels[:, 40:] = UNKNOWN
    (example,) = prepare_examples([image], [labels], make().spec)
    training, held_out = hold_out([example], 0.4)
    hidden = (training[0].labels == UNKNOWN) & (labels != UNKNOWN)
    assert hidden.any()
    model = make().eval()
    known = sum(int((truth != UNKNOWN).sum()) for _, truth in held_out.logits(model))
    assert known == int(hidden.sum())
    for logits, truth in held_out.logits(model):
        assert logits.shape == (2, *truth.shape)
    assert held_out.confusions(model).sum() == known


class TestFinetune:
    OPTIONS = FinetuneOptions(
        learning_rate=1e-2, batch=2, crop=32, average=0.9, augmentation=STILL
    )

    def test_balls_are_learned_and_found_in_another_volume(self):
        result = napari_seg.finetune(
            make(),
            *map(list, zip(balls(1), balls(2), strict=True)),
            steps=30,
            options=self.OPTIONS,
            device="cpu",
        )
        image, truth = balls(3)
        mask = napari_seg.predict(result.model, image, axes="ZYX").labels
        assert napari_seg.score(mask, truth).dice[1] > 0.85
        assert result.verdict.regions > 0
        assert result.after.mean_dice > result.before.mean_dice
        assert result.model.spec.history[-1]["known_pixels"] > 0

    def test_a_second_time_with_replay_and_a_new_class(self):
        model = make(classes=["background", "ball", "cube"])
        (image, labels), old = balls(1), balls(2)
        labels[4:8, 4:14, 4:14] = 2
        model.spec = model.spec.with_history({})
        result = napari_seg.finetune(
            model,
            [image],
            [labels],
            steps=2,
            replay=([old[0]], [old[1]]),
            options=self.OPTIONS,
            device="cpu",
        )
        assert len(result.history) == 2
        assert result.earlier is not None

    def test_planes_and_labels_of_other_shapes_are_refused(self):
        image, labels = balls(0)
        with pytest.raises(ImageError, match="is a plane, and the model learns from"):
            napari_seg.finetune(make(), [image[0]], [labels[0]], steps=1)
        with pytest.raises(LabelsError, match="16 × 64 × 64 pixels"):
            napari_seg.finetune(make(), [image], [labels[:4]], steps=1)

    def test_usual_options_fit_into_memory(self):
        options = default_options(make().spec)
        assert options.batch * options.crop**3 < 1e6
        assert default_options(create_model("unet").spec) == FinetuneOptions()

    def test_what_is_known_already_is_changed_more_slowly(self):
        spec = make().spec
        new, tuned = map(default_options, (spec, spec.with_history({"steps": 9})))
        assert tuned.learning_rate < new.learning_rate
        assert replace(tuned, learning_rate=new.learning_rate) == new


def test_blocks_above_each_other_are_one_place():
    image, labels = balls(0, (16, 64, 64))
    places = [("stack", 0, 0), ("stack", 0, 0), ("stack", 0, 256), ("later", 0, 0)]
    # Each with other pixels, as at another place.
    examples = prepare_examples(
        [image + i for i in range(4)],
        [labels] * 4,
        make().spec,
        [[[0, 2000]]] * 4,
        places,
    )
    _, held_out = hold_out(examples, 0.9)
    assert len(held_out) > 4
    by_place = {}
    for region in held_out.regions:
        by_place.setdefault(region.place, set()).add(region.example)
    assert sorted(map(sorted, by_place.values())) == [[0, 1], [2], [3]]
