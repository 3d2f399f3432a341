"""What the axes of an image mean; the only place that knows.

An image is any array with ``shape``, ``dtype`` and NumPy indexing: NumPy, memory map,
dask, zarr. Its *axes string* names each axis with one letter: ``Y`` and ``X`` span the
plane that the network sees, ``C`` (or ``S``, samples of RGB) holds the channels, and
over ``T``, ``Z``, ``Q`` and ``I`` the prediction goes plane by plane.

A 2.5-D model sees a plane with its neighbours along ``Z``, as further channels; one of
volumes sees ``Z``, ``Y`` and ``X``, and the prediction goes over the other axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, pairwise, product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_seg.errors import ChannelError, ImageError
from napari_seg.models.spec import MIN_SIDE, ModelSpec

__all__ = [
    "AxesReading",
    "Box",
    "as_array",
    "channel_choices",
    "guess_axes",
    "is_lazy",
    "read_axes",
]

#: Rows and columns of a plane, as slices with plain bounds.
Box = tuple[slice, slice]

_LOOPED = "IQTZ"
_CHANNEL = "CS"
_MOST_CHOICES = 100
#: What makes a model for other channels.
_ADAPTED = (
    "napari-seg finetune --adapt-channels makes one, or in Python adapt_model(model, "
    "in_channels={})"
)


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
    picked : tuple of int
        Channels of the image that are read, from 0, in the order in which the model
        takes them; ``(0,)`` without a channel axis.
    slices : int
        Planes along Z that are read as channels of the one in their middle, odd.
    """

    axes: str
    shape: tuple[int, ...]
    picked: tuple[int, ...]
    slices: int = 1

    @property
    def channels(self) -> int:
        """Channels of a plane as it is read, those of its neighbours included."""
        return len(self.picked) * self.slices

    @property
    def available(self) -> int:
        """Channels of the image."""
        return self.length("C") if "C" in self.axes else 1

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
            (C, Y, X) in the image's dtype; a view where the image allows it. The
            channels of the lowest slice come first; beyond the ends of a stack its
            outermost slice is repeated.
        """
        place = dict(zip(self.leading, map(int, index), strict=True))
        if self.slices == 1:
            return self._read(image, place, box)
        first = place.get("Z", 0) - self.slices // 2
        last = self.length("Z") - 1 if "Z" in place else 0
        slices = np.clip(range(first, first + self.slices), 0, last).tolist()
        read = {z: self._read(image, place | {"Z": z}, box) for z in set(slices)}
        return np.concatenate([read[z] for z in slices])

    @property
    def depth(self) -> int:
        """Number of slices of a volume; 1 without a Z axis."""
        return self.length("Z") if "Z" in self.axes else 1

    def volumes(self) -> Iterator[tuple[int, ...]]:
        """Iterate over the volumes: positions along :attr:`leading` without Z."""
        lengths = (self.length(letter) for letter in self.leading if letter != "Z")
        return product(*map(range, lengths))

    def plane_of(self, volume: Sequence[int], z: int) -> tuple[int, ...]:
        """Return the index of a slice of a volume among the planes."""
        if "Z" not in self.axes:
            return tuple(volume)
        place = self.leading.index("Z")
        return (*volume[:place], z, *volume[place:])

    def volume_of(self, index: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """Return the volume in which a plane lies, and its slice there."""
        if "Z" not in self.axes:
            return tuple(index), 0
        place = self.leading.index("Z")
        return (*index[:place], *index[place + 1 :]), index[place]

    def volume(
        self,
        image: Any,
        volume: Sequence[int] = (),
        slices: slice | None = None,
        box: Box | None = None,
    ) -> NDArray[Any]:
        """Read a volume, or a box of it, and nothing else of a lazy image.

        Parameters
        ----------
        image : array
            Of the shape that was read.
        volume : sequence of int
            One of :meth:`volumes`.
        slices : slice or None
            Along Z; None is all.
        box : tuple of slice or None
            Rows and columns; None is all.

        Returns
        -------
        ndarray
            (C, Z, Y, X) in the image's dtype; a view where the image allows it. An
            image without a Z axis is a volume of one slice.
        """
        letters = self.leading.replace("Z", "")
        place: dict[str, int | slice] = dict(
            zip(letters, map(int, volume), strict=True)
        )
        if "Z" not in self.axes:
            return self._read(image, place, box)[:, np.newaxis]
        return self._read(image, place | {"Z": slices or slice(None)}, box)

    def _read(
        self, image: Any, place: Mapping[str, int | slice], box: Box | None
    ) -> NDArray[Any]:
        first, count = self.picked[0], len(self.picked)
        if self.picked == tuple(range(first, first + count)):
            return self._read_run(image, place, box, slice(first, first + count))
        runs = (slice(each, each + 1) for each in self.picked)
        return np.concatenate([self._read_run(image, place, box, run) for run in runs])

    def _read_run(
        self,
        image: Any,
        place: Mapping[str, int | slice],
        box: Box | None,
        channels: slice,
    ) -> NDArray[Any]:
        # Neighbouring channels only: few lazy arrays take a list of indices.
        rows, columns = box or (slice(None), slice(None))
        key: dict[str, Any] = {**place, "Y": rows, "X": columns, "C": channels}
        part = np.asarray(image[tuple(key[letter] for letter in self.axes)])
        kept = [letter for letter in self.axes if isinstance(key[letter], slice)]
        if "C" not in kept:
            part, kept = part[np.newaxis], ["C", *kept]
        order = "CZYX" if "Z" in kept else "CYX"
        return part.transpose([kept.index(letter) for letter in order])

    @property
    def layout(self) -> str:
        """The axes of the mask as they lie in the image; all but Y and X look alike.

        Where two readings have the same, a mask of one is a mask of the other.
        """
        return "".join(a if a in "YX" else "-" for a in self.axes if a != "C")

    def describe(self) -> str:
        """Return the reading for people: ``T 8 × Z 21 × Y 512 × X 512, 2 channels``."""
        lengths = [f"{letter} {self.length(letter)}" for letter in self.leading + "YX"]
        text = " × ".join(lengths)
        if "C" in self.axes:
            has_alpha = self.picked == (0, 1, 2) and self.available == 4
            count = 3 if has_alpha else self.available
            alpha = ", alpha left out" if has_alpha else ""
            text += f", {count} channel{'s' * (count != 1)}{alpha}"
        return text if self.slices == 1 else f"{text}, {self.slices} slices at a time"


def is_lazy(image: Any) -> bool:
    """Return whether pixels are fetched from elsewhere when they are asked for."""
    return not isinstance(image, np.ndarray) or isinstance(image, np.memmap)


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
    channels: Sequence[int] | None = None,
) -> AxesReading:
    """Decide what each axis of an image means to a model.

    Without `axes`, Y and X are the last two axes that are not channels. The last axis
    holds the channels if `rgb` is set, if its length is ``spec.plane_channels``, or if
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
    channels : sequence of int or None
        Which channels the model takes, from 0, in its order; None is all of them, of
        RGBA the first three.

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
    if channels is None:
        is_rgb = spec.plane_channels == 3 and (rgb or letters.endswith("C"))
        picked = tuple(range(3 if is_rgb and available == 4 else available))
    else:
        picked = _pick(channels, available, letters)
    reading = AxesReading(letters, sizes, picked, spec.slices)
    _check_plane(reading, spec)
    _check_channels(reading, spec)
    return reading


def guess_axes(ndim: int) -> str:
    """Return the letters of an image of which nothing is known, or empty.

    ``ZYX`` for three axes, ``TZYX`` for four.
    """
    looped = ndim - 2
    if not 0 <= looped <= len(_LOOPED):
        return ""
    return _LOOPED[len(_LOOPED) - looped :] + "YX"


def channel_choices(available: int, spec: ModelSpec) -> list[tuple[int, ...]]:
    """Return what a model could take of an image's channels, the first choice first.

    Parameters
    ----------
    available : int
        Channels of the image.
    spec : ModelSpec
        Of the model.

    Returns
    -------
    list of tuple of int
        Channels in their order in the image, from 0; at most 100 choices.
    """
    takes = spec.plane_channels
    counts = {takes, 1} if spec.gray_as_rgb else {takes}
    found = chain.from_iterable(
        combinations(range(available), count) for count in sorted(counts, reverse=True)
    )
    return list(islice(found, _MOST_CHOICES))


def _pick(channels: Sequence[int], available: int, letters: str) -> tuple[int, ...]:
    picked = tuple(int(channel) for channel in channels)
    asked = ", ".join(map(str, picked))
    if not picked or len(set(picked)) < len(picked):
        raise ImageError(f"Channels {asked} were asked for; name each of them once.")
    if not all(0 <= channel < available for channel in picked):
        has = f"the channels 0 to {available - 1}" if available > 1 else "one channel"
        hint = "" if "C" in letters else ' Name the axes if one holds channels: "CYX".'
        raise ImageError(
            f"Channels {asked} were asked for; the image, read as axes {letters}, has "
            f"{has}.{hint}"
        )
    return picked


def _guess(shape: tuple[int, ...], spec: ModelSpec, rgb: bool) -> str:
    channel = _channel_axis(shape, spec, rgb)
    n_looped = len(shape) - 2 - (channel is not None)
    letters = list(guess_axes(n_looped + 2))
    if not letters:
        raise ImageError(
            f"An image of shape {shape} has too "
            f"{'few' if n_looped < 0 else 'many'} axes; "
            'pass axes, such as "TZYX" or "YXC", or a part of the image.'
        )
    if channel is not None:
        letters.insert(channel, "C")
    return "".join(letters)


def _channel_axis(shape: tuple[int, ...], spec: ModelSpec, rgb: bool) -> int | None:
    wanted, last = spec.plane_channels, len(shape) - 1
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
            f"last axis, and the model takes {_accepted(spec)}. Pick one channel, in "
            f"Python image[..., 0], if the model takes one, or use a model that takes "
            f"{width}: {_ADAPTED.format(width)}."
        )
    raise ImageError(
        f"The image is {height} × {width} pixels, read as axes {reading.axes}; each "
        f"side needs at least {MIN_SIDE}. If its axes are others, name them, such as "
        'axes="YXC".'
    )


def _check_channels(reading: AxesReading, spec: ModelSpec) -> None:
    has = len(reading.picked)
    if has == spec.plane_channels or (has == 1 and spec.gray_as_rgb):
        return
    remedy = f"Use a model that takes {has}: {_ADAPTED.format(has)}"
    if has > 1:
        remedy += f"; or choose {_accepted(spec)} of the channels"
    elif reading.leading:
        axes = reading.axes.replace(reading.leading[-1], "C")
        remedy += f"; or name the axes if one holds channels, such as {axes}"
    raise ChannelError(
        f"The image (shape {reading.shape}, read as axes {reading.axes}) has {has} "
        f"channel{'s' * (has != 1)}, and the model takes {_accepted(spec)}. {remedy}."
    )


def _accepted(spec: ModelSpec) -> str:
    return "1 or 3" if spec.gray_as_rgb else str(spec.plane_channels)
