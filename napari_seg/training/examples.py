"""From images and labels as files hold them to what training draws from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_seg.models.spec import ModelSpec


def normalized(image, spec: ModelSpec) -> NDArray[np.float32]:
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    planes = planes.astype(np.float32)
    lo, hi = np.percentile(planes, [spec.normalization.low, spec.normalization.high], axis=(1, 2))
    out = (planes - lo[:, None, None]) / np.maximum(hi - lo, 1e-6)[:, None, None]
    out = np.clip(out, -0.5, 2.0)
    if spec.gray_as_rgb and len(out) == 1:
        out = np.repeat(out, 3, axis=0)
    return np.ascontiguousarray(out, dtype=np.float32)
