"""What every segmentation network here has in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_seg.errors import ChannelError, ImageError, NotTrainableError
from napari_seg.models.spec import MIN_SIDE, ModelSpec

__all__ = ["MIN_SIDE", "SegmentationModel"]


class SegmentationModel(nn.Module):
    """A network that maps (N, C, H, W) float32 to (N, K, H, W) logits.

    One that sees volumes has a further axis D, of slices, before H and W.
    Subclasses implement :meth:`logits`, which may return an auxiliary output too.

    Parameters
    ----------
    spec : ModelSpec
        Architecture, channels and classes.

    Attributes
    ----------
    ndim : int
        Spatial axes of the input, 2 or 3.
    default_depth : int
        Number of poolings, where it can be chosen.
    stride : int
        Pixels by which an input may be shifted so that its output shifts likewise;
        the origins of tiles must be multiples of it.
    halo : int
        Context in pixels around a tile beyond which the input has next to no
        influence on the output: the radius of the effective receptive field
        (Luo et al. 2016, arXiv:1701.04128), rounded up to a multiple of the stride.
    slice_stride, slice_halo : int
        The same along the slices of a volume.
    output_strides : tuple of int
        Output strides of the encoder that ``spec.output_stride`` can choose from, the
        default first; empty where the architecture has one of its own.
    global_context : bool
        True where something spans the whole input (the image-level features of ASPP,
        group and instance normalisation). A prediction gives all tiles of a plane one
        mean for the image-level features; normalisation goes by that of the tile.
    first_layer : str
        Name of the convolution that meets the image.
    class_layers : tuple of str
        Names of the layers whose channels are the classes.
    tells_objects : bool
        Whether the architecture can have an object head.
    trainable : bool
        Whether PyTorch knows its layers: else it can predict, on a CPU, and neither be
        trained, nor adapted, nor saved.
    per_pixel : tuple of float or None
        Multiply-accumulates, and numbers in its largest feature map, for each pixel of
        the input, where there are no layers to count them from.
    """

    output_strides: ClassVar[tuple[int, ...]] = ()
    ndim: ClassVar[int] = 2
    default_depth: ClassVar[int] = 4
    stride: int = 1
    halo: int = 64
    slice_stride: int = 1
    slice_halo: int = 0
    global_context: bool = False
    first_layer: str = "backbone.conv1"
    class_layers: tuple[str, ...] = ("head",)
    tells_objects: ClassVar[bool] = False
    trainable: ClassVar[bool] = True
    per_pixel: tuple[float, float] | None = None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each spatial axis, (Y, X) or (Z, Y, X)."""
        return (self.slice_stride,) * (self.ndim - 2) + (self.stride,) * 2

    @property
    def halos(self) -> tuple[int, ...]:
        """The halo along each spatial axis."""
        return (self.slice_halo,) * (self.ndim - 2) + (self.halo,) * 2

    @property
    def least(self) -> tuple[int, ...]:
        """The smallest input along each spatial axis; one slice is enough."""
        return (1,) * (self.ndim - 2) + (MIN_SIDE,) * 2

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of tensors that is fastest: channels last."""
        return torch.channels_last if self.ndim == 2 else torch.channels_last_3d

    def standardize(self, x: Tensor) -> Tensor:
        """Return images on the scale of the network's training images.

        The last step of preparing an image, after any augmentation: the mean of
        :class:`~napari_seg.models.spec.Normalization` is subtracted and the rest
        divided by its standard deviation. :meth:`forward` takes what this returns.

        Parameters
        ----------
        x : Tensor
            (N, C, [D,] H, W) float32 of about 0 to 1, C as the network takes it.
        """
        mean, std = self.spec.normalization.mean, self.spec.normalization.std
        if mean is None or std is None:
            return x
        ones = (1,) * self.ndim
        shift, width = (x.new_tensor(each).view(-1, *ones) for each in (mean, std))
        return (x - shift) / width

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits and auxiliary logits (or None), both (N, K, [D,] H, W)."""
        raise TypeError(f"{type(self).__name__} does not implement logits().")

    def logits_and_objects(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K, H, W), and what tells objects apart (N, 3, H, W).

        The latter as :mod:`napari_seg.models.objects` describes it; only where
        ``spec.object_head`` is set.
        """
        raise TypeError(f"{type(self).__name__} has no object head.")

    def objects(self, x: Tensor) -> Tensor:
        """Return only what tells objects apart, (N, 3, H, W)."""
        return self.logits_and_objects(x)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, H, W) for an input (N, C, H, W), H and W >= 32.

        Of volumes (N, C, D, H, W) they are (N, K, D, H, W), for any D.

        Raises
        ------
        ChannelError
            If C is not ``spec.in_channels``.
        ImageError
            If H or W is below 32, or the input has another number of axes.
        """
        return self.forward_with_auxiliary(x)[0]

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``(logits, auxiliary logits or None)``; the latter serve training."""
        self._check(x)
        return self.logits(x)

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.ndim + 2 or min(x.shape[-2:]) < MIN_SIDE:
            axes = "(N, C, H, W)" if self.ndim == 2 else "(N, C, D, H, W)"
            raise ImageError(
                f"The network was given shape {tuple(x.shape)}; it takes "
                f"{axes} with H and W of at least {MIN_SIDE} pixels."
            )
        if x.shape[1] != self.spec.in_channels:
            raise ChannelError(
                f"The network takes {self.spec.in_channels} channel(s) but was given "
                f"{x.shape[1]}; adapt_model(model, in_channels={x.shape[1]}) makes one "
                "that fits."
            )

    def check_trainable(self) -> None:
        """Check that the model has weights that can be changed and saved.

        Raises
        ------
        NotTrainableError
            If it has none.
        """
        if not self.trainable:
            raise NotTrainableError(
                f"{self.spec.name} comes from another program as a finished graph: it "
                "predicts, but it cannot be fine-tuned, adapted or saved as a "
                "safetensors file. Start from a model of napari-seg, such as generic, "
                "and correct what this one predicts to teach it."
            )

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that extract features; all others form the decoder."""
        for name in ("encoder", "backbone"):
            part = getattr(self, name, None)
            if isinstance(part, nn.Module):
                return list(part.parameters())
        return []
