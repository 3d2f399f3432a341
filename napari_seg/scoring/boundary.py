"""How well the outlines of two masks agree: boundary IoU and surface Dice.

IoU and Dice count pixels, so a large region scores high whatever its outline looks
like.  The two scores here look at the outline alone, up to a tolerance:

- *Boundary IoU* (Cheng et al. 2021, arXiv:2103.16562): the IoU of the rims, which are
  the pixels of a class that lie no farther than the tolerance from a pixel outside it.
- *Normalized surface distance*, NSD, also called surface Dice (Nikolov et al. 2018,
  arXiv:1809.04430): the part of both outlines that lies no farther than the tolerance
  from the other one.  An outline runs between the pixels: each point where 2 × 2
  pixels (2 × 2 × 2 voxels) meet carries the length (area) that marching squares
  (cubes) give it there.

As in the programs of both papers, what lies beyond the image is outside every class,
so that an object cut off by the border has an outline there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import ceil, hypot
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from napari_seg.errors import InputError, LabelsError
from napari_seg.scoring.confusion import (
    confusion_matrix,
    mean_present,
    plain_number,
)
from napari_seg.scoring.regions import Box, as_box, changed_box
from napari_seg.scoring.sums import class_sum, ratio
from napari_seg.scoring.tally import UNKNOWN

__all__ = ["BoundaryScores", "boundary_scores"]

Mask: TypeAlias = NDArray[np.bool_]
Spacing: TypeAlias = tuple[float, ...]

#: Three pixels of 0.1 µm are 0.30000000000000004 µm, and within 0.3.
_ROUNDING = 1 + 1e-9
#: Up to so many, shifting a mask by every step within reach is faster than a distance
#: transform of it: 13 for 2 pixels in 2-D, 515 for 5 voxels in 3-D.
_MOST_OFFSETS = 600


@dataclass(frozen=True, eq=False)
class BoundaryScores:
    """Sums per class from which the scores of outlines follow.

    Sums of several images add up (``+``) where their tolerance is the same.

    Attributes
    ----------
    rim_overlap, rim_union : ndarray of int64, shape (K,)
        Pixels in both rims, and in either.
    surface_close, surface : ndarray of float64, shape (K,)
        Length (2-D) or area (3-D) of both outlines together: of what lies within the
        tolerance of the other one, and of all.
    tolerance : float
        In the unit of the pixel size that was given, or in pixels.
    """

    rim_overlap: NDArray[np.int64]
    rim_union: NDArray[np.int64]
    surface_close: NDArray[np.float64]
    surface: NDArray[np.float64]
    tolerance: float

    def __add__(self, other: BoundaryScores) -> BoundaryScores:
        """Return the scores of the images of both.

        Raises
        ------
        InputError
            If the tolerances differ.
        """
        if self.tolerance != other.tolerance:
            raise InputError(
                f"Scores at tolerances {self.tolerance:g} and {other.tolerance:g} do "
                "not add up; compute both at the same one."
            )
        return BoundaryScores(
            class_sum(self.rim_overlap, other.rim_overlap),
            class_sum(self.rim_union, other.rim_union),
            class_sum(self.surface_close, other.surface_close),
            class_sum(self.surface, other.surface),
            self.tolerance,
        )

    @cached_property
    def boundary_iou(self) -> NDArray[np.float64]:
        """Boundary IoU per class, (K,), NaN where absent from both."""
        return ratio(self.rim_overlap, self.rim_union)

    @cached_property
    def nsd(self) -> NDArray[np.float64]:
        """Normalized surface distance per class, (K,), NaN where absent from both."""
        return ratio(self.surface_close, self.surface)

    @cached_property
    def mean_boundary_iou(self) -> float:
        """Mean boundary IoU over the classes present; NaN without any."""
        return mean_present(self.boundary_iou)

    @cached_property
    def mean_nsd(self) -> float:
        """Mean normalized surface distance over the classes present; NaN without."""
        return mean_present(self.nsd)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, None where there is no score.

        The keys are those that ``napari-seg score --boundary`` adds.
        """
        return {
            "boundary_iou": [plain_number(value) for value in self.boundary_iou],
            "nsd": [plain_number(value) for value in self.nsd],
            "mean_boundary_iou": plain_number(self.mean_boundary_iou),
            "mean_nsd": plain_number(self.mean_nsd),
            "tolerance": self.tolerance,
        }


def boundary_scores(
    prediction: ArrayLike,
    truth: ArrayLike,
    tolerance: float = 2.0,
    n_classes: int | None = None,
    ignore: int = UNKNOWN,
    *,
    spacing: float | Sequence[float] | None = None,
) -> BoundaryScores:
    """Score the outlines of a prediction against those of the truth.

    Unknown pixels are neither inside nor outside a class: they are in no rim, and
    where a class meets them there is no outline.

    Parameters
    ----------
    prediction, truth : array of int or bool, same shape (Y, X) or (Z, Y, X)
        Class ids 0..K-1.  They are held in memory as a whole.
    tolerance : float
        Distance above 0 that is forgiven, in pixels, or in the unit of `spacing`.
    n_classes : int, optional
        Number of classes K; by default one more than the largest id in either.
    ignore : int, default 255
        Pixels with this id in `truth` are unknown, as are those of 255 in either.
    spacing : float or sequence of float, optional
        Size of a pixel, for all axes or for each of them, such as
        ``(2.0, 0.65, 0.65)`` micrometres for (Z, Y, X); by default 1.

    Returns
    -------
    BoundaryScores

    Raises
    ------
    LabelsError
        If shapes differ or have other than two or three axes, a dtype is not
        integer, or an id is not below `n_classes`.
    InputError
        If the tolerance or a pixel size is not above 0, or their number is wrong.
    """
    k = len(confusion_matrix(prediction, truth, n_classes, ignore))
    found, expected = np.asarray(prediction), np.asarray(truth)
    if found.ndim not in (2, 3):
        raise LabelsError(
            f"The masks have shape {found.shape}; outlines are scored in (Y, X) or "
            "(Z, Y, X). Other axes, such as time, can be gone through one by one, and "
            "the scores be added."
        )
    sizes = _checked_spacing(spacing, found.ndim)
    if not 0 < tolerance < float("inf"):
        raise InputError(f"The tolerance is {tolerance}; it must be above 0.")
    known = (expected != ignore) & (expected != UNKNOWN) & (found != UNKNOWN)
    sums = np.zeros((4, k))
    for class_id in range(k):
        masks = (found == class_id) & known, (expected == class_id) & known
        box = _surroundings(masks[0] | masks[1], tolerance, sizes)
        if box is not None:
            parts = [_framed(part, box, known, sizes) for part in masks]
            sums[:, class_id] = (
                *_rim_sums(parts[0], parts[1], tolerance * _ROUNDING),
                *_surface_sums(parts[0], parts[1], tolerance * _ROUNDING),
            )
    overlap, union = sums[:2].astype(np.int64)
    return BoundaryScores(overlap, union, sums[2], sums[3], float(tolerance))


def _checked_spacing(given: float | Sequence[float] | None, ndim: int) -> Spacing:
    sizes = np.atleast_1d(1.0 if given is None else np.asarray(given, float))
    if (
        sizes.shape not in ((1,), (ndim,))
        or not ((sizes > 0) & np.isfinite(sizes)).all()
    ):
        raise InputError(
            f"The pixel size is {given}; it must be above 0, one number for all axes "
            f"or one for each of the {ndim}."
        )
    return tuple(float(size) for size in np.broadcast_to(sizes, ndim))


def _surroundings(mask: Mask, tolerance: float, spacing: Spacing) -> Box | None:
    """Return the box beyond which nothing is near enough to count; None if empty."""
    box = changed_box(mask, as_box(None, mask.shape))
    if box is None:
        return None
    reaches = (1 + ceil(tolerance / size) for size in spacing)
    return tuple(
        slice(max(side.start - reach, 0), min(side.stop + reach, length))
        for side, reach, length in zip(box, reaches, mask.shape, strict=True)
    )


@dataclass(frozen=True, eq=False)
class _Framed:
    """A class in one mask, with a frame of one pixel that is outside the class.

    Attributes
    ----------
    inside, known : ndarray of bool
        Of the same shape, two pixels longer on each axis than the part of the image.
    spacing : tuple of float
        Size of a pixel along each axis.
    """

    inside: Mask
    known: Mask
    spacing: Spacing

    def rim(self, width: float) -> Mask:
        """Return the pixels inside that are at most `width` away from one outside."""
        outside = self.known & ~self.inside
        return self.inside & _near(outside, width, self.spacing)

    def outline(self) -> NDArray[np.uint8]:
        """Return how the 2^n pixels around each point are filled; 0 is no outline."""
        codes = np.zeros([n - 1 for n in self.inside.shape], np.uint8)
        sure = np.ones(codes.shape, bool)
        for bit, corner in enumerate(_corners(self.inside)):
            codes |= self.inside[corner].astype(np.uint8) << bit
            sure &= self.known[corner]
        full = 2 ** (2**codes.ndim) - 1
        codes[~sure | (codes == full)] = 0
        return codes


def _framed(mask: Mask, box: Box, known: Mask, spacing: Spacing) -> _Framed:
    # A frame within the image is no border of it, but outside of the class all the
    # same, and too far away to count.
    inside = np.pad(mask[box], 1, constant_values=False)
    return _Framed(inside, np.pad(known[box], 1, constant_values=True), spacing)


def _rim_sums(one: _Framed, other: _Framed, width: float) -> tuple[int, int]:
    """Return the pixels in both rims, and in either."""
    ours, theirs = one.rim(width), other.rim(width)
    return int(np.count_nonzero(ours & theirs)), int(np.count_nonzero(ours | theirs))


def _surface_sums(
    one: _Framed, other: _Framed, tolerance: float
) -> tuple[float, float]:
    """Return how much of both outlines is near the other one, and all of both."""
    ours, theirs = one.outline(), other.outline()
    near = ours[_near(theirs > 0, tolerance, one.spacing)]
    near_too = theirs[_near(ours > 0, tolerance, one.spacing)]
    # Counts first: what is near in full then has the very same sum.
    elements = _elements(one.spacing)
    close, whole = (
        sum(np.bincount(part.ravel(), minlength=len(elements)) for part in parts)
        for parts in ((near, near_too), (ours, theirs))
    )
    return float(close @ elements), float(whole @ elements)


def _near(targets: Mask, reach: float, spacing: Spacing) -> Mask:
    """Return where it is no farther than `reach` to the nearest target."""
    near = np.zeros(targets.shape, bool)
    if not targets.any():
        # Without a single target the distance transform is undefined.
        return near
    offsets = _ball(reach, spacing, targets.shape)
    if len(offsets) > _MOST_OFFSETS:
        distance = distance_transform_edt(~targets, sampling=spacing)
        return np.asarray(distance <= reach)
    for offset in offsets:
        near[_shifted(offset)] |= targets[_shifted(-offset)]
    return near


def _ball(reach: float, spacing: Spacing, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the steps of at most `reach`, shape (N, ndim), within an array."""
    sides = [
        np.arange(-most, most + 1)
        for size, n in zip(spacing, shape, strict=True)
        for most in [min(int(reach / size), n - 1)]
    ]
    steps = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(
        -1, len(shape)
    )
    squares = (steps * np.array(spacing)) ** 2
    return np.asarray(steps[squares.sum(axis=1) <= reach**2])


def _shifted(offset: NDArray[np.intp]) -> Box:
    return tuple(
        slice(int(step), None) if step >= 0 else slice(None, int(step))
        for step in offset
    )


def _corners(array: NDArray[Any]) -> Iterator[Box]:
    """Yield the boxes whose same element is one of the 2^n pixels around a point."""
    for offsets in product((0, 1), repeat=array.ndim):
        yield tuple(
            slice(offset, offset + n - 1)
            for offset, n in zip(offsets, array.shape, strict=True)
        )


@lru_cache(maxsize=16)
def _elements(spacing: Spacing) -> NDArray[np.float64]:
    """Return the length or area of the outline for each way to fill 2^n pixels."""
    n = 2 ** len(spacing)
    element = _length if len(spacing) == 2 else _area
    return np.array([element(_bits(code, n), spacing) for code in range(2**n)])


def _bits(code: int, n: int) -> list[int]:
    return [code >> bit & 1 for bit in range(n)]


def _length(pixels: list[int], spacing: Spacing) -> float:
    """Length by marching squares for the pixels (0, 0), (0, 1), (1, 0), (1, 1)."""
    height, width = spacing
    half_diagonal = hypot(height, width) / 2
    if sum(pixels) in (1, 3):
        return half_diagonal
    if sum(pixels) != 2:
        return 0.0
    if pixels[0] == pixels[1]:
        return width
    return height if pixels[0] == pixels[2] else 2 * half_diagonal


def _area(voxels: list[int], spacing: Spacing) -> float:
    """Area by marching cubes (Lorensen & Cline 1987), inside and outside alike."""
    # Imported late: few masks have three axes.
    from skimage.measure import marching_cubes, mesh_surface_area

    if sum(voxels) in (0, 8):
        return 0.0
    if sum(voxels) > 4:
        # Where corners touch only diagonally the choice is free; an outline shall be
        # the same for what is on its other side.
        voxels = [1 - voxel for voxel in voxels]
    volume = np.array(voxels, np.float32).reshape(2, 2, 2)
    vertices, faces, *_ = marching_cubes(
        volume, 0.5, spacing=spacing, method="lorensen"
    )
    return float(mesh_surface_area(vertices, faces))
