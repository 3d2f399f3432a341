"""Which networks of the user's own there are; loads no torch by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from napari_seg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "GROUP",
    "MODULES_VARIABLE",
    "REGISTERED",
    "Factory",
    "Registration",
    "import_registrations",
    "registered",
]

#: (in_channels, n_classes) → the network.
Factory = Callable[[int, int], "nn.Module"]

#: Environment variable that names modules, separated by commas, which register
#: networks when they are imported; so that the command line and processes that the
#: dock starts know them, too.
MODULES_VARIABLE = "NAPARI_SEG_MODELS"
#: Entry points of other packages to such modules.
GROUP = "napari_seg.models"


@dataclass(frozen=True)
class Registration:
    """What :func:`~napari_seg.models.registry.register_model` was told.

    Attributes
    ----------
    factory : callable
        (in_channels, n_classes) → a network that maps (N, in_channels, H, W) float32
        to (N, n_classes, H, W) logits, for H and W that are multiples of the stride.
    in_channels : int
        Of a model for which nobody says otherwise.
    classes : tuple of str
        Likewise.
    stride, halo : int
        See :class:`~napari_seg.models.base.SegmentationModel`.
    """

    factory: Factory
    in_channels: int
    classes: tuple[str, ...]
    stride: int
    halo: int

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise InputError(
                f"The factory is {self.factory!r}; give a function that makes the "
                "network: factory(in_channels, n_classes)."
            )
        if self.stride < 1 or self.halo < 0 or self.halo % self.stride:
            raise InputError(
                f"stride is {self.stride}, halo is {self.halo}; the stride starts at "
                "1, and the halo is a multiple of it."
            )


#: What :func:`~napari_seg.models.registry.register_model` was told, by name.
REGISTERED: dict[str, Registration] = {}


def registered() -> dict[str, Registration]:
    """Return the networks of the user's own by name.

    Raises
    ------
    InputError
        As :func:`import_registrations`.
    """
    import_registrations()
    return dict(REGISTERED)


def import_registrations() -> None:
    """Import the modules that register networks, as entry points or by variable.

    Raises
    ------
    InputError
        If one of them cannot be imported.
    """
    named = os.environ.get(MODULES_VARIABLE, "").split(",")
    for name in filter(None, map(str.strip, named)):
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                f"{MODULES_VARIABLE} names the module {name!r}, which cannot be "
                f"imported ({error}); its folder has to be on PYTHONPATH."
            ) from error
    for point in _points(tuple(sys.path)):
        try:
            point.load()
        except ImportError as error:
            raise InputError(
                f"The package that registers the network {point.name!r} cannot be "
                f"imported ({error}); mend or uninstall it."
            ) from error


@lru_cache(maxsize=1)
def _points(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Reads a file of every package installed (50 ms), and the dock asks all the time.
    return tuple(entry_points(group=GROUP))
