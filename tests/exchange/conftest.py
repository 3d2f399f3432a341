"""Objects that are hard on borders, and a mask with all of its properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_seg.exchange import Exchanged
from napari_seg.writer import Calibration

#: Noise of three objects and none: holes, parts that touch by corners or sides, at
#: every border of the image.
NOISE = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint32, shape, elements=st.sampled_from([0, 1, 7, 2**31]))
)


def calibrated(ndim: int) -> Calibration:
    """Return half a micrometre in Y and X, 2 in Z, 30 seconds in T."""
    return Calibration(
        "TZYX"[-ndim:],
        (30.0, 2.0, 0.5, 0.5)[-ndim:],
        ("second", "micrometer", "micrometer", "micrometer")[-ndim:],
    )


def blocks(shape: tuple[int, ...], seed: int = 0) -> Exchanged:
    """Return objects of small blocks with two classes, and gaps in their numbers."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 6, shape).astype(np.uint32)
    ids[ids == 5] = 60000
    of_object = np.zeros(60001, np.uint8)
    of_object[[1, 2, 3, 4, 60000]] = [1, 2, 1, 2, 1]
    names = ("nothing", "big cell", "kleine Zelle / µ")
    return Exchanged(of_object[ids], ids, names, calibrated(len(shape)))


@pytest.fixture(params=[(23, 31), (3, 23, 31), (2, 3, 13, 17)], ids=["2D", "3D", "4D"])
def content(request: Any) -> Exchanged:
    return blocks(request.param)
