"""Make the masks of the sample images: classical methods, then corrections by hand.

    python sample_data/make_masks.py [--overlays FOLDER]

Reads the images beside this file and writes ``<name>_mask.tif`` there (uint8, zlib).
There is no randomness: a second run writes the same pixels.  The corrections were
placed while looking at the overlays that ``--overlays`` writes.  All coordinates and
lengths are in pixels, (y, x).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage as ndi
from scipy.signal import oaconvolve
from skimage import color, filters, io, morphology, segmentation

FOLDER = Path(__file__).resolve().parent
EVERY_WAY = np.ones((3, 3), int)

Mask: TypeAlias = npt.NDArray[np.bool_]
Plane: TypeAlias = npt.NDArray[np.float64]

# Objects at these places are no nuclei: refractile debris, fibres, brown cytoplasm.
NO_NUCLEI = [
    *[(499, 418), (494, 438), (316, 398), (384, 404)],
    *[(162, 28), (69, 91), (388, 70), (72, 162)],
]
# No vessels: pigment beside the optic disc, a speck.
NO_VESSELS = [(731, 284), (93, 986)]
# Discs (y, x, radius) without vessels that are to be seen: the fovea, and pigment
# that touches a vessel.
NO_VESSEL_DISCS = [(704, 713, 75), (592, 307, 13), (631, 318, 16)]


def ihc(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return 0 background, 1 nucleus, 2 DAB-stained epithelium beside its nuclei."""
    lab = color.rgb2lab(image)
    epithelium = _epithelium(lab)
    haematoxylin, dab = _unmix(image, lab[..., 2], epithelium)
    blue = ndi.gaussian_filter(haematoxylin, 1)
    nuclei = _stroma_nuclei(blue, epithelium)
    nuclei |= _epithelium_nuclei(blue, ndi.gaussian_filter(dab, 1), lab, epithelium)
    nuclei = _without(nuclei, NO_NUCLEI)
    return np.where(nuclei, 1, np.where(epithelium, 2, 0)).astype(np.uint8)


def _epithelium(lab: Plane) -> Mask:
    """Brown tissue, with the nuclei in it, without the lumen."""
    lightness = ndi.gaussian_filter(lab[..., 0], 1)
    sharp, smooth = (ndi.gaussian_filter(lab[..., 2], sigma) for sigma in (1, 1.2))
    brown = ((smooth > 9) & (lightness < 78)) | ((sharp > 2) & (lightness < 66))
    brown = morphology.closing(brown, morphology.disk(4)) & (lightness < 80)
    brown = _at_least(morphology.opening(brown, morphology.disk(4)), 1500)
    return np.asarray(_without_holes(brown, 500) & (lightness < 80))


def _unmix(
    image: npt.NDArray[np.uint8], yellow: Plane, epithelium: Mask
) -> tuple[Plane, Plane]:
    """Colour deconvolution (Ruifrok & Johnston 2001) with the stains of this slide.

    Haematoxylin is taken from dark blue pixels far from brown ones, DAB from the
    brownest tenth of the epithelium.
    """
    density = -np.log((image + 1.0) / 256)
    far = ~ndi.binary_dilation(epithelium, iterations=8)
    blue = density[far & (density[..., 0] > 0.5) & (yellow < -15)].mean(axis=0)
    brownest = epithelium & (yellow > np.percentile(yellow[epithelium], 90))
    brown = density[brownest].mean(axis=0)
    stains = np.stack([blue, brown, np.cross(blue, brown)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = density @ np.linalg.inv(stains)
    return amounts[..., 0], amounts[..., 1]


def _stroma_nuclei(blue: Plane, epithelium: Mask) -> Mask:
    """Blue against pale tissue: a global threshold and a local one."""
    least = 0.75 * filters.threshold_otsu(blue[~epithelium])
    around = filters.threshold_local(blue, 61, method="gaussian")
    nuclei = ~epithelium & (blue > least) & (blue > around + 0.03)
    return _tidy(nuclei, 1, 18, 40)


def _epithelium_nuclei(blue: Plane, dab: Plane, lab: Plane, epithelium: Mask) -> Mask:
    """Blue-grey between brown: bluer than around, cut along dark membranes."""
    lightness = ndi.gaussian_filter(lab[..., 0], 0.7)
    membranes = filters.sato(lightness, sigmas=[1.2], black_ridges=True)
    bluish = blue - 0.4 * dab
    contrast = bluish - ndi.gaussian_filter(bluish, 10) - 0.02 * membranes
    nuclei = _tidy(epithelium & (contrast > 0.015) & (blue > 0.22), 2, 40, 80)
    return _tidy(_smooth(nuclei, 1.2) & epithelium, 2, 45, 80)


def retina(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return 0 background, 1 blood vessel."""
    field = morphology.opening(image[..., 0] > 60, morphology.disk(5))
    field = ndi.binary_fill_holes(field)
    darkness = _darkness(image[..., 1].astype(float), field)
    ridges = np.maximum.reduce(
        [
            filters.sato(darkness, sigmas=[sigma], black_ridges=False)
            for sigma in (1.5, 2.2, 3.2, 4.5, 6)
        ]
    )
    ridges[~ndi.binary_erosion(field, iterations=6)] = 0
    core = filters.apply_hysteresis_threshold(_along_lines(ridges), 0.026, 0.05)
    core &= ridges > 0.02
    vessels = _smooth(_half_depth(core, ndi.gaussian_filter(darkness, 1)), 1.2)
    vessels = _without_holes(_long(vessels, 40), 30)
    for y, x, radius in NO_VESSEL_DISCS:
        vessels &= ~_disc(vessels.shape, y, x, radius)
    return _without(vessels, NO_VESSELS).astype(np.uint8)


def _darkness(green: Plane, field: Mask) -> Plane:
    """How much darker than around, as a fraction; vessels absorb green light."""
    # Outside the field of view, repeat its rim, so that the rim is no edge.
    nearest = ndi.distance_transform_edt(
        ~field, return_distances=False, return_indices=True
    )
    outside = ndi.gaussian_filter(green[tuple(nearest)], 8)
    extended = np.where(field, green, outside)
    coarse = ndi.zoom(ndi.median_filter(extended[::3, ::3], size=21), 3, order=1)
    around = ndi.gaussian_filter(coarse[: green.shape[0], : green.shape[1]], 6)
    return np.asarray((around - extended) / around)


def _along_lines(ridges: Plane, length: int = 21, directions: int = 16) -> Plane:
    """Mean along the best of some directions: specks fade, vessels stay."""
    half = length // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    best = np.zeros_like(ridges)
    for angle in np.arange(directions) * np.pi / directions:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        line = np.exp(-(across**2) / (2 * 0.8**2)) * (abs(along) <= half)
        best = np.maximum(best, oaconvolve(ridges, line / line.sum(), mode="same"))
    return best


def _half_depth(core: Mask, darkness: Plane) -> Mask:
    """Narrow a vessel to where it is nearly half as dark as its middle."""
    deepest = ndi.grey_dilation(
        np.where(core, darkness, 0), footprint=morphology.disk(5)
    )
    return np.asarray(core & (darkness > np.maximum(0.04, 0.45 * deepest)))


def cell(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return 0 background, 1 cell."""
    smooth = ndi.gaussian_filter(image.astype(float), 1.5)
    bright = smooth > filters.threshold_otsu(smooth)
    body = _at_least(ndi.binary_fill_holes(bright), 1000)
    return _smooth(body, 2).astype(np.uint8)


def _tidy(mask: Mask, opening: int, smallest: int, hole: int) -> Mask:
    opened = morphology.opening(mask, morphology.disk(opening))
    return _without_holes(_at_least(opened, smallest + 1), hole)


def _smooth(mask: Mask, sigma: float) -> Mask:
    return np.asarray(ndi.gaussian_filter(mask.astype(float), sigma) > 0.5)


def _at_least(mask: Mask, pixels: int) -> Mask:
    """Keep the objects (4-connected) of at least so many pixels."""
    objects, _ = ndi.label(mask)
    keep = np.bincount(objects.ravel()) >= pixels
    keep[0] = False
    return np.asarray(keep[objects])


def _without_holes(mask: Mask, pixels: int) -> Mask:
    """Fill holes of at most so many pixels."""
    return ~_at_least(~mask, pixels + 1)


def _long(mask: Mask, pixels: int) -> Mask:
    """Keep the objects whose skeleton has at least so many pixels."""
    objects, count = ndi.label(mask, EVERY_WAY)
    skeleton = morphology.skeletonize(mask)
    keep = np.bincount(objects[skeleton], minlength=count + 1) >= pixels
    return np.asarray(keep[objects] & mask)


def _without(mask: Mask, places: list[tuple[int, int]]) -> Mask:
    """Remove the objects within 3 px of the given places."""
    objects, _ = ndi.label(mask, EVERY_WAY)
    for y, x in places:
        around = objects[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
        if not around.any():
            raise ValueError(f"Nothing to remove at {(y, x)}: look at the overlay.")
        mask = mask & ~np.isin(objects, around[around > 0])
    return mask


def _disc(shape: tuple[int, ...], y: int, x: int, radius: int) -> Mask:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


MAKERS: dict[
    str,
    tuple[str, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]],
] = {
    "ihc": ("ihc.png", ihc),
    "retina": ("retina.jpg", retina),
    "cell": ("cell.png", cell),
}


def make(name: str) -> npt.NDArray[np.uint8]:
    """Return the mask of one sample, (Y, X) uint8."""
    file, maker = MAKERS[name]
    return maker(io.imread(FOLDER / file))


def _overlay(name: str, mask: npt.NDArray[np.uint8], folder: Path) -> None:
    """Write the image, enlarged twice, with the outlines of the classes."""
    image = io.imread(FOLDER / MAKERS[name][0])
    rgb = image if image.ndim == 3 else color.gray2rgb(image)
    rgb, labels = (a.repeat(2, axis=0).repeat(2, axis=1) for a in (rgb, mask))
    outlined = segmentation.mark_boundaries(rgb, labels, (0, 1, 1), mode="inner")
    io.imsave(folder / f"{name}.png", (outlined * 255).astype(np.uint8))


def main() -> None:
    """Write the masks, and the overlays where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--overlays", type=Path, help="folder for PNG overlays")
    overlays = parser.parse_args().overlays
    for name in MAKERS:
        mask = make(name)
        tifffile.imwrite(
            FOLDER / f"{name}_mask.tif", mask, compression="zlib", metadata=None
        )
        if overlays:
            overlays.mkdir(parents=True, exist_ok=True)
            _overlay(name, mask, overlays)


if __name__ == "__main__":
    main()
