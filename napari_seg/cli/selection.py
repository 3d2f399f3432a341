"""Which of many training windows a model learns from: chosen before they are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TypeAlias

from napari_seg.cli.report import note
from napari_seg.corrections.blocks import MOST_VOXELS, keep_within
from napari_seg.corrections.windows import read_origin, read_size
from napari_seg.models.spec import ModelSpec

__all__ = ["Files", "Selection"]

#: Images and their labels.
Files: TypeAlias = Sequence[tuple[Path, Path]]


class Selection:
    """Chooses windows for a model; images that are no windows are all taken.

    A model of volumes learns from no windows of planes, and windows of volumes are
    taken only as far as memory holds them.

    Parameters
    ----------
    spec : ModelSpec
        Of the model.

    Attributes
    ----------
    planes : int
        Number of windows of planes that were left out.
    passed_over : int
        Number of windows of volumes that would have been too much.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._volumes = spec.ndim == 3
        self.planes = self.passed_over = 0

    def of(self, files: Files, shares: int = 1) -> Files:
        """Return the files to read.

        Parameters
        ----------
        files : sequence of (Path, Path)
            Images and their labels.
        shares : int
            How many such lists share the memory.
        """
        left = [pair for pair in files if not (self._volumes and _is_plane(pair[0]))]
        self.planes += len(files) - len(left)
        sizes = [_size(image) for image, _ in left]
        told = [size for size in sizes if size is not None]
        fitting = iter(keep_within(told, MOST_VOXELS // shares))
        kept = list(compress(left, [s is None or next(fitting) for s in sizes]))
        self.passed_over += len(left) - len(kept)
        return kept

    def say(self) -> None:
        """Say on standard error what was left out, if anything was."""
        if self.planes:
            note(
                f"{self.planes} window(s) of planes left out, since the model learns "
                "from volumes; fine-tune it on their images, and they are cut anew."
            )
        if self.passed_over:
            note(f"{self.passed_over} window(s) left out, to save memory.")


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _size(image: Path) -> tuple[int, int] | None:
    return read_size(image) if _is_tiff(image) else None


def _is_plane(image: Path) -> bool:
    """Whether an image is a window of a plane."""
    windowed = _is_tiff(image) and read_origin(image) is not None
    return windowed and read_size(image) is None
