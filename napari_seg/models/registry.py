"""The architectures by name, and models that are made or adapted from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.deeplab import DeepLabV3, DeepLabV3Plus
from napari_seg.models.encoders import RESNETS, VGGS
from napari_seg.models.fcn import FCN8s, FCN16s, FCN32s, FCNResNet
from napari_seg.models.published import Fetched
from napari_seg.models.spec import ModelSpec
from napari_seg.models.unet import ResNetUNet, UNet
from napari_seg.models.unet3d import UNet3D

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "adapt_model",
    "build",
    "create_model",
    "parameter_count",
    "spread_channels",
]


@dataclass(frozen=True)
class Architecture:
    """One entry of :data:`ARCHITECTURES`.

    Attributes
    ----------
    title : str
        Name as papers write it.
    model : type
        The network.
    encoders : tuple of (str or None)
        Encoders that fit, the default first; None is the architecture's own.
    auxiliary : bool
        Whether an auxiliary head exists.
    """

    title: str
    model: type[SegmentationModel]
    encoders: tuple[str | None, ...]
    auxiliary: bool = False


#: By how much the logit of a new class starts below the mean of the others: it wins no
#: pixel, and its odds against a class of mean logit, 1 to 3, are soon made up for.
_NEW_CLASS_MARGIN = 1.0

_DEEP = ("resnet50", "resnet101", "resnet34", "resnet18")
ARCHITECTURES = {
    "unet": Architecture("U-Net", UNet, (None, *RESNETS)),
    "fcn": Architecture("FCN, dilated ResNet", FCNResNet, _DEEP, auxiliary=True),
    "fcn8s": Architecture("FCN-8s", FCN8s, tuple(VGGS)),
    "fcn16s": Architecture("FCN-16s", FCN16s, tuple(VGGS)),
    "fcn32s": Architecture("FCN-32s", FCN32s, tuple(VGGS)),
    "deeplabv3": Architecture("DeepLab v3", DeepLabV3, _DEEP, auxiliary=True),
    "deeplabv3plus": Architecture(
        "DeepLab v3+", DeepLabV3Plus, ("resnet34", "resnet18", "resnet50", "resnet101")
    ),
    "unet3d": Architecture("3D U-Net", UNet3D, (None,)),
}


def create_model(
    arch: str,
    in_channels: int = 1,
    classes: Sequence[str] = ("background", "foreground"),
    encoder: str | None = None,
    auxiliary_head: bool = False,
    *,
    object_head: bool = False,
    width: int | None = None,
    depth: int | None = None,
    norm: str = "batch",
    output_stride: int | None = None,
    separable: bool = False,
    name: str = "",
    gray_as_rgb: bool = False,
    slices: int = 1,
    anisotropy: float | None = None,
    encoder_weights: str | None = None,
    on_progress: Callable[[Fetched], None] | None = None,
) -> SegmentationModel:
    """Make a model with random weights, or with an encoder that was trained before.

    Parameters
    ----------
    arch : str
        A key of :data:`ARCHITECTURES`.
    in_channels : int
        Channels of the input: those of the image, times `slices`.
    classes : sequence of str
        Class names, the background first.
    encoder : str or None
        Encoder; None takes the architecture's default.
    auxiliary_head : bool
        Add torchvision's ``aux_classifier`` (``fcn`` and ``deeplabv3``), which is
        used in training only.
    object_head : bool
        Add a second decoder that tells objects apart (``unet`` and
        ``deeplabv3plus``).
    width, norm, output_stride, separable, name, gray_as_rgb, slices
        See :class:`~napari_seg.models.spec.ModelSpec`.
    depth : int or None
        Poolings of the plain U-Nets; None is 4, in three dimensions 3.
    anisotropy : float or None
        Of ``unet3d``: the step between slices in pixels; None is 1.
    encoder_weights : str or None
        ``"imagenet"`` starts the encoder from torchvision's ImageNet weights, which
        are fetched on first use. Any number of input channels: kernels for RGB are
        spread over other channels as :func:`adapt_model` does.
    on_progress : callable or None
        Called while weights are fetched; None shows a bar in a terminal.

    Returns
    -------
    SegmentationModel
        In training mode, on the CPU.

    Raises
    ------
    DownloadError
        If weights have to be fetched and cannot be.
    InputError
        If the architecture or the encoder is unknown, or does not fit, or if it has
        no such option.
    """
    architecture = _architecture(arch)
    chosen = encoder or architecture.encoders[0]
    if auxiliary_head and not architecture.auxiliary:
        raise InputError(
            f"{architecture.title} has no auxiliary head; fcn and deeplabv3 do."
        )
    volumes = architecture.model.ndim == 3
    spec = ModelSpec(
        arch=arch,
        encoder=chosen,
        in_channels=in_channels,
        classes=tuple(classes),
        name=name or arch,
        width=width,
        depth=architecture.model.default_depth if depth is None else depth,
        norm=norm,
        output_stride=output_stride,
        separable=separable,
        auxiliary_head=auxiliary_head,
        object_head=object_head,
        gray_as_rgb=gray_as_rgb,
        slices=slices,
        anisotropy=1.0 if volumes and anisotropy is None else anisotropy,
    )
    if encoder_weights is None:
        return build(spec)
    # Imported late, since it imports this module.
    from napari_seg.models.pretrained import build_pretrained

    return build_pretrained(spec, encoder_weights, on_progress)


def build(spec: ModelSpec) -> SegmentationModel:
    """Return the network that `spec` describes, with random weights.

    Raises
    ------
    InputError
        If the architecture or the encoder is unknown, or does not fit.
    """
    architecture = _architecture(spec.arch)
    _check_atrous(spec, architecture)
    if spec.object_head and not architecture.model.tells_objects:
        able = [key for key, each in ARCHITECTURES.items() if each.model.tells_objects]
        raise InputError(
            f"{architecture.title} cannot have an object head; {', '.join(able)} can."
        )
    if spec.encoder not in architecture.encoders:
        fitting = ", ".join(str(name) for name in architecture.encoders)
        raise InputError(
            f"{architecture.title} has no encoder {spec.encoder!r}; choose one of "
            f"{fitting}."
        )
    if spec.ndim != architecture.model.ndim:
        volumes = [key for key, each in ARCHITECTURES.items() if each.model.ndim == 3]
        raise InputError(
            f"anisotropy is {spec.anisotropy}, but it says how volumes are sampled: "
            f"leave it out for {architecture.title}, or take {', '.join(volumes)}."
        )
    if spec.arch == "unet" and spec.encoder is not None:
        return ResNetUNet(spec)
    return architecture.model(spec)


def _check_atrous(spec: ModelSpec, architecture: Architecture) -> None:
    """Raise InputError for an output stride or separability that is not on offer."""
    strides = architecture.model.output_strides
    if spec.output_stride is not None and not strides:
        able = [key for key, each in ARCHITECTURES.items() if each.model.output_strides]
        raise InputError(
            f"{architecture.title} has no output stride to choose; {', '.join(able)} "
            "have."
        )
    if spec.output_stride not in (None, *strides):
        raise InputError(
            f"The output stride is {spec.output_stride}; that of {architecture.title} "
            f"can be {' or '.join(map(str, strides))}."
        )
    if spec.separable and spec.arch != "deeplabv3plus":
        raise InputError(
            f"{architecture.title} has no separable convolutions; deeplabv3plus has."
        )


def _architecture(arch: str) -> Architecture:
    if arch not in ARCHITECTURES:
        raise InputError(
            f"Architecture {arch!r} is unknown; choose one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[arch]


def parameter_count(model: nn.Module) -> int:
    """Return the number of learnable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def adapt_model(
    model: SegmentationModel,
    in_channels: int | None = None,
    classes: Iterable[str] | None = None,
) -> SegmentationModel:
    """Return a copy for other channels or classes that keeps all weights that fit.

    A first convolution for other channels takes the mean of the old kernels over the
    input channels, scaled by ``old / new`` so that its response keeps its size; mean
    and standard deviation of the training images are averaged likewise.

    A class that both models have, by name, keeps its row of the head. A new one starts
    as the mean of the kept rows with a lower bias: its logit lies below the highest
    one everywhere, whatever the old logits are, so that no mask changes before the
    class is trained (in the FCNs, up to what their upsampling has learned).

    Parameters
    ----------
    model : SegmentationModel
        Left unchanged.
    in_channels : int or None
        None keeps them.
    classes : iterable of str or None
        None keeps them.

    Returns
    -------
    SegmentationModel
        On the device and in the mode of `model`.
    """
    old = model.spec
    channels = old.in_channels if in_channels is None else in_channels
    names = old.classes if classes is None else tuple(classes)
    adapted = build(
        replace(
            old,
            in_channels=channels,
            classes=names,
            gray_as_rgb=old.gray_as_rgb and channels == old.in_channels,
            slices=1 if channels % old.slices else old.slices,
            normalization=old.normalization.for_channels(channels),
        )
    )
    rows = [old.classes.index(name) if name in old.classes else -1 for name in names]
    state = adapted.state_dict()
    for key, value in model.state_dict().items():
        layer = key.rpartition(".")[0]
        if layer.startswith(model.class_layers):
            state[key] = _move_classes(value.cpu(), state[key], rows)
        elif layer == model.first_layer and value.ndim > 1:
            state[key] = spread_channels(value.cpu(), channels)
        else:
            state[key] = value
    adapted.load_state_dict(state)
    device = next(model.parameters()).device
    return adapted.to(device).train(model.training)


def spread_channels(weight: Tensor, channels: int) -> Tensor:
    """Return kernels (out, in, [d,] h, w) for another number of input channels."""
    before = weight.shape[1]
    if before == channels:
        return weight
    mean = weight.mean(dim=1, keepdim=True) * (before / channels)
    return mean.repeat_interleave(channels, dim=1)


def _move_classes(old: Tensor, fresh: Tensor, rows: list[int]) -> Tensor:
    """Return `fresh` with the rows of the classes that `old` has; -1 is a new class.

    Upsampling filters (K, K, h, w) have a class on both of their first axes, and
    start as interpolation for a new class; all else has it on the first.
    """
    kept = torch.tensor([row for row, source in enumerate(rows) if source >= 0])
    if not len(kept):
        return fresh
    sources = torch.tensor(rows)[kept]
    moved = fresh.clone()
    if old.ndim == 4 and old.shape[0] == old.shape[1] and old.shape[-1] > 1:
        moved[kept[:, None], kept] = old[sources[:, None], sources]
        return moved
    moved[:] = old[sources].mean(dim=0)
    if old.ndim == 1:
        moved -= _NEW_CLASS_MARGIN
    moved[kept] = old[sources]
    return moved
