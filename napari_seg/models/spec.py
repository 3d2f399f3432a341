"""What a model is, without its weights: architecture, classes, channels, history."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from napari_seg.errors import InputError

__all__ = [
    "LARGEST_ZOOM",
    "MAX_CLASSES",
    "MIN_SIDE",
    "SMALLEST_ZOOM",
    "ModelSpec",
    "Normalization",
]

#: 255 means "unknown" in a label image, so ids 0..254 are left for classes.
MAX_CLASSES = 255

#: In which sizes a network can see an image.
SMALLEST_ZOOM, LARGEST_ZOOM = 1 / 16, 16.0

#: Smallest height and width that every architecture takes, in pixels.
MIN_SIDE = 32


@dataclass(frozen=True)
class Normalization:
    """How intensities become what the network sees.

    Percentiles of the whole image are mapped to 0 and 1, channel by channel. What was
    trained on photographs then wants the mean of its training images subtracted, and
    the rest divided by their standard deviation.

    Attributes
    ----------
    low, high : float
        Percentiles, 0 to 100.
    full_range : bool
        An 8-bit image is divided by 255 instead, as for networks that were trained on
        photographs; images of other dtypes are scaled by their percentiles.
    mean, std : tuple of float or None
        Of the training images on the scale 0 to 1: one value for each channel, or one
        for all; None leaves the scale as it is.
    moments : bool
        Mean, and mean plus standard deviation of the image become 0 and 1 instead of
        the percentiles: what other programs call zero mean and unit variance.
    together : bool
        All channels share percentiles or moments.
    fixed : tuple of float or None
        Two intensities that become 0 and 1 in every image instead.
    margin : float
        What is added to the distance of what becomes 0 and 1.
    clip : tuple of float or None
        Bounds of scaled intensities. A hot pixel would otherwise outweigh its
        surroundings, while the tails beyond both percentiles still carry information.
    """

    low: float = 1.0
    high: float = 99.8
    full_range: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    moments: bool = False
    together: bool = False
    fixed: tuple[float, float] | None = None
    margin: float = 0.0
    clip: tuple[float, float] | None = (-0.5, 2.0)

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise InputError(
                f"Normalisation percentiles are {self.low} and {self.high}; they must "
                "satisfy 0 <= low < high <= 100."
            )
        means, deviations = self.mean or (), self.std or ()
        if len(means) != len(deviations) or not all(each > 0 for each in deviations):
            raise InputError(
                f"Normalisation mean {self.mean} and std {self.std} do not fit "
                "together: there must be as many of both, and every std above 0."
            )

    def for_channels(self, channels: int) -> Normalization:
        """Return this for another number of channels, which then share one mean."""
        if self.mean is None or self.std is None or len(self.mean) in (1, channels):
            return self
        mean, std = (sum(each) / len(each) for each in (self.mean, self.std))
        return replace(self, mean=(mean,), std=(std,))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        """Build it from plain values; keys of later versions are left out."""
        known = {f.name for f in fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
            if key in known
        }
        return cls(**kept)


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its weights; travels inside the model file.

    Attributes
    ----------
    arch : str
        Name in :data:`napari_seg.models.registry.ARCHITECTURES`.
    encoder : str or None
        Encoder of the architecture; None for the plain U-Net.
    in_channels : int
        Channels of the input tensor (N, C, H, W).
    classes : tuple of str
        Class names in the order of the ids; the first is the background.
    name : str
        What the user calls the model.
    width : int or None
        Channels of the first level of the plain U-Net, or of the two layers that
        replace VGG's fully connected ones in the FCNs; None is the architecture's own.
    depth : int
        Number of poolings of the plain U-Nets.
    norm : str
        Normalisation layer of the plain U-Nets: batch, group, instance or none.
    output_stride : int or None
        Output stride of the encoder of the FCN on a ResNet and of the DeepLabs, 8, 16
        or 32: smaller is finer and takes more time and memory; None is the
        architecture's own.
    separable : bool
        Whether ASPP and decoder of DeepLab v3+ use depthwise separable convolutions.
    auxiliary_head : bool
        Whether a second head (torchvision's ``aux_classifier``) exists for training.
    object_head : bool
        Whether a second decoder tells objects apart: see
        :mod:`napari_seg.models.objects`.
    gray_as_rgb : bool
        The three input channels are RGB, and a one-channel image is repeated over
        them: such a model takes both kinds of image.
    slices : int
        Neighbouring slices of a stack whose channels are all among the input channels,
        the one to be segmented in their middle ("2.5-D"); odd, 1 is a plane alone.
    anisotropy : float or None
        Of a network that sees volumes: the step between slices in pixels, 1 where
        voxels are cubes; None is a network that sees planes.
    object_diameter : float or None
        Typical diameter of the objects in the training images, in pixels, as the
        network saw them; None where nobody measured it.
    pixel_size : float or None
        Side of a pixel of the training images in micrometres, as the network saw them.
    normalization : Normalization
        How intensities are scaled before the network sees them.
    temperature : float
        What logits are divided by where probabilities are asked for, fitted on pixels
        that training did not see (Guo et al. 2017); no class changes by it.
    history : tuple of dict
        One entry for each training run: data, steps, seconds, scores, versions.
    """

    arch: str
    encoder: str | None
    in_channels: int
    classes: tuple[str, ...]
    name: str = ""
    width: int | None = None
    depth: int = 4
    norm: str = "batch"
    output_stride: int | None = None
    separable: bool = False
    auxiliary_head: bool = False
    object_head: bool = False
    gray_as_rgb: bool = False
    slices: int = 1
    anisotropy: float | None = None
    object_diameter: float | None = None
    pixel_size: float | None = None
    normalization: Normalization = field(default_factory=Normalization)
    temperature: float = 1.0
    history: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.in_channels < 1:
            raise InputError(
                f"in_channels is {self.in_channels}; it must be at least 1."
            )
        if self.slices < 1 or self.slices % 2 == 0 or self.in_channels % self.slices:
            raise InputError(
                f"slices is {self.slices}, in_channels is {self.in_channels}; slices "
                "is odd, and each of them has the same number of channels."
            )
        if self.anisotropy is not None and self.slices > 1:
            raise InputError(
                f"slices is {self.slices}, but a network that sees volumes needs no "
                "neighbours as channels; leave slices at 1."
            )
        for name in ("anisotropy", "object_diameter", "pixel_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} is {value}; it must be above 0.")
        if self.depth < 1 or (self.width is not None and self.width < 1):
            raise InputError(
                f"width is {self.width}, depth is {self.depth}; both start at 1."
            )
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be above 0.")
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise InputError(
                f"{len(self.classes)} classes given; a model has 2 to {MAX_CLASSES} "
                "classes, the first of them the background."
            )
        if len(set(self.classes)) != len(self.classes):
            raise InputError(f"Class names must differ: {', '.join(self.classes)}.")
        if self.gray_as_rgb and (self.in_channels, self.slices) != (3, 1):
            raise InputError(
                "gray_as_rgb needs in_channels=3 (red, green, blue) and one slice."
            )
        if len(self.normalization.mean or (0.0,)) not in (1, self.in_channels):
            raise InputError(
                f"The normalisation has {len(self.normalization.mean or ())} means, "
                f"but the model takes {self.in_channels} channel(s); give one for "
                "each, or one for all."
            )

    @property
    def n_classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.classes)

    @property
    def ndim(self) -> int:
        """Spatial axes that the network sees at once: 2, or 3 for volumes."""
        return 2 if self.anisotropy is None else 3

    @property
    def plane_channels(self) -> int:
        """Channels of one slice."""
        return self.in_channels // self.slices

    @property
    def label(self) -> str:
        """Short description: ``unet`` or ``deeplabv3plus (resnet18)``."""
        return f"{self.arch} ({self.encoder})" if self.encoder else self.arch

    def with_history(self, entry: dict[str, Any]) -> ModelSpec:
        """Return this spec with one more training run in its history."""
        return replace(self, history=(*self.history, entry))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """Build a spec from :meth:`to_dict`; keys of later versions are left out.

        Raises
        ------
        InputError
            If a value is missing or out of range.
        """
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        try:
            kept["classes"] = tuple(str(name) for name in kept["classes"])
            kept["history"] = tuple(kept.get("history", ()))
            kept["normalization"] = Normalization.from_dict(
                kept.get("normalization", {})
            )
            return cls(**kept)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The model's description is incomplete: {error}."
            ) from error
