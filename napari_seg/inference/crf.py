"""Fully connected CRF: pull a mask's boundaries onto the edges of the image.

Energy, kernels and mean field are those of Krähenbühl & Koltun, "Efficient inference
in fully connected CRFs with Gaussian edge potentials", NIPS 2011: a pixel's label
costs ``-log p`` of what the model said, and two pixels of different labels (Potts)
cost ::

    appearance_weight * exp(-d²/2a² - c²/2i²) + smoothness_weight * exp(-d²/2s²)

where `d` is their distance in pixels and `c` the root mean square difference of their
channels, which keeps the meaning of `i` for any number of channels.

Two choices are ours.  *Window*: a pixel sees the square of `radius` pixels around it
and both kernels end there, so that the result inside a tile depends on no pixel
farther away than :attr:`CRFOptions.halo`: tiles join without seams.  *Normalization*:
each kernel is divided by the square roots of its sums at both pixels, as the authors'
own program does by default.  It keeps the weights comparable over window sizes and at
the image's border.  As in the paper's equations, a pixel sends no message to itself.

It mends blurred and coarse predictions.  A mask that is already sharp to the pixel
gets worse, above all at thin structures: ``benchmarks/crf.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_seg.errors import ImageError, LabelsError
from napari_seg.options import Options, option

__all__ = ["CRFOptions", "refine"]

# Side of the blocks in which a large plane is worked on: at the default radius they
# need about 120 MB, whatever the size of the plane.
_BLOCK = 512
# A probability of 0 would forbid a label for good; single precision ends about here.
_LEAST_PROBABILITY = 1e-6
_LEAST_SUM = 1e-12
_LEAST_EXPONENT = -60.0


@dataclass(frozen=True)
class CRFOptions(Options):
    """How far the CRF looks and how strongly it pulls."""

    iterations: int = option(
        5,
        "CRF iterations",
        "Steps of the mean field. More steps carry evidence farther and cost time.",
        minimum=1,
        maximum=20,
    )
    radius: int = option(
        6,
        "CRF window radius",
        "How far one pixel sees in one step. Time and memory grow with its square.",
        minimum=1,
        maximum=16,
        unit="px",
    )
    appearance_weight: float = option(
        4.0,
        "CRF edge weight",
        "How strongly near pixels of similar brightness or colour share a class.",
        minimum=0,
        maximum=100,
        step=0.5,
    )
    appearance_distance: float = option(
        4.0,
        "CRF edge distance",
        "Distance over which brightness is compared.",
        minimum=0.1,
        maximum=1000,
        unit="px",
    )
    appearance_intensity: float = option(
        0.05,
        "CRF edge contrast",
        "Brightness difference that counts as an edge; 1 is the image's full range.",
        minimum=0.001,
        maximum=10,
        step=0.01,
    )
    smoothness_weight: float = option(
        0.5,
        "CRF smoothness weight",
        "How strongly near pixels share a class whatever their brightness.",
        minimum=0,
        maximum=100,
        step=0.5,
    )
    smoothness_distance: float = option(
        1.5,
        "CRF smoothness distance",
        "Distance over which the outline is smoothed.",
        minimum=0.1,
        maximum=1000,
        unit="px",
    )

    @property
    def halo(self) -> int:
        """Context in pixels beyond which nothing changes the result.

        One radius for each step, and one for the sums that normalize the kernel of
        the farthest neighbour.
        """
        return self.radius * (self.iterations + 1)


@torch.no_grad()
def refine(
    probabilities: Tensor, image: Tensor, options: CRFOptions | None = None
) -> Tensor:
    """Refine class probabilities with the image's edges.

    Parameters
    ----------
    probabilities : (K, H, W) float32 or float64
        What the model said; they sum to 1 over the K >= 2 classes.
    image : (C, H, W) floating
        Normalized image: values near 0 to 1.  On the device of `probabilities`.
    options : CRFOptions, optional
        Window, weights and steps.

    Returns
    -------
    (K, H, W) tensor
        Refined probabilities, in the dtype and on the device of `probabilities`.

    Raises
    ------
    LabelsError
        If `probabilities` are none.
    ImageError
        If `image` does not lie under them.
    """
    options = CRFOptions() if options is None else options
    _check(probabilities, image)
    image = image.to(probabilities.dtype)
    height, width = probabilities.shape[1:]
    refined = torch.empty_like(probabilities)
    for core, read in _blocks(height, width, options.halo):
        ys, xs = read
        block = _mean_field(probabilities[:, ys, xs], image[:, ys, xs], options)
        y, x = (c.start - r.start for c, r in zip(core, read, strict=True))
        target = refined[:, core[0], core[1]]
        target.copy_(block[:, y : y + target.shape[1], x : x + target.shape[2]])
    return refined


def _check(probabilities: Tensor, image: Tensor) -> None:
    shape = tuple(probabilities.shape)
    if len(shape) != 3 or shape[0] < 2:
        raise LabelsError(
            f"The probabilities have shape {shape}; "
            "the CRF takes (K, H, W) with two classes or more."
        )
    if probabilities.dtype not in (torch.float32, torch.float64):
        raise LabelsError(
            f"The probabilities are {probabilities.dtype}; "
            "the CRF takes float32 or float64."
        )
    off = (probabilities.sum(dim=0) - 1).abs().max()
    # "not (off <= …)" also refuses NaN.
    if not (off <= 1e-3 and probabilities.min() >= 0):
        raise LabelsError(
            "The probabilities are negative or do not sum to 1 over the classes; "
            "apply softmax to the model's logits first."
        )
    if image.ndim != 3 or image.shape[1:] != probabilities.shape[1:]:
        raise ImageError(
            f"The image has shape {tuple(image.shape)}; probabilities of shape "
            f"{shape} go with a (C, {shape[1]}, {shape[2]}) image."
        )
    if not image.is_floating_point():
        raise ImageError(
            f"The image is {image.dtype}; the CRF takes the normalized floating-point "
            "image that the model saw."
        )
    if not image.isfinite().all():
        raise ImageError("The image holds NaN or infinite values; replace them first.")


def _blocks(
    height: int, width: int, halo: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Cut a plane into cores and the larger boxes that decide what is in them."""
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            core = _box(y, y + _BLOCK, x, x + _BLOCK, height, width)
            far = _BLOCK + halo
            yield core, _box(y - halo, y + far, x - halo, x + far, height, width)


def _box(
    y0: int, y1: int, x0: int, x1: int, height: int, width: int
) -> tuple[slice, slice]:
    return slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))


def _mean_field(unary: Tensor, image: Tensor, options: CRFOptions) -> Tensor:
    """Run the mean field on one block that is held in memory as a whole."""
    edges = _Edges(image, options)
    evidence = unary.clamp_min(_LEAST_PROBABILITY).log()
    # The labels of a pixel sum to 1, so the messages about the first class follow
    # from those about the others: half the work for two classes.
    total = edges.messages(torch.ones_like(unary[:1]))
    belief = evidence.softmax(dim=0)
    for _ in range(options.iterations):
        others = edges.messages(belief[1:])
        first = total - others.sum(dim=0, keepdim=True)
        belief = (evidence + torch.cat([first, others])).softmax(dim=0)
    return belief


class _Edges:
    """The weights between each pixel and those in its window.

    Kernels are symmetric: one weight map for each offset of half the window serves
    the messages of both directions.

    Parameters
    ----------
    image : (C, H, W) tensor
    options : CRFOptions
    """

    def __init__(self, image: Tensor, options: CRFOptions) -> None:
        self._pairs = list(_pairs(image.shape[1], image.shape[2], options.radius))
        appearance, smoothness = [], []
        for here, there, distance2 in self._pairs:
            difference2 = (_at(image, here) - _at(image, there)).square_().mean(dim=0)
            near = distance2 / (2 * options.appearance_distance**2)
            alike = difference2.div_(-2 * options.appearance_intensity**2)
            # Below this, exp yields denormal numbers, which slow a CPU down.
            appearance.append(alike.sub_(near).clamp_min_(_LEAST_EXPONENT).exp_())
            decay = -distance2 / (2 * options.smoothness_distance**2)
            smoothness.append(image.new_tensor(decay).exp().expand_as(alike))
        scale_a = self._inverse_root_sum(appearance, image)
        scale_s = self._inverse_root_sum(smoothness, image)
        self._weights = [
            a.mul_(_at(scale_a, here))
            .mul_(_at(scale_a, there))
            .mul_(options.appearance_weight)
            .addcmul_(
                _at(scale_s, here) * s,
                _at(scale_s, there),
                value=options.smoothness_weight,
            )
            for (here, there, _), a, s in zip(
                self._pairs, appearance, smoothness, strict=True
            )
        ]

    def _inverse_root_sum(self, kernel: list[Tensor], image: Tensor) -> Tensor:
        """Return (H, W): 1 / sqrt(sum of the kernel over the window)."""
        sums = torch.zeros_like(image[0])
        for (here, there, _), weights in zip(self._pairs, kernel, strict=True):
            _at(sums, here).add_(weights)
            _at(sums, there).add_(weights)
        return sums.clamp_min_(_LEAST_SUM).rsqrt_()

    def messages(self, belief: Tensor) -> Tensor:
        """Sum the neighbours' beliefs, weighted: (K, H, W) in, (K, H, W) out."""
        received = torch.zeros_like(belief)
        for (here, there, _), weights in zip(self._pairs, self._weights, strict=True):
            _at(received, here).addcmul_(weights, _at(belief, there))
            _at(received, there).addcmul_(weights, _at(belief, here))
        return received


def _pairs(
    height: int, width: int, radius: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], int]]:
    """Yield half the window's offsets: both ends' boxes, the squared distance."""
    reach_y, reach_x = min(radius, height - 1), min(radius, width - 1)
    for dy in range(reach_y + 1):
        for dx in range(-reach_x if dy else 1, reach_x + 1):
            left, right = max(-dx, 0), max(dx, 0)
            here = slice(0, height - dy), slice(left, width - right)
            there = slice(dy, height), slice(right, width - left)
            yield here, there, dy * dy + dx * dx


def _at(plane: Tensor, box: tuple[slice, slice]) -> Tensor:
    return plane[..., box[0], box[1]]
