"""Large images of varied content, and how they are cut into tiles."""

from __future__ import annotations

from contextlib import closing
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_seg.inference.predict import stream
from napari_seg.inference.tiling import make_tile
from napari_seg.models.base import SegmentationModel
from napari_seg.synthetic import synthetic_nuclei

__all__ = ["block", "halo_of", "tile_reads", "varied_nuclei", "write_zarr"]

#: Side of the pieces of which large images are made.
PIECE = 1024
_KINDS = 4


@cache
def _piece(seed: int) -> NDArray[np.uint16]:
    """Return nuclei, more of them and smaller ones with each seed."""
    return synthetic_nuclei((PIECE, PIECE), 150 + 150 * seed, seed=seed).image


def block(row: int, column: int) -> NDArray[np.uint16]:
    """Return piece `row`, `column` of an endless image, (1024, 1024).

    Four fields in eight orientations, chosen by the place: made in no time, and no two
    neighbours are alike.
    """
    seed = row * 7919 + column * 104729
    piece = np.rot90(_piece(seed % _KINDS), seed // _KINDS % 4)
    return np.ascontiguousarray(piece.T if seed // 16 % 2 else piece)


def varied_nuclei(side: int) -> NDArray[np.uint16]:
    """Return the top left corner of that image, (side, side)."""
    n = -(-side // PIECE)
    rows = [np.hstack([block(y, x) for x in range(n)]) for y in range(n)]
    return np.ascontiguousarray(np.vstack(rows)[:side, :side])


def write_zarr(path: Path, side: int) -> Any:
    """Write that corner as a zarr array in chunks of 512², and open it."""
    array: Any = zarr.create_array(
        str(path), shape=(side, side), chunks=(512, 512), dtype=np.uint16
    )
    for y, x in product(range(side // PIECE), repeat=2):
        place = (slice(y * PIECE, (y + 1) * PIECE), slice(x * PIECE, (x + 1) * PIECE))
        array[place] = block(y, x)
    return zarr.open_array(str(path), mode="r")


def tile_reads(model: SegmentationModel, side: int) -> tuple[int, int]:
    """Return height and width of what an inner tile of a square image reads."""
    image = np.zeros((side, side), np.uint8)
    with closing(stream(model, image, device="cpu")) as results:
        core = next(results).box
    inner = tuple(slice(s.stop, 2 * s.stop - s.start) for s in core)
    read = make_tile(
        (inner[0], inner[1]), image.shape, halo_of(model), model.stride
    ).read
    return read[0].stop - read[0].start, read[1].stop - read[1].start


def halo_of(model: SegmentationModel) -> int:
    """Return the halo with which predict() plans its tiles."""
    return -(-model.halo // model.stride) * model.stride
