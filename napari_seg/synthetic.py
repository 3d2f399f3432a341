"""Synthetic fluorescence nuclei with exact masks.

Where the truth must be known to the pixel (tests, benchmarks, training beside real
images) it has to be generated.  The image is made the way a camera makes one: stained
bodies, the lens that blurs them, light that falls unevenly, photons that are counted.

A compact relative of the generators of Lehmussola et al., "Computational framework
for simulating fluorescence microscope images with cell populations", IEEE Trans. Med.
Imaging 26(7), 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft

from napari_seg.errors import InputError
from napari_seg.options import Options, option

__all__ = ["Optics", "SyntheticNuclei", "synthetic_nuclei"]

Field: TypeAlias = npt.NDArray[np.float32]

_CAMERA_OFFSET = 100.0
_GREY_LEVELS_PER_ELECTRON = 4.0
_TRIES = 80
# A nucleus that is set against another may share this part of its area with it; the
# shared pixels are then divided between the two.
_LARGEST_OVERLAP = 0.12
# Bodies reach at most this many mean radii from their centre.
_REACH = 2.2


@dataclass(frozen=True)
class Optics(Options):
    """How the microscope sees the nuclei."""

    blur: float = option(
        1.2, "Blur", "Sigma of the Gaussian point spread.", minimum=0, unit="px"
    )
    haze: float = option(
        0.3, "Haze", "Light of nuclei out of focus.", minimum=0, maximum=2
    )
    unevenness: float = option(
        0.35, "Unevenness", "Part of the light lost far off axis.", minimum=0, maximum=1
    )
    background: float = option(
        0.08, "Background", "Light between the nuclei.", minimum=0, maximum=2
    )
    photons: float = option(
        150.0, "Photons", "Electrons per pixel of a nucleus.", minimum=1, maximum=10_000
    )
    read_noise: float = option(
        3.0, "Read noise", "Standard deviation, electrons.", minimum=0, maximum=100
    )
    debris: int = option(
        8, "Debris", "Bright specks that are no nuclei.", minimum=0, maximum=10_000
    )


class SyntheticNuclei(NamedTuple):
    """An image and its truth.

    Attributes
    ----------
    image : (Y, X) uint16
        Camera counts.
    mask : (Y, X) uint8
        0 background, 1 nucleus.
    instances : (Y, X) uint16
        0 background, then one number for each nucleus, without gaps.
    """

    image: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint16]


def synthetic_nuclei(
    shape: tuple[int, int] = (512, 512),
    n: int = 60,
    seed: int = 0,
    touching: float = 0.3,
    *,
    radius: float = 14.0,
    optics: Optics | None = None,
) -> SyntheticNuclei:
    """Generate a field of fluorescent nuclei.

    A pixel belongs to a nucleus where its centre lies inside the outline, before blur.
    Centres lie inside the image; bodies may be cut by its border.

    Parameters
    ----------
    shape : (int, int)
        Y and X in pixels, at least 32 each.
    n : int
        Nuclei wanted.  One that finds no room in 80 tries is left out.
    seed : int
        Same seed and arguments, same field.
    touching : float
        Fraction of the nuclei that are set against an earlier one, 0 to 1.
    radius : float
        Mean radius in pixels, 2 to 200; nuclei vary around it.
    optics : Optics, optional
        Blur, light and noise.

    Returns
    -------
    SyntheticNuclei
        Unpacks as ``image, mask, instances``.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    _check(shape, n, touching, radius)
    optics = Optics() if optics is None else optics
    rng = np.random.default_rng(seed)
    margin = int(np.ceil(_REACH * radius)) + 1
    instances, depth = _scatter(rng, shape, n, touching, radius, margin)
    stain = _stain(rng, instances, depth, radius)
    inner = (slice(margin, -margin), slice(margin, -margin))
    light = _through_lens(rng, stain, radius, optics)[inner]
    image = _camera(rng, light * _illumination(rng, shape, optics), optics)
    seen = np.ascontiguousarray(instances[inner])
    return SyntheticNuclei(image, (seen > 0).astype(np.uint8), seen)


def _check(shape: tuple[int, int], n: int, touching: float, radius: float) -> None:
    if min(shape) < 32:
        raise InputError(f"shape is {shape}; it can be (Y, X) of at least 32 px each.")
    if not 0 <= n < 2**16:
        raise InputError(f"n is {n}; it can be 0 to 65535 nuclei.")
    if not 0 <= touching <= 1:
        raise InputError(f"touching is {touching}; it can be a fraction from 0 to 1.")
    if not 2 <= radius <= 200:
        raise InputError(f"radius is {radius}; it can be 2 to 200 px.")


def _scatter(
    rng: np.random.Generator,
    shape: tuple[int, int],
    n: int,
    touching: float,
    radius: float,
    margin: int,
) -> tuple[npt.NDArray[np.uint16], Field]:
    """Place bodies on a canvas with a margin, so that no body leaves the canvas.

    Returns
    -------
    instances : (Y + 2 margin, X + 2 margin) uint16
    depth : same shape, float32
        0 in a body's centre, 1 on its outline, infinite outside.
    """
    canvas = tuple(side + 2 * margin for side in shape)
    instances = np.zeros(canvas, np.uint16)
    depth = np.full(canvas, np.inf, np.float32)
    centres: list[npt.NDArray[np.int64]] = []
    for _ in range(n):
        body = _body(rng, radius)
        partner = centres[rng.integers(len(centres))] if centres else None
        if rng.random() >= touching:
            partner = None
        spot = _find_room(rng, instances, body, shape, margin, partner)
        if spot is None:
            continue
        centres.append(spot)
        window = _window(spot, body)
        inside = (body < 1) & (body < depth[window])
        instances[window][inside] = len(centres)
        depth[window][inside] = body[inside]
    return instances, depth


def _body(rng: np.random.Generator, radius: float) -> Field:
    """Distance to the centre over distance to the outline: a bumpy ellipse."""
    mean = radius * np.exp(rng.normal(0, 0.13))
    elongation = np.exp(abs(rng.normal(0, 0.22)))
    half = int(np.ceil(_REACH * radius))
    offset = rng.uniform(-0.5, 0.5, 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1] - offset[:, None, None]
    angle = np.arctan2(y, x) - rng.uniform(0, 2 * np.pi)
    ellipse = mean / np.hypot(
        np.cos(angle) / np.sqrt(elongation), np.sin(angle) * np.sqrt(elongation)
    )
    waves = np.arange(2, 7)[:, None, None]
    heights = rng.normal(0, 0.07, waves.shape) / waves
    phases = rng.uniform(0, 2 * np.pi, waves.shape)
    bumps = 1 + (heights * np.cos(waves * angle + phases)).sum(axis=0)
    outline = np.minimum(ellipse * bumps, half)
    return np.asarray(np.hypot(y, x) / outline, np.float32)


def _window(spot: npt.NDArray[np.int64], body: Field) -> tuple[slice, slice]:
    half = body.shape[0] // 2
    y, x = (int(c) for c in spot)
    return slice(y - half, y + half + 1), slice(x - half, x + half + 1)


def _find_room(
    rng: np.random.Generator,
    instances: npt.NDArray[np.uint16],
    body: Field,
    shape: tuple[int, int],
    margin: int,
    partner: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.int64] | None:
    """Find a free spot, or one against `partner`; None if every try fails."""
    half = body.shape[0] // 2
    if partner is None:
        spots = rng.integers(0, shape, (_TRIES, 2)) + margin
        # Alone means a gap of about a fifth of the radius all around.
        footprint, least, most = body < 1.2, 0, 0
    else:
        turns, steps = rng.random(_TRIES) * 2 * np.pi, rng.uniform(0.5, 1.2, _TRIES)
        away = np.stack([np.sin(turns), np.cos(turns)], axis=1) * steps[:, None] * half
        spots = partner + np.rint(away).astype(np.int64)
        footprint = body < 1
        least, most = 1, int(_LARGEST_OVERLAP * np.count_nonzero(footprint))
    inside = np.all((spots >= margin) & (spots < np.add(shape, margin)), axis=1)
    for spot in spots[inside]:
        shared = np.count_nonzero(instances[_window(spot, body)][footprint])
        if least <= shared <= most:
            return np.asarray(spot)
    return None


def _stain(
    rng: np.random.Generator,
    instances: npt.NDArray[np.uint16],
    depth: Field,
    radius: float,
) -> Field:
    """Amount of dye per pixel: thickness of the body, brightness, chromatin."""
    brightness = np.exp(rng.normal(0, 0.3, int(instances.max()) + 1))
    # A few condensed (mitotic or dying) nuclei outshine the others.
    brightness[rng.random(brightness.size) < 0.04] *= 2.2
    brightness[0] = 0
    # A flattened dome: nearly flat in the middle, steep at the rim.
    thickness = np.sqrt(np.clip(1 - np.minimum(depth, 1) ** 4, 0, None))
    grain = 0.12 * _texture(rng, depth.shape, 0.07 * radius)
    clouds = 0.18 * _texture(rng, depth.shape, 0.25 * radius)
    nucleoli = np.clip(_texture(rng, depth.shape, 0.16 * radius) - 1.1, 0, 1)
    chromatin = np.exp(grain + clouds) * (1 - 0.55 * nucleoli)
    return np.asarray(brightness[instances] * thickness * chromatin, np.float32)


def _through_lens(
    rng: np.random.Generator, stain: Field, radius: float, optics: Optics
) -> Field:
    """Light on the camera, 1 for a nucleus of median brightness in focus."""
    # Nuclei above and below the focal plane: this field upside down and displaced.
    shift = tuple(int(side * rng.uniform(0.2, 0.8)) for side in stain.shape)
    elsewhere = np.roll(stain[::-1, ::-1], shift, (0, 1))
    haze = 0.5 * _blur(stain, 2 * radius) + _blur(elsewhere, 0.8 * radius)
    focused = stain + _debris(rng, stain.shape, optics.debris)
    light = _blur(focused, optics.blur) + optics.haze * haze + optics.background
    return np.asarray(light, np.float32)


def _debris(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Field:
    specks = np.zeros(shape, np.float32)
    y, x = (rng.integers(0, side, count) for side in shape)
    np.add.at(specks, (y, x), rng.uniform(5, 25, count).astype(np.float32))
    return _blur(specks, 1.2)


def _illumination(
    rng: np.random.Generator, shape: tuple[int, int], optics: Optics
) -> Field:
    """Gaussian beam whose axis misses the centre of the image."""
    axis = rng.uniform(0.3, 0.7, 2) * shape
    y, x = (np.arange(side) - c for side, c in zip(shape, axis, strict=True))
    far = np.hypot(*np.asarray(shape)) / 2
    off_axis = (y[:, None] ** 2 + x[None, :] ** 2) / far**2
    beam = 1 - optics.unevenness * (1 - np.exp(-1.5 * off_axis))
    return np.asarray(beam, np.float32)


def _camera(
    rng: np.random.Generator, light: Field, optics: Optics
) -> npt.NDArray[np.uint16]:
    electrons = rng.poisson(np.clip(light, 0, None) * optics.photons)
    read = rng.normal(0, optics.read_noise, light.shape)
    counts = _CAMERA_OFFSET + _GREY_LEVELS_PER_ELECTRON * (electrons + read)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Field:
    """Gaussian random field of mean 0, variance 1 and grain `scale` px."""
    noise = _blur(rng.standard_normal(shape, np.float32), scale)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _blur(field: Field, sigma: float) -> Field:
    """Gaussian filter with periodic borders: equally fast for any `sigma` (px)."""
    if sigma == 0:
        return field
    frequencies = fft.fftfreq(field.shape[0]), fft.rfftfreq(field.shape[1])
    y, x = (np.exp(-2 * (np.pi * sigma * f) ** 2) for f in frequencies)
    spectrum = fft.rfft2(field) * np.asarray(y[:, None] * x[None, :], np.float32)
    return np.asarray(fft.irfft2(spectrum, s=field.shape), np.float32)
