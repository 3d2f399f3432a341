"""Telling objects apart by a second decoder: made, trained, run in tiles, saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_seg.errors import InputError, LabelsError
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import (
    adapt_model,
    create_model,
    with_object_head,
    without_object_head,
)
from napari_seg.objects.instances import find_objects
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.scoring.objects import score_objects
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.examples import prepare_image
from napari_seg.training.finetune import FinetuneOptions, finetune
from napari_seg.training.objects import (
    few_numbers,
    number_examples,
    object_loss,
    object_targets,
)
from napari_seg.training.pretrain_objects import (
    together_loss,
    train_object_head,
    train_together,
)
from napari_seg.training.sampling import Example

ABLE = [
    ("unet", {"width": 4, "depth": 2}),
    ("unet", {"encoder": "resnet18"}),
    ("deeplabv3plus", {"encoder": "resnet18"}),
]


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = create_model("unet", classes=["background", "nucleus"], width=8, depth=2)
    return with_object_head(model)


@pytest.mark.parametrize(("arch", "options"), ABLE)
def test_the_classes_stay_what_they_were(arch, options):
    torch.manual_seed(0)
    plain = create_model(arch, 1, **options).eval()
    able = with_object_head(plain)
    x = torch.rand(1, 1, 45, 70)
    with torch.no_grad():
        logits, maps = able.logits_and_objects(x)
        assert torch.equal(logits, plain(x))
        assert torch.equal(able(x), logits)
        assert torch.equal(able.objects(x), maps)
        assert torch.equal(without_object_head(able)(x), logits)
    assert maps.shape == (1, 3, 45, 70)


def test_others_have_none_and_say_so():
    with pytest.raises(InputError, match="unet, deeplabv3plus can"):
        create_model("fcn8s", object_head=True)
    image = np.zeros((64, 64), np.uint8)
    with pytest.raises(InputError, match="object_head=True"):
        stream(create_model("unet", width=4), image, objects=True)


def test_it_is_saved_and_kept_for_other_classes(net, tmp_path):
    loaded = load_model(save_model(net, tmp_path / "net"))
    more = adapt_model(loaded, in_channels=3, classes=["background", "nucleus", "cell"])
    for key, value in net.object_head.state_dict().items():
        assert torch.equal(loaded.object_head.state_dict()[key], value)
        assert torch.equal(more.object_head.state_dict()[key], value)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_tiles_say_what_the_whole_image_does(net, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    image = synthetic_nuclei((150, 170), 12, seed=1).image
    net.halo = 64

    def maps(tile):
        found = np.zeros((3, *image.shape), np.float16)
        options = PredictOptions(tile=tile, runtime=runtime)
        for each in stream(net, image, options=options, objects=True):
            found[(slice(None), *each.region)] = each.objects
        return found.astype(np.float32)

    np.testing.assert_allclose(maps(48), maps(256), atol=0.02)


def test_ways_are_in_pixels_of_the_image(net):
    image = synthetic_nuclei((64, 64), 3, seed=1).image
    large = np.kron(image, np.ones((2, 2), image.dtype))

    def way(pixels, zoom):
        (tile,) = stream(net, pixels, options=PredictOptions(zoom=zoom), objects=True)
        return np.abs(tile.objects[1:].astype(np.float32)).mean()

    assert way(large, 0.5) == pytest.approx(2 * way(image, 1.0), rel=0.1)


def test_mirror_images_are_refused(net):
    options = PredictOptions(flips=True)
    with pytest.raises(InputError, match="has a direction"):
        stream(net, np.zeros((64, 64), np.uint8), options=options, objects=True)


def test_targets_point_to_a_pixel_inside():
    numbers = np.zeros((40, 40), np.uint8)
    numbers[5:35, 5:35] = 7
    # The centroid of a horseshoe lies outside of it.
    numbers[5:30, 12:28] = 0
    numbers[38:, :] = 255
    maps, known = object_targets(numbers)
    y, x = np.nonzero(numbers == 7)
    ends = {
        (a + int(maps[1, a, b]), b + int(maps[2, a, b]))
        for a, b in zip(y, x, strict=True)
    }
    (centre,) = ends
    assert numbers[centre] == 7
    assert maps[0][centre] == 1
    assert not known[38:].any()
    assert known[:38].all()


def test_what_is_unknown_adds_nothing_to_the_loss():
    numbers = torch.zeros(1, 32, 32, dtype=torch.uint8)
    numbers[:, 4:12, 4:12] = 3
    numbers[:, 20:] = 255
    maps = torch.rand(1, 3, 32, 32)
    other = maps.clone()
    other[:, :, 20:] = 1e6
    assert object_loss(maps, numbers) == object_loss(other, numbers)
    wanted = torch.from_numpy(object_targets(numbers[0].numpy())[0])[None]
    assert object_loss(wanted, numbers) == 0


def test_it_learns_and_nothing_else_does(net):
    sample = synthetic_nuclei((192, 192), 14, seed=2)
    numbers = few_numbers(sample.instances, np.random.default_rng(0))
    assert set(np.unique(numbers)) <= set(range(255))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    example = Example(prepare_image(sample.image, net.spec), numbers)
    losses = train_object_head(net, [example], 25)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    changed = [
        key
        for key, value in net.state_dict().items()
        if not torch.equal(before[key], value)
    ]
    assert changed
    assert all(key.startswith("object_head.") for key in changed)


def test_classes_and_head_learn_together(net):
    sample = synthetic_nuclei((192, 192), 14, seed=2)
    numbers = few_numbers(sample.instances, np.random.default_rng(0))
    example = Example(prepare_image(sample.image, net.spec), numbers)
    losses = train_together(net, [example], 25)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_gaps_between_objects_weigh_more_and_seams_are_left_to_the_head():
    numbers = torch.zeros((1, 32, 64), dtype=torch.uint8)
    numbers[:, 8:24, 4:14], numbers[:, 8:24, 17:28] = 3, 7  # three pixels between
    numbers[:, 8:24, 40:48], numbers[:, 8:24, 48:56] = 9, 2  # they touch
    numbers[:, :4] = UNKNOWN
    outputs = torch.zeros((1, 5, 32, 64), requires_grad=True)
    together_loss(outputs, numbers).backward()
    slope = outputs.grad[0, 1]
    assert slope[16, 15] > 2 * slope[16, 34] > 0, "between two; beside one"
    assert not slope[16, 47:49].any()
    assert (slope[16, 41:46] < 0).all()
    assert not slope[:4].any()
    assert outputs.grad[0, 2, 16, 47] != 0, "the head learns there"
    assert not outputs.grad[0, 2:, :4].any()


def test_objects_become_numbers_and_those_that_are_cut_stay_unknown() -> None:
    labels = np.zeros((20, 40), np.uint8)
    labels[5:15, 4:20] = 1  # two objects that touch
    labels[5:15, 26:36] = 1  # one that reaches into what is unknown
    labels[:, 34:] = UNKNOWN
    ids = np.zeros((20, 40), np.int64)
    ids[5:15, 4:12], ids[5:15, 12:20], ids[5:15, 26:36] = 2**40, 5, 9
    example = Example(np.zeros((1, 20, 40), np.float32), labels)
    (numbered,) = number_examples([example], [ids])
    numbers = numbered.labels
    assert len(set(np.unique(numbers[5:15, 4:20])) - {0, UNKNOWN}) == 2
    assert set(np.unique(numbers[5:15, 26:])) == {UNKNOWN}
    assert not numbers[:5, :34].any()
    # Without ids the labels tell: the two that touch have no waist.
    (found,) = number_examples([example], [None])
    assert len(np.unique(found.labels[5:15, 4:20])) == 1


@given(
    arrays(np.uint8, (24, 30), elements=st.sampled_from([0, 0, 1, 1, 2, UNKNOWN])),
    st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_numbers_say_nothing_that_labels_do_not(labels: np.ndarray, seed: int) -> None:
    example = Example(np.zeros((1, *labels.shape), np.float32), labels)
    (numbered,) = number_examples([example], [None], seed)
    numbers = numbered.labels
    assert (numbers[labels == UNKNOWN] == UNKNOWN).all()
    assert (numbers[labels == 0] == 0).all()
    assert (numbers[(labels > 0) & (labels < UNKNOWN)] > 0).all()


def touching(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of pairs of squares, labels in which they are one, and ids."""
    rng = np.random.default_rng(seed)
    image, ids = rng.normal(20, 2, (128, 128)), np.zeros((128, 128), np.int32)
    for number, (y, x) in enumerate(np.ndindex(3, 3)):
        top, left = 6 + 40 * y, 6 + 40 * x
        ids[top : top + 16, left : left + 14] = 2 * number + 1
        ids[top : top + 16, left + 14 : left + 28] = 2 * number + 2
        image[top : top + 16, left : left + 28] += 60
        image[top : top + 16, left + 13 : left + 15] -= 25
    return image.astype(np.float32), (ids > 0).astype(np.uint8), ids


def test_fine_tuning_teaches_a_head_what_the_shape_does_not_say() -> None:
    torch.manual_seed(1)
    model = with_object_head(create_model("unet", width=8, depth=2))
    images, labels, ids = zip(*map(touching, (0, 1)), strict=True)
    options = FinetuneOptions(
        crop=64, batch=4, learning_rate=4e-3, augmentation=AugmentOptions(scale=1)
    )
    result = finetune(model, images, labels, steps=70, objects=ids, options=options)
    image, mask, truth = touching(2)
    (tile,) = stream(result.model, image, objects=True)
    found = find_objects(mask, "model", maps=tile.objects)
    by_shape = find_objects(mask)
    assert score_objects(by_shape, truth).ap[0] == 0
    assert score_objects(found, truth).ap[0] > 0.8
    # The classes were learned beside it.
    assert result.after.mean_dice > 0.9


def test_objects_that_do_not_fit_are_refused(net) -> None:
    model, (image, labels, ids) = net, touching(0)
    with pytest.raises(LabelsError, match="each needs its own"):
        finetune(model, [image], [labels], steps=1, objects=[ids, ids])
    with pytest.raises(LabelsError, match="id of its object"):
        finetune(model, [image], [labels], steps=1, objects=[ids[1:]])
    with pytest.raises(LabelsError, match="integers from 0"):
        finetune(model, [image], [labels], steps=1, objects=[ids - 1])
