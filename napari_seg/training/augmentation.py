"""Augmentation of training batches, on the device where they lie.

Geometry moves image and labels together; intensity changes the image alone, in the
ways in which one microscope differs from the next.

All slices of a volume are turned and scaled alike, within their planes: voxels are
rarely cubes, and a turn out of the plane would show what no microscope shows (as
nnU-Net does with anisotropic images; Isensee et al. 2021). Along Z they are mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_seg.options import Options, option

__all__ = ["AugmentOptions", "augment"]


@dataclass(frozen=True)
class AugmentOptions(Options):
    """How far a training image may be changed."""

    flips: bool = option(True, "Flips", "Mirror images and turn them by 90°.")
    rotation: float = option(
        180.0,
        "Rotation",
        "Largest angle by which an image is turned.",
        minimum=0,
        maximum=180,
        unit="°",
    )
    scale: float = option(
        1.25,
        "Scale",
        "Largest factor by which an image is made bigger or smaller.",
        minimum=1,
        maximum=4,
        step=0.05,
    )
    intensity: float = option(
        0.5,
        "Intensity",
        "Strength of changes of contrast, brightness, gamma and illumination.",
        minimum=0,
        maximum=2,
        step=0.1,
    )
    blur: float = option(
        0.3,
        "Blur and noise",
        "Share of images that are blurred, and of those that are made noisy.",
        minimum=0,
        maximum=1,
        step=0.1,
    )
    inversion: float = option(
        0.0,
        "Inversion",
        "Share of images whose bright and dark are exchanged.",
        minimum=0,
        maximum=1,
        step=0.1,
    )
    stain: float = option(
        0.0,
        "Stain",
        "Share of images in which the colours are mixed anew, as another stain or "
        "camera would; of three channels, some become gray.",
        minimum=0,
        maximum=1,
        step=0.1,
    )
    clutter: float = option(
        0.0,
        "Clutter",
        "Share of images whose background becomes patchy, as cytoplasm, out-of-focus "
        "light or a shadow makes it.",
        minimum=0,
        maximum=1,
        step=0.1,
    )


def augment(
    images: Tensor, labels: Tensor, options: AugmentOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return changed copies of a batch.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) or (N, C, D, H, W) float32, normalised to about 0..1.
    labels : Tensor
        (N, H, W) or (N, D, H, W) uint8; 255 is unknown, and what comes in from outside
        becomes 255.
    options : AugmentOptions
        Strengths.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    tuple of Tensor
        Images and labels of the same shapes and dtypes.
    """
    if images.ndim == 5:
        images, labels = _move_volumes(images, labels, options, generator)
    else:
        images, labels = _move(images, labels, options, generator)
    draw = _Draw(len(images), generator, images.ndim - 2)
    if options.clutter:
        images = _clutter(images, draw, options.clutter)
    if options.intensity:
        images = _tone(images, options.intensity, draw)
    if options.stain:
        images = _stain(images, draw, options.stain)
    if options.inversion:
        inverted = draw.chosen(options.inversion).to(images.device)
        images = torch.where(inverted, 1 - images, images)
    if options.blur:
        images = _blur(images, options.blur, generator)
        images = _add_noise(images, options.blur, generator)
    return images, labels


@dataclass(frozen=True)
class _Draw:
    """Random values on the CPU, one for each image (and channel)."""

    count: int
    generator: torch.Generator
    ndim: int

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        shape = (self.count, channels, *(1,) * self.ndim)
        values = torch.rand(shape, generator=self.generator)
        return low + (high - low) * values

    def chosen(self, share: float) -> Tensor:
        return self.uniform(0, 1) < share


def _move_volumes(
    images: Tensor, labels: Tensor, options: AugmentOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Move all slices of a volume alike; with flips, mirror every other one along Z."""
    flat = images.flatten(1, 2)
    moved, ids = _move(flat, labels, options, generator)
    moved = moved.view(images.shape)
    if options.flips:
        flipped = (torch.rand(len(images), generator=generator) < 0.5).to(moved.device)
        along = flipped.view(-1, 1, 1, 1)
        ids = torch.where(along, ids.flip(1), ids)
        moved = torch.where(along[:, None], moved.flip(2), moved)
    return moved, ids


def _move(
    images: Tensor, labels: Tensor, options: AugmentOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rotate, scale and mirror; bilinear for images, nearest for labels."""
    count = len(images)
    uniform = torch.rand(4, count, generator=generator)
    angle = (2 * uniform[0] - 1) * math.radians(options.rotation)
    scale = torch.exp((2 * uniform[1] - 1) * math.log(options.scale))
    mirror = torch.where(uniform[2] < 0.5 if options.flips else uniform[2] < 0, -1, 1)
    if options.flips:
        angle = angle + (uniform[3] * 4).floor() * (math.pi / 2)
    cos, sin, zero = torch.cos(angle) / scale, torch.sin(angle) / scale, angle * 0
    matrix = torch.stack(
        [
            torch.stack([cos * mirror, -sin, zero], dim=1),
            torch.stack([sin * mirror, cos, zero], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(
        images, grid, "bilinear", padding_mode="reflection", align_corners=False
    )
    # Shifted by one so that the zeros from outside are told from class 0.
    shifted = (labels.float() + 1).view(count, -1, *labels.shape[-2:])
    ids = F.grid_sample(
        shifted, grid, "nearest", padding_mode="zeros", align_corners=False
    ).view(labels.shape)
    ids = torch.where(ids == 0, 255.0, ids - 1)
    return moved, ids.to(labels.dtype)


def _tone(images: Tensor, strength: float, draw: _Draw) -> Tensor:
    """Change illumination, gamma, contrast and brightness.

    Illumination is a plane that tilts at random; contrast and brightness of an image
    change in all channels alike or in each by its own (stain).
    """
    channels, device = images.shape[1], images.device
    tilt = draw.uniform(-0.4, 0.4, 2) * strength
    gamma = torch.exp(draw.uniform(-0.6, 0.6) * strength)
    gray = draw.uniform(0, 1) < 0.5
    shared, single = draw.uniform(-1, 1), draw.uniform(-1, 1, channels)
    contrast = torch.exp(0.4 * strength * torch.where(gray, shared, single))
    shared, single = draw.uniform(-1, 1), draw.uniform(-1, 1, channels)
    brightness = 0.2 * strength * torch.where(gray, shared, single)
    # One transfer to a GPU: each takes as long as a pass over the images.
    numbers = torch.cat([tilt, gamma, contrast, brightness], dim=1).to(device)
    tilt, gamma, contrast, brightness = numbers.split([2, 1, channels, channels], dim=1)
    y, x = (torch.linspace(-1, 1, n, device=device) for n in images.shape[-2:])
    plane = 1 + tilt[:, :1] * y[:, None] + tilt[:, 1:] * x
    images = images * plane
    images = images.clamp(min=0) ** gamma + images.clamp(max=0)
    return torch.addcmul(brightness, images, contrast)


def _clutter(images: Tensor, draw: _Draw, share: float) -> Tensor:
    """Lay soft-edged patches over the dark parts of an image, or over the bright ones.

    The former is what cytoplasm and light from other depths do to bright objects (and
    to the ground between dark ones), the latter what a shadow does.
    """
    # Where a coarse random field is high: patches of a sixth to a half of the crop.
    cells = 3 + int(torch.randint(6, (), generator=draw.generator))
    coarse = torch.randn(draw.count, 1, cells, cells, generator=draw.generator)
    size = images.shape[-2:]
    field = F.interpolate(
        coarse.to(images.device), size, mode="bicubic", align_corners=False
    )
    # Light from other depths lies over all slices alike.
    field = field.view(draw.count, 1, *(1,) * (draw.ndim - 2), *size)
    device = images.device
    steepness = torch.exp(draw.uniform(0, 5)).to(device)
    level = draw.uniform(-0.8, 0.8).to(device)
    patches = torch.sigmoid(steepness * (field - level))
    strength = (draw.uniform(0.1, 0.6) * draw.chosen(share)).to(device)
    bright = draw.chosen(0.5).to(device)
    covered = torch.where(bright, 1 - images, images)
    covered = covered + strength * patches * (1 - covered).clamp(min=0)
    return torch.where(bright, 1 - covered, covered)


def _stain(images: Tensor, draw: _Draw, share: float) -> Tensor:
    """Mix the channels anew; of three, a third of the changed images become gray."""
    channels = images.shape[1]
    if channels == 1:
        return images
    generator, count = draw.generator, draw.count
    # Rows of positive shares that sum to one: the range of intensities stays.
    mix = torch.rand(count, channels, channels, generator=generator) ** 2 + 1e-3
    gray = torch.rand(count, 1, 1, generator=generator) < 1 / 3
    mix = torch.where(gray, mix[:, :1], mix)
    mix = mix / mix.sum(dim=2, keepdim=True)
    mixed = torch.einsum("ncm,nm...->nc...", mix.to(images.device), images)
    # How much of the contrast each channel shows, and on how bright a ground.
    contrast = draw.uniform(0.3, 1, channels)
    contrast = torch.where(gray.view(-1, *(1,) * (draw.ndim + 1)), 1.0, contrast)
    ground = draw.uniform(0, 1, channels) * (1 - contrast)
    chosen = draw.chosen(share)
    contrast, ground, chosen = (
        each.to(images.device) for each in (contrast, ground, chosen)
    )
    return torch.where(chosen, mixed * contrast + ground, images)


def _add_noise(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Add white noise of a strength of its own to a share of the images."""
    strength = 0.12 * torch.rand(len(images), generator=generator)
    chosen = torch.rand(len(images), generator=generator) < share
    if not chosen.any():
        return images
    # Drawn for the chosen ones only: most of a batch has none.
    some = images[chosen.to(images.device)]
    noise = torch.randn(some.shape, generator=generator)
    noise = noise * strength[chosen].reshape(-1, *(1,) * (images.ndim - 1))
    noisy = images.clone()
    noisy[chosen.to(images.device)] = some + noise.to(images.device)
    return noisy


def _blur(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Blur a share of the images with one Gaussian kernel."""
    count, channels = images.shape[:2]
    chosen = torch.rand(count, generator=generator) < share
    if not chosen.any():
        return images
    sigma = 0.4 + 1.4 * float(torch.rand(1, generator=generator))
    radius = math.ceil(2.5 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    some = images[chosen]
    # Volumes slice by slice.
    planes = some.movedim(1, -3).reshape(-1, channels, *images.shape[-2:])
    planes = F.pad(planes, (radius,) * 4, mode="reflect")
    planes = F.conv2d(planes, kernel, groups=channels)
    planes = F.conv2d(planes, kernel.transpose(2, 3), groups=channels)
    blurred = images.clone()
    blurred[chosen] = planes.reshape(some.movedim(1, -3).shape).movedim(-3, 1)
    return blurred
