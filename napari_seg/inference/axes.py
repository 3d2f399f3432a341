"""What the axes of an image mean; the only place that knows.

An image is any array with ``shape``, ``dtype`` and NumPy indexing: NumPy, memory map,
dask, zarr. Its *axes string* names each axis with one letter: ``Y`` and ``X`` span the
plane that the network sees, ``C`` (or ``S``, samples of RGB) holds the channels, and
over ``T``, ``Z``, ``Q`` and ``I`` the prediction goes plane by plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_seg.errors import ChannelError, ImageError
from napari_seg.models.spec import MIN_SIDE, ModelSpec

__all__ = ["AxesReading", "Box", "as_array", "read_axes"]

#: Rows and columns of a plane, as slices with plain bounds.
Box = tuple[slice, slice]

_LOOPED = "IQTZ"
_CHANNEL = "CS"


@dataclass(frozen=True)
class AxesReading:
    """How one image is read.

    Attributes
    ----------
    axes : str
        One letter for each axis, in the order of the array, such as ``TZYX``,
        ``CYX`` or ``ZYXC``.
    shape : tuple of int
        Shape of the image.
    channels : int
        Channels that are read: an alpha channel is left out.
    """

    axes: str
    shape: tuple[int, ...]
    channels: int

    @property
    def leading(self) -> str:
        """Letters of the axes that are looped over, in the image's order."""
        return "".join(letter for letter in self.axes if letter in _LOOPED)

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of :attr:`leading`."""
        return tuple(self.length(letter) for letter in self.leading)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.length("Y"), self.length("X")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the mask: the image's without channels, Y and X last."""
        return self.leading_shape + self.plane_shape

    def length(self, letter: str) -> int:
        """Return the length of an axis."""
        return self.shape[self.axes.index(letter)]

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Iterate over the planes; a 2-D image has the one index ``()``."""
        return product(*(range(length) for length in self.leading_shape))

    def plane(
        self, image: Any, index: Sequence[int] = (), box: Box | None = None
    ) -> NDArray[Any]:
        """Read a plane, or a box of it, and nothing else of a lazy image.

        Parameters
        ----------
        image : array
            Of the shape that was read.
        index : sequence of int
            Position along each of :attr:`leading`.
        box : tuple of slice or None
            Rows and columns; None is the whole plane. Steps are allowed.

        Returns
        -------
        ndarray
            (C, Y, X) in the image's dtype; a view where the image allows it.
        """
        rows, columns = box or (slice(None), slice(None))
        key: dict[str, Any] = dict(zip(self.leading, map(int, index), strict=True))
        key |= {"Y": rows, "X": columns, "C": slice(0, self.channels)}
        part = np.asarray(image[tuple(key[letter] for letter in self.axes)])
        kept = [letter for letter in self.axes if letter not in _LOOPED]
        if "C" not in kept:
            part, kept = part[np.newaxis], ["C", *kept]
        return part.transpose([kept.index(letter) for letter in "CYX"])

    def describe(self) -> str:
        """Return the reading for people: ``T 8 × Z 21 × Y 512 × X 512, 2 channels``."""
        lengths = [f"{letter} {self.length(letter)}" for letter in self.leading + "YX"]
        text = " × ".join(lengths)
        if "C" not in self.axes:
            return text
        alpha = ", alpha left out" if self.channels < self.length("C") else ""
        plural = "" if self.channels == 1 else "s"
        return f"{text}, {self.channels} channel{plural}{alpha}"


def as_array(image: Any) -> Any:
    """Return one indexable array: level 0 of a multiscale image, lists as arrays.

    Raises
    ------
    ImageError
        If a list holds anything but numbers in rows of one length.
    """
    if _is_array(image) and not isinstance(image, Sequence):
        return image
    if _is_multiscale(image):
        return image[0]
    try:
        return np.asarray(image)
    except ValueError as error:
        raise ImageError(f"The image cannot be read as one array: {error}.") from error


def _is_array(image: Any) -> bool:
    return isinstance(getattr(image, "dtype", None), np.dtype)


def _is_multiscale(image: Any) -> bool:
    # napari's own MultiScaleData is a sequence that tells dtype and shape.
    if not isinstance(image, Sequence) or not image or not all(map(_is_array, image)):
        return False
    shapes = [level.shape for level in image]
    shrinking = all(
        len(coarse) == len(fine) and coarse != fine and np.all(fine >= np.array(coarse))
        for fine, coarse in pairwise(shapes)
    )
    return _is_array(image) or (len(shapes) > 1 and shrinking)


def read_axes(
    shape: Sequence[int],
    dtype: DTypeLike,
    spec: ModelSpec,
    axes: str | None = None,
    rgb: bool = False,
) -> AxesReading:
    """Decide what each axis of an image means to a model.

    Without `axes`, Y and X are the last two axes that are not channels. The last axis
    holds the channels if `rgb` is set, if its length is ``spec.in_channels``, or if
    it is 4 (RGBA) and the model takes three. Otherwise the first axis before Y and X
    of that length holds them, unless the model takes one channel, or takes gray images
    as well as RGB: to those a stack is a stack. All further axes are looped over,
    named ``Z``, ``TZ``, ``QTZ``, ``IQTZ``.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    dtype : dtype
        Its dtype: bool, integers and real floating-point numbers of any byte order.
    spec : ModelSpec
        Of the model that will see the image.
    axes : str or None
        One letter for each axis out of T, Z, Q, I (looped over), C or S, Y and X.
    rgb : bool
        Whether the last axis is known to hold RGB or RGBA, as in a napari layer.

    Returns
    -------
    AxesReading

    Raises
    ------
    ImageError
        If this is no image: empty, fewer than two axes, complex or not numeric, a side
        below 32 pixels, or `axes` that do not fit.
    ChannelError
        If it has other channels than the model takes.
    """
    sizes = tuple(int(length) for length in shape)
    _check_array(sizes, np.dtype(dtype))
    letters = _guess(sizes, spec, rgb) if axes is None else _parse(axes, sizes)
    available = sizes[letters.index("C")] if "C" in letters else 1
    is_rgb = spec.in_channels == 3 and (rgb or letters.endswith("C"))
    channels = 3 if is_rgb and available == 4 else available
    reading = AxesReading(letters, sizes, channels)
    _check_plane(reading, spec)
    _check_channels(reading, spec)
    return reading


def _guess(shape: tuple[int, ...], spec: ModelSpec, rgb: bool) -> str:
    channel = _channel_axis(shape, spec, rgb)
    n_looped = len(shape) - 2 - (channel is not None)
    if not 0 <= n_looped <= len(_LOOPED):
        raise ImageError(
            f"An image of shape {shape} has too "
            f"{'few' if n_looped < 0 else 'many'} axes; "
            'pass axes, such as "TZYX" or "YXC", or a part of the image.'
        )
    letters = list(_LOOPED[len(_LOOPED) - n_looped :] + "YX")
    if channel is not None:
        letters.insert(channel, "C")
    return "".join(letters)


def _channel_axis(shape: tuple[int, ...], spec: ModelSpec, rgb: bool) -> int | None:
    wanted, last = spec.in_channels, len(shape) - 1
    accepted = {wanted, 4} if wanted == 3 else {wanted}
    if rgb or (last >= 2 and shape[-1] in accepted):
        return last
    if wanted == 1 or spec.gray_as_rgb:
        return None
    return next((axis for axis in range(last - 1) if shape[axis] == wanted), None)


def _parse(axes: str, shape: tuple[int, ...]) -> str:
    letters = "".join("C" if a in _CHANNEL else a for a in axes.upper())
    known = set(_LOOPED + "CYX")
    fits = (
        len(letters) == len(shape)
        and len(set(letters)) == len(letters)
        and {"Y", "X"} <= set(letters) <= known
    )
    if not fits:
        raise ImageError(
            f"Axes {axes!r} do not fit an image of shape {shape}: give each of its "
            f"{len(shape)} axes one letter out of T, Z, Q, I, C, Y and X, none twice, "
            "Y and X among them."
        )
    return letters


def _check_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) < 2:
        raise ImageError(
            f"The image has {len(shape)} axes (shape {shape}); it needs at least two, "
            "Y and X."
        )
    if 0 in shape:
        raise ImageError(f"The image is empty: its shape is {shape}.")
    if dtype.kind not in "buif":
        hint = " Take its magnitude or its real part." if dtype.kind == "c" else ""
        raise ImageError(
            f"The image has dtype {dtype}; bool, integers and floating-point numbers "
            f"can be predicted on.{hint}"
        )


def _check_plane(reading: AxesReading, spec: ModelSpec) -> None:
    height, width = reading.plane_shape
    if min(height, width) >= MIN_SIDE:
        return
    if "C" not in reading.axes and len(reading.shape) > 2 and width <= 4:
        raise ChannelError(
            f"The image of shape {reading.shape} looks like {width} channels in its "
            f"last axis, and the model takes {_accepted(spec)}. Pass one channel, such "
            f"as image[..., 0], if the model takes one, or use a model that takes "
            f"{width} (adapt_model(model, in_channels={width}) makes one)."
        )
    raise ImageError(
        f"The image is {height} × {width} pixels, read as axes {reading.axes}; each "
        f"side needs at least {MIN_SIDE}. If its axes are others, name them, such as "
        'axes="YXC".'
    )


def _check_channels(reading: AxesReading, spec: ModelSpec) -> None:
    has = reading.channels
    if has == spec.in_channels or (has == 1 and spec.gray_as_rgb):
        return
    remedy = f"Use a model that takes {has} (adapt_model(model, in_channels={has}))"
    if has > 1:
        remedy += f", or pass {_accepted(spec)} of the channels"
    elif reading.leading:
        axes = reading.axes.replace(reading.leading[-1], "C")
        remedy += f", or name the axes if one holds channels, such as axes={axes!r}"
    raise ChannelError(
        f"The image (shape {reading.shape}, read as axes {reading.axes}) has {has} "
        f"channel{'s' * (has != 1)}, and the model takes {_accepted(spec)}. {remedy}."
    )


def _accepted(spec: ModelSpec) -> str:
    return "1 or 3" if spec.gray_as_rgb else str(spec.in_channels)
