"""The architectures by name, and models that are made or adapted from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_seg.errors import InputError
from napari_seg.models.base import SegmentationModel
from napari_seg.models.custom import CustomModel
from napari_seg.models.deeplab import DeepLabV3, DeepLabV3Plus
from napari_seg.models.encoders import RESNETS, VGGS
from napari_seg.models.fcn import FCN8s, FCN16s, FCN32s, FCNResNet
from napari_seg.models.published import Fetched
from napari_seg.models.registrations import (
    REGISTERED,
    Factory,
    Registration,
    import_registrations,
)
from napari_seg.models.spec import ModelSpec
from napari_seg.models.unet import ResNetUNet, UNet
from napari_seg.models.unet3d import UNet3D

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "adapt_model",
    "architectures",
    "build",
    "create_model",
    "parameter_count",
    "register_model",
    "spread_channels",
    "unregister_model",
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
    custom : Registration or None
        How a network of the user's own is made.
    """

    title: str
    model: type[SegmentationModel]
    encoders: tuple[str | None, ...]
    auxiliary: bool = False
    custom: Registration | None = None


#: By how much the logit of a new class starts below the mean of the others: it wins no
#: pixel, and its odds against a class of mean logit, 1 to 3, are soon made up for.
_NEW_CLASS_MARGIN = 1.0

#: Least halo of a network whose halo nobody has told.
_HALO = 64


class _Usual(NamedTuple):
    in_channels: int = 1
    classes: tuple[str, ...] = ("background", "foreground")


_USUAL = _Usual()
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


def register_model(
    name: str,
    factory: Factory,
    *,
    in_channels: int = 1,
    classes: Sequence[str] = ("background", "foreground"),
    stride: int = 32,
    halo: int | None = None,
) -> None:
    """Make a network of your own an architecture, here and wherever this is called.

    From then on it is one like the others: :func:`create_model`, saving and loading,
    prediction in tiles, fine-tuning and the dock know it by its name. A model file
    holds its weights and its name, not its code: whoever loads the file has to call
    this before, or name the module that does in the environment variable
    ``NAPARI_SEG_MODELS``, or in an entry point of the group ``napari_seg.models``. The
    dock trains in a process of its own, which needs one of the latter two.

    Parameters
    ----------
    name : str
        Letters, digits, ``_`` and ``-``. Registering it anew replaces the network.
    factory : callable
        ``factory(in_channels, n_classes)`` returns a ``torch.nn.Module`` with random
        weights that maps (N, in_channels, H, W) float32 to (N, n_classes, H, W)
        logits, for any H and W that are multiples of `stride`. Any two of its results
        have the same parameters by name, but for shapes that depend on channels and
        classes.
    in_channels : int
        Channels of the input where :func:`create_model` is not told.
    classes : sequence of str
        Class names likewise, the background first.
    stride : int
        Pixels by which an input may be shifted so that its output shifts likewise: the
        product of the strides of all poolings, or a multiple.
    halo : int or None
        Context in pixels around a tile beyond which the input has next to no influence,
        a multiple of the stride; None is the least one of 64 pixels or more.

    Raises
    ------
    InputError
        If the name is one of the program's own, or something is out of range.
    """
    plain = name.replace("_", "").replace("-", "")
    if not (plain.isascii() and plain.isalnum()):
        raise InputError(
            f"{name!r} is no name for a network; take letters, digits, _ and -."
        )
    known = ARCHITECTURES.get(name)
    if known is not None and known.custom is None:
        raise InputError(f"{name!r} is a network of napari-seg; take another name.")
    if halo is None:
        halo = -(-_HALO // max(stride, 1)) * stride
    registration = Registration(factory, in_channels, tuple(classes), stride, halo)
    # Says what is wrong with channels or classes now, not at the first use.
    ModelSpec(name, None, in_channels, registration.classes)
    REGISTERED[name] = registration
    ARCHITECTURES[name] = Architecture(name, CustomModel, (None,), custom=registration)


def unregister_model(name: str) -> None:
    """Forget a network that was registered; one that was not is no error."""
    if REGISTERED.pop(name, None) is not None:
        del ARCHITECTURES[name]


def architectures() -> dict[str, Architecture]:
    """Return :data:`ARCHITECTURES` with those that other modules register.

    Raises
    ------
    InputError
        If one of these modules cannot be imported.
    """
    import_registrations()
    return ARCHITECTURES


def create_model(
    arch: str,
    in_channels: int | None = None,
    classes: Sequence[str] | None = None,
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
    in_channels : int or None
        Channels of the input: those of the image, times `slices`; None is 1, or what
        the network was registered with.
    classes : sequence of str or None
        Class names, the background first; None is background and foreground, or what
        the network was registered with.
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
    usual = architecture.custom or _USUAL
    spec = ModelSpec(
        arch=arch,
        encoder=chosen,
        in_channels=usual.in_channels if in_channels is None else in_channels,
        classes=tuple(usual.classes if classes is None else classes),
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
    if architecture.custom is not None:
        return CustomModel(spec, architecture.custom)
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
        import_registrations()
    if arch not in ARCHITECTURES:
        raise InputError(
            f"Architecture {arch!r} is unknown; choose one of "
            f"{', '.join(ARCHITECTURES)}. If it is a network of your own, register it "
            "first: napari_seg.register_model."
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

    Raises
    ------
    NotTrainableError
        If it is a graph of another program.
    """
    model.check_trainable()
    old = model.spec
    if isinstance(model, CustomModel):
        model.name_layers()
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
        layer, kept = key.rpartition(".")[0], value.cpu()
        if layer == model.first_layer and kept.ndim > 1:
            kept = spread_channels(kept, channels)
        if _has_classes(model, layer):
            kept = _move_classes(kept, state[key], rows)
        state[key] = kept
    try:
        adapted.load_state_dict(state)
    except RuntimeError as error:
        # A network of the user's own, such as one that treats each channel by itself.
        raise InputError(
            f"{old.label} cannot be adapted: more of its layers than the first and the "
            f"last depend on channels and classes. ({str(error).splitlines()[-1]})"
        ) from error
    device = next(model.parameters()).device
    return adapted.to(device).train(model.training)


def with_object_head(model: SegmentationModel) -> SegmentationModel:
    """Return a copy that has an object head; the classes stay what they were.

    A head that is there already is kept; a new one has random weights.

    Raises
    ------
    InputError
        If the architecture can have none.
    """
    made = build(replace(model.spec, object_head=True))
    made.load_state_dict(made.state_dict() | model.state_dict())
    return made.eval()


def without_object_head(model: SegmentationModel) -> SegmentationModel:
    """Return a copy that gives classes alone, which stay what they were."""
    made = build(replace(model.spec, object_head=False))
    state = model.state_dict()
    made.load_state_dict({key: state[key] for key in made.state_dict()})
    return made.eval()


def _has_classes(model: SegmentationModel, layer: str) -> bool:
    if isinstance(model, CustomModel):
        return layer in model.class_layers
    return layer.startswith(model.class_layers)


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
