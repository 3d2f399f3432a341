"""Procedural images of what microscopes often show, with their truth.

Branching lines (vessels, neurites, cracks), packed cells with their membranes, cells in
phase contrast, and smears of stained cells of several kinds.  A network that has told
these apart needs fewer labels of a real image that resembles one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree
from skimage.draw import disk

from napari_seg.training.textures import DrawnImage, draw_blob, draw_texture

__all__ = ["MOTIFS", "halos", "membranes", "networks", "smears"]

_Image = NDArray[np.float32]


def networks(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw branching lines that get thinner, on uneven ground.

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        Gray or RGB, with 0 ground and 1 line.
    """
    width = _between(2, 10, rng)
    lines = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(2, 9)):
        start = rng.uniform(-0.1 * side, 1.1 * side, 2)
        _grow(lines, start, rng.uniform(0, 2 * np.pi), width * rng.uniform(0.4, 1), rng)
    mask = (lines > 0).astype(np.uint8)
    # Thin lines are fainter than thick ones, all the more after the blur.
    depth = np.where(mask, (lines / width) ** rng.uniform(0, 0.8), 0)
    depth = gaussian_filter(depth, rng.uniform(0.4, 1.3))
    ground = _uneven(side, rng) + rng.uniform(0, 0.5) * (draw_texture(side, rng) - 0.5)
    for _ in range(rng.poisson(2)):
        # What is not a line, but as bright or dark: spots, a disc.
        spot = draw_blob(
            side, rng.uniform(0, side, 2), _between(2, side / 5, rng), 0.1, rng
        )
        ground += rng.uniform(-0.4, 0.4) * gaussian_filter(spot, rng.uniform(0.5, 4))
    image = ground + _sign(rng) * rng.uniform(0.1, 0.5) * depth
    return DrawnImage(_finish(image, rng), mask)


def membranes(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw packed cells, the membranes between them, and organelles.

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        Gray, with 0 inside of cells, 1 membrane, 2 organelle.
    """
    size = _between(10, side / 4, rng)
    count = max(int((side / size) ** 2), 4)
    centres = rng.uniform(-0.2 * side, 1.2 * side, (2 * count, 2))
    # Two nearest centres as far away: an edge of the Voronoi diagram, here warped.
    bend, reach = rng.uniform(0, 0.5) * size, rng.uniform(0.3, 1) * size
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    points = np.stack(
        [axis + bend * _smooth(side, reach, rng) for axis in (rows, columns)], axis=-1
    )
    distances, nearest = cKDTree(centres).query(points, k=2)
    thickness = _between(1, 4, rng)
    edge = (distances[..., 1] - distances[..., 0]) / 2 < thickness / 2 + 0.3
    cells = nearest[..., 0]
    tone = rng.normal(0, rng.uniform(0, 0.12), len(centres)).astype(np.float32)
    image = 0.5 + tone[cells] + rng.uniform(0, 0.6) * (draw_texture(side, rng) - 0.5)
    mask = np.zeros((side, side), np.uint8)
    sign = _sign(rng)
    for _ in range(rng.poisson(count * rng.uniform(0, 1.2))):
        centre = rng.uniform(0, side, 2)
        inside = draw_blob(side, centre, _between(3, size / 2.5, rng), 0.15, rng) > 0
        rim = inside & (distance_transform_edt(inside) < 1.5)
        mask[inside] = 2
        image[inside] += sign * rng.uniform(0.05, 0.25)
        image[rim] += sign * rng.uniform(0, 0.25)
    for _ in range(rng.poisson(count * rng.uniform(0, 2))):
        # Vesicles: grains that belong to the inside.
        place = disk(rng.uniform(0, side, 2), rng.uniform(1, 2.5), shape=mask.shape)
        image[place] += rng.uniform(-0.2, 0.2)
    mask[edge] = 1
    image[edge] = 0.5 + sign * rng.uniform(0.15, 0.45)
    image = gaussian_filter(image, rng.uniform(0.4, 1.4))
    return DrawnImage(_finish(image, rng, gray=True), mask)


def halos(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw cells as in phase contrast: a low contrast inside, a halo around.

    A phase ring passes high frequencies and dims low ones, so that what is seen is the
    phase less a blurred copy of it (Yin et al. 2012, "Understanding the phase contrast
    optics to restore artifact-free microscopy images for segmentation", Medical Image
    Analysis 16).

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        Gray, with 0 ground and 1 cell.
    """
    radius = _between(5, side / 7, rng)
    mask = np.zeros((side, side), np.uint8)
    phase = np.zeros((side, side), np.float32)
    rough, bulge = rng.uniform(0.1, 0.5), rng.uniform(0.2, 1)
    for _ in range(1 + rng.poisson((side / radius) ** 2 * rng.uniform(0.02, 0.15))):
        own = radius * rng.uniform(0.7, 1.4)
        cell = draw_blob(side, rng.uniform(0, side, 2), own, rough, rng) > 0
        if not cell.any() or mask[cell].mean() > 0.1:
            continue
        height = (distance_transform_edt(cell) / own) ** bulge
        phase += cell * (0.2 + height) * rng.uniform(0.6, 1.4)
        mask[cell] = 1
    grain = draw_texture(side, rng) - 0.5
    phase *= 1 + rng.uniform(0, 2) * grain
    phase = gaussian_filter(phase, rng.uniform(0.5, 1.2))
    halo = gaussian_filter(phase, rng.uniform(0.4, 1.2) * radius)
    image = _sign(rng) * (phase - rng.uniform(0.6, 1.2) * halo)
    image += rng.uniform(0, 0.5) * (draw_texture(side, rng) - 0.5)
    image += 0.3 * _uneven(side, rng)
    return DrawnImage(_finish(image, rng, gray=True), mask)


def smears(side: int, rng: np.random.Generator) -> DrawnImage:
    """Draw stained cells of two kinds: pale ones, and those with a nucleus.

    What is absorbed adds up where cells lie on each other (Beer-Lambert law).

    Parameters
    ----------
    side : int
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DrawnImage
        RGB or gray on a bright ground, with 0 ground, 1 pale cell, 2 nucleus,
        3 the body of a cell that has one.
    """
    radius = _between(6, side / 9, rng)
    mask = np.zeros((side, side), np.uint8)
    layers = np.zeros((3, side, side), np.float32)
    pale = rng.uniform(0, 0.9)
    for _ in range(rng.poisson((side / radius) ** 2 * rng.uniform(0.05, 0.25))):
        cell = draw_blob(side, rng.uniform(0, side, 2), radius, 0.04, rng)
        layers[0] += cell - pale * gaussian_filter(cell, 0.4 * radius) * cell
        mask[cell > 0] = 1
    for _ in range(1 + rng.poisson((side / radius) ** 2 * rng.uniform(0.002, 0.03))):
        centre, own = rng.uniform(0, side, 2), radius * rng.uniform(1.1, 2)
        body = draw_blob(side, centre, own, 0.08, rng) > 0
        nucleus = np.zeros_like(body)
        for _ in range(rng.integers(1, 4)):
            lobe = rng.normal(0, 0.25 * own, 2)
            size = own * rng.uniform(0.3, 0.65)
            nucleus |= draw_blob(side, centre + lobe, size, 0.12, rng) > 0
        nucleus &= body
        # Such a cell displaces the pale ones.
        layers[0][body] = 0
        layers[1][body], layers[2][body] = 1, 0
        layers[2][nucleus] = 1
        mask[body], mask[nucleus] = 3, 2
    layers *= 1 + rng.uniform(0, 0.8) * (2 * draw_texture(side, rng) - 1)
    blur = rng.uniform(0.4, 1.3)
    layers = np.stack([gaussian_filter(layer, blur) for layer in layers])
    channels = 3 if rng.random() < 0.8 else 1
    stains = rng.uniform(0.05, 0.7, (3, channels)) * [[1], [1], [rng.uniform(1, 2.5)]]
    image = np.exp(-np.einsum("lyx,lc->yxc", layers, stains))
    image *= 0.7 + 0.3 * _uneven(side, rng)[..., None]
    image += rng.normal(0, rng.uniform(0, 0.03), image.shape)
    image = image[..., 0] if channels == 1 else image
    return DrawnImage(image.astype(np.float32), mask)


#: Every motif by name; each is a kind of its own in pretraining.
MOTIFS = {
    "networks": networks,
    "membranes": membranes,
    "halos": halos,
    "smears": smears,
}


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """Return a size; every scale is as likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice([-1, 1]))


def _smooth(side: int, reach: float, rng: np.random.Generator) -> _Image:
    """Return noise of unit variance that is smooth over `reach` pixels."""
    noise = gaussian_filter(rng.standard_normal((side, side)), reach, mode="wrap")
    smooth: _Image = (noise / max(float(noise.std()), 1e-6)).astype(np.float32)
    return smooth


def _uneven(side: int, rng: np.random.Generator) -> _Image:
    """Return illumination that varies over the image, around 0.5."""
    return 0.5 + rng.uniform(0, 0.25) * _smooth(side, side / 4, rng)


def _grow(
    lines: _Image,
    place: NDArray[np.float64],
    angle: float,
    width: float,
    rng: np.random.Generator,
) -> None:
    """Draw a line and its branches into `lines`, which holds widths."""
    side = lines.shape[0]
    bend, forks = rng.uniform(0.02, 0.25), rng.uniform(0.005, 0.05)
    pending = [(place, angle, width)]
    budget = 6 * side
    while pending and budget > 0:
        place, angle, width = pending.pop()
        while width > 0.9 and budget > 0:
            budget -= 1
            rows, columns = disk(place, max(width / 2, 0.71), shape=lines.shape)
            lines[rows, columns] = np.maximum(lines[rows, columns], width)
            angle += bend * rng.normal()
            place = place + 1.2 * np.array([np.sin(angle), np.cos(angle)])
            if not (place.min() > -20 and place.max() < side + 20):
                break
            if rng.random() < forks:
                # The cross-sections of both branches are that of the trunk.
                share = rng.uniform(0.3, 0.95)
                turn = _sign(rng) * rng.uniform(0.3, 1.3)
                pending.append((place, angle + turn, width * (1 - share**2) ** 0.5))
                width *= share


def _finish(image: _Image, rng: np.random.Generator, *, gray: bool = False) -> _Image:
    """Return the image with noise, now and then in colours, about 0 to 1."""
    low, high = np.percentile(image, (1, 99.5))
    image = ((image - low) / max(high - low, 1e-6)).astype(np.float32)
    if not gray and rng.random() < 0.4:
        # Bright and dark each have a colour.
        dark, bright = np.sort(rng.uniform(0, 1, (2, 3)), axis=0)
        colours = dark + image[..., None] * (bright - dark + 0.1)
        image = colours.astype(np.float32)
    noisy = image + rng.normal(0, rng.uniform(0, 0.1), image.shape)
    return noisy.astype(np.float32)
