"""The CRF is the paper's mean field, cut into tiles without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_seg.errors import ImageError, InputError, LabelsError
from napari_seg.inference import crf
from napari_seg.inference.crf import CRFOptions, refine


def random_case(classes, channels, height, width, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(classes, height, width, generator=generator, dtype=dtype)
    image = torch.rand(channels, height, width, generator=generator, dtype=dtype)
    return logits.softmax(dim=0), image


def dense_mean_field(probabilities, image, options):
    """Compute the mean field from all pairs of pixels, written down as matrices."""
    classes, height, width = probabilities.shape
    p = probabilities.reshape(classes, -1).numpy().astype(np.float64)
    colour = image.reshape(len(image), -1).numpy().astype(np.float64)
    y, x = (c.ravel() for c in np.mgrid[:height, :width])
    dy, dx = abs(y[:, None] - y), abs(x[:, None] - x)
    contrast = ((colour[:, :, None] - colour[:, None, :]) ** 2).mean(axis=0)
    near = (dy**2 + dx**2) / (2 * options.appearance_distance**2)
    appearance = np.exp(-near - contrast / (2 * options.appearance_intensity**2))
    smoothness = np.exp(-(dy**2 + dx**2) / (2 * options.smoothness_distance**2))

    def normalized(kernel):
        kernel = np.where((dy > options.radius) | (dx > options.radius), 0, kernel)
        np.fill_diagonal(kernel, 0)
        root = np.sqrt(kernel.sum(axis=1))
        return kernel / root[:, None] / root[None, :]

    pairwise = options.appearance_weight * normalized(appearance)
    pairwise += options.smoothness_weight * normalized(smoothness)
    potts = 1 - np.eye(classes)
    belief = p
    for _ in range(options.iterations):
        energy = -np.log(p) + potts @ belief @ pairwise
        belief = np.exp(-energy)
        belief /= belief.sum(axis=0)
    return belief.reshape(probabilities.shape)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("radius", [3, 16])
def test_equals_the_dense_mean_field(classes, radius):
    probabilities, image = random_case(classes, 3, 13, 16, torch.float64)
    options = CRFOptions(radius=radius, appearance_intensity=0.3, smoothness_weight=1.5)
    refined = refine(probabilities, image, options)
    expected = dense_mean_field(probabilities, image, options)
    np.testing.assert_allclose(refined.numpy(), expected, atol=1e-9)


def test_single_precision_is_precise_enough():
    probabilities, image = random_case(3, 1, 20, 20, torch.float64)
    exact = refine(probabilities, image)
    single = refine(probabilities.float(), image.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=1e-4, rtol=0)


def test_tiles_with_halo_join_without_seams():
    options = CRFOptions(radius=3, iterations=3)
    probabilities, image = random_case(3, 2, 50, 70)
    whole = refine(probabilities, image, options)
    halo = options.halo
    for y, x in [(0, 0), (17, 23), (34, 46)]:
        top, left = max(y - halo, 0), max(x - halo, 0)
        box = (slice(top, y + 16 + halo), slice(left, x + 24 + halo))
        tile = refine(probabilities[:, *box], image[:, *box], options)
        inner = tile[:, y - top : y - top + 16, x - left : x - left + 24]
        torch.testing.assert_close(inner, whole[:, y : y + 16, x : x + 24])


def test_halo_is_not_larger_than_needed():
    options = CRFOptions(radius=2, iterations=2, appearance_intensity=1)
    probabilities, image = random_case(2, 1, 21, 21, torch.float64)
    before = refine(probabilities, image, options)[:, 10, 10]
    image[:, 10, 10 + options.halo] += 1
    at_halo = refine(probabilities, image, options)[:, 10, 10]
    image[:, 10, 10 + options.halo + 1] += 1
    beyond = refine(probabilities, image, options)[:, 10, 10]
    assert not torch.equal(before, at_halo)
    assert torch.equal(at_halo, beyond)


def test_blocks_of_a_large_plane_change_nothing(monkeypatch):
    probabilities, image = random_case(2, 1, 70, 90)
    whole = refine(probabilities, image)
    monkeypatch.setattr(crf, "_BLOCK", 32)
    torch.testing.assert_close(refine(probabilities, image), whole)


def test_probabilities_sum_to_one():
    refined = refine(*random_case(4, 3, 40, 33))
    torch.testing.assert_close(refined.sum(dim=0), torch.ones(40, 33))
    assert refined.min() >= 0


def test_constant_image_and_equal_beliefs_stay_as_they_are():
    half = torch.full((2, 24, 24), 0.5)
    torch.testing.assert_close(refine(half, torch.full((1, 24, 24), 0.3)), half)


def test_without_weights_nothing_changes():
    probabilities, image = random_case(3, 1, 24, 24)
    still = CRFOptions(appearance_weight=0, smoothness_weight=0)
    torch.testing.assert_close(refine(probabilities, image, still), probabilities)


def test_certain_predictions_and_lone_pixels_give_no_nan():
    certain = torch.zeros(2, 24, 24)
    certain[0] = 1
    image = torch.zeros(1, 24, 24)
    image[0, 12, 12] = 1000
    assert refine(certain, image).isfinite().all()


def test_smooths_speckle_where_the_image_is_flat():
    noise = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    truth = (torch.arange(64) < 32).expand(64, 64)
    noise[1] += torch.where(truth, 2.0, -2.0)
    refined = refine(noise.softmax(dim=0), torch.zeros(1, 64, 64))
    wrong_before = (noise.argmax(dim=0) != truth).sum()
    wrong_after = (refined.argmax(dim=0) != truth).sum()
    assert wrong_after < wrong_before / 4


def test_sharpens_a_blurred_boundary():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    angle = np.arctan2(y - 48, x - 48)
    disk = np.hypot(y - 48, x - 48) < 26 + 4 * np.sin(5 * angle)
    image = disk * 0.6 + 0.2 + random.normal(0, 0.03, disk.shape)
    wavy = gaussian_filter(random.standard_normal(disk.shape), 3)
    blurred = gaussian_filter(disk.astype(float), 4) + 0.15 * wavy / wavy.std()
    blurred = blurred.clip(0.02, 0.98)
    probabilities = torch.tensor(np.stack([1 - blurred, blurred]), dtype=torch.float32)
    refined = refine(probabilities, torch.tensor(image[None], dtype=torch.float32))

    def wrong(p):
        return int((p.argmax(dim=0).numpy() != disk).sum())

    assert wrong(probabilities) > 150
    assert wrong(refined) < wrong(probabilities) / 4


def test_input_tensors_are_left_alone():
    probabilities, image = random_case(2, 1, 32, 32)
    copies = probabilities.clone(), image.clone()
    refine(probabilities, image)
    assert torch.equal(probabilities, copies[0])
    assert torch.equal(image, copies[1])


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (lambda p, i: (p[:1] * 0 + 1, i), LabelsError, "two classes or more"),
        (lambda p, i: (p[0], i), LabelsError, r"takes \(K, H, W\)"),
        (lambda p, i: (p * 3, i), LabelsError, "softmax"),
        (lambda p, i: (p * float("nan"), i), LabelsError, "softmax"),
        (lambda p, i: (p.half(), i), LabelsError, "float32 or float64"),
        (lambda p, i: (p, i[:, :-1]), ImageError, r"\(C, 32, 40\)"),
        (lambda p, i: (p, i[0]), ImageError, r"\(C, 32, 40\)"),
        (lambda p, i: (p, i.mul(255).byte()), ImageError, "normalized"),
        (lambda p, i: (p, i / 0), ImageError, "NaN or infinite"),
    ],
)
def test_wrong_inputs_are_refused(spoil, error, told):
    with pytest.raises(error, match=told):
        refine(*spoil(*random_case(2, 1, 32, 40)))


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="radius is 0; it can be 1 to 16 px"):
        CRFOptions(radius=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_gpu_agrees_with_cpu():
    probabilities, image = random_case(3, 2, 100, 120)
    on_gpu = refine(probabilities.cuda(), image.cuda()).cpu()
    torch.testing.assert_close(on_gpu, refine(probabilities, image), atol=1e-4, rtol=0)
