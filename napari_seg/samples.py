"""Sample images: three real ones and synthetic nuclei.

`ihc`, `retina`, `cell` and `nuclei` are what napari's *Open Sample* menu calls;
:func:`load_sample` gives scripts the mask as well.  Origin, licence and limits of the
masks: ``sample_data/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tifffile
from skimage.io import imread

from napari_seg.errors import InputError
from napari_seg.resources import sample_folder
from napari_seg.synthetic import Optics, SyntheticNuclei, synthetic_nuclei

__all__ = [
    "SAMPLES",
    "Optics",
    "Sample",
    "SyntheticNuclei",
    "cell",
    "ihc",
    "load_sample",
    "nuclei",
    "retina",
    "synthetic_nuclei",
]

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its mask.

    Attributes
    ----------
    name : str
        Short name, as in :data:`SAMPLES`.
    image : (Y, X) or (Y, X, 3) array
        uint8, or uint16 for the synthetic nuclei.
    mask : (Y, X) uint8
        Class ids: indices into `classes`.
    classes : tuple of str
        Class names, background first.
    pixel_size : float or None
        Micrometres per pixel, where known.
    """

    name: str
    image: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    pixel_size: float | None = None


@dataclass(frozen=True)
class _Stored:
    """What is known of a sample that lies in the samples' folder."""

    file: str
    classes: tuple[str, ...]
    pixel_size: float | None = None


_STORED = {
    "ihc": _Stored("ihc.png", ("background", "nucleus", "stained epithelium")),
    "retina": _Stored("retina.jpg", ("background", "vessel")),
    "cell": _Stored("cell.png", ("background", "cell"), pixel_size=0.107),
}

SAMPLES = (*_STORED, "nuclei")
"""Names that :func:`load_sample` knows."""


def load_sample(name: str) -> Sample:
    """Load a sample with its mask.

    Parameters
    ----------
    name : str
        One of :data:`SAMPLES`.

    Raises
    ------
    InputError
        If there is no such sample, or its files are missing.
    """
    if name == "nuclei":
        image, mask, _ = synthetic_nuclei()
        return Sample(name, image, mask, ("background", "nucleus"))
    stored = _known(name)
    mask = tifffile.imread(_existing(f"{name}_mask.tif"))
    return Sample(name, _image(stored), mask, stored.classes, stored.pixel_size)


def ihc() -> list[LayerData]:
    """Colonic glands, DAB and haematoxylin: one RGB image layer."""
    return _stored_layer("ihc")


def retina() -> list[LayerData]:
    """Fundus photograph: one RGB image layer."""
    return _stored_layer("retina")


def cell() -> list[LayerData]:
    """One cell in quantitative phase: one gray image layer, scaled in micrometres."""
    return _stored_layer("cell")


def nuclei() -> list[LayerData]:
    """Synthetic fluorescence nuclei: one gray image layer."""
    return [_layer("nuclei", synthetic_nuclei().image, None)]


def _stored_layer(name: str) -> list[LayerData]:
    stored = _known(name)
    return [_layer(name, _image(stored), stored.pixel_size)]


def _layer(name: str, image: npt.NDArray[Any], pixel_size: float | None) -> LayerData:
    meta: dict[str, Any] = {"name": name, "rgb": image.ndim == 3}
    if pixel_size is not None:
        meta |= {"scale": (pixel_size, pixel_size), "units": ("um", "um")}
    return image, meta, "image"


def _known(name: str) -> _Stored:
    if name not in _STORED:
        raise InputError(
            f"There is no sample {name!r}; there are {', '.join(SAMPLES)}."
        )
    return _STORED[name]


def _image(stored: _Stored) -> npt.NDArray[Any]:
    return np.asarray(imread(_existing(stored.file)))


def _existing(file: str) -> str:
    path = sample_folder() / file
    if not path.is_file():
        raise InputError(f"{path} is missing; install napari-seg again.")
    return str(path)
