"""Which image is this?  Names for folders, and fingerprints of content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

__all__ = ["default_project_folder", "fingerprint", "safe_name"]

_WHOLE_BYTES = 32 << 20
_SAMPLES = 24
_EDGE = 32


def safe_name(name: str) -> str:
    """Return `name` as part of a file name on any system.

    Letters, digits, ``.``, ``-`` and single ``_`` remain; at most 60 characters.
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._-")
    return re.sub(r"_+", "_", plain)[:60].rstrip("._-") or "image"


def default_project_folder(image_name: str, image_fingerprint: str) -> Path:
    """Return the folder where an image's project lies unless the user chose another.

    It is below ``$NAPARI_SEG_HOME`` if set, else below the user's data folder.
    """
    home = os.environ.get("NAPARI_SEG_HOME")
    root = Path(home) if home else Path(platformdirs.user_data_dir("napari-seg", False))
    return root / "projects" / f"{safe_name(image_name)}-{image_fingerprint[:8]}"


def fingerprint(image: Any) -> str:
    """Return a name for the content of an image, the same in every run.

    Parameters
    ----------
    image : array
        Any shape and dtype; numpy, dask, zarr or whatever slices like them.

    Returns
    -------
    str
        32 hexadecimal digits.  Up to 32 MB every pixel counts; of larger images
        shape, dtype and 24 blocks do, so that no large image is read whole.
    """
    shape, dtype = tuple(int(n) for n in image.shape), np.dtype(image.dtype)
    digest = blake2b(f"{shape} {dtype.newbyteorder('<')}".encode(), digest_size=16)
    whole = prod(shape) * dtype.itemsize <= _WHOLE_BYTES
    for box in [...] if whole else _blocks(shape):
        block = np.ascontiguousarray(np.asarray(image[box]))
        digest.update(block.astype(dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield blocks spread over the image, evenly along every axis.

    Places are an additive recurrence with the powers of the generalised golden
    ratio (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    ratio = 2.0
    for _ in range(30):
        ratio = (1 + ratio) ** (1 / (len(shape) + 1))
    edges = [1] * max(0, len(shape) - 3) + [_EDGE] * min(3, len(shape))
    for i in range(1, _SAMPLES + 1):
        box = []
        for axis, (n, edge) in enumerate(zip(shape, edges, strict=True), start=1):
            start = int(i * ratio**-axis % 1.0 * (max(0, n - edge) + 1))
            box.append(slice(start, min(n, start + edge)))
        yield tuple(box)
