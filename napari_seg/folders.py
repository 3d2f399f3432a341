"""Which images lie in a folder, and what was made of them."""

from __future__ import annotations

from pathlib import Path

from napari_seg.errors import InputError

__all__ = [
    "FORMATS",
    "MADE_HERE",
    "bare_name",
    "images_in",
    "is_zarr",
    "zarr_root",
]

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
FORMATS = "TIFF, PNG, JPEG and OME-Zarr (a folder that ends in .zarr) can be read"
#: What predict appends to the name of an image.
MADE_HERE = ("_mask", "_confidence", "_instances")


def is_zarr(path: Path) -> bool:
    """Tell whether `path` is an OME-Zarr, or a folder inside of one."""
    # The last three are what a group or array of zarr has in its folder.
    return path.suffix.lower() == ".zarr" or any(
        (path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")
    )


def zarr_root(path: Path) -> Path:
    """Return the outermost folder of the OME-Zarr that `path` is or lies in."""
    return next(
        (each for each in reversed(path.parents) if each.suffix.lower() == ".zarr"),
        path,
    )


def bare_name(path: Path) -> str:
    """Return the name without suffix: ``a`` of ``a.tif`` and of ``a.ome.tif``."""
    return path.name.removesuffix(path.suffix).removesuffix(".ome")


def images_in(folder: Path, made_here: bool = False) -> list[Path]:
    """Return the images that lie in a folder itself, by name.

    A mask that this program wrote beside its image is none of them, unless
    `made_here`.

    Raises
    ------
    InputError
        If there is no image.
    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and (is_zarr(path) or path.suffix.lower() in _SUFFIXES)
    ]
    names = {bare_name(path) for path in found}
    made = {name + ending for name in names for ending in MADE_HERE}
    images = [path for path in found if made_here or bare_name(path) not in made]
    if not images:
        raise InputError(f"There is no image in {folder}; {FORMATS}.")
    return images
