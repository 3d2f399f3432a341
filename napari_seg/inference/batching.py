"""How many tiles at once, and reading the next ones while these are computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.inference.agenda import Batch

__all__ = ["BatchTrial", "ReadAhead"]

Planes = list[NDArray[np.float32]]

_MOST = 64
#: More tiles at once have to take this share of the time for each, or less.
_WORTH = 0.95


class BatchTrial:
    """Finds how many tiles a GPU computes at once, by trial.

    The first tile comes alone, so that something is there to see. From then on their
    number is doubled while a tile takes less time than before.

    Parameters
    ----------
    device : torch.device
        On the CPU tiles stay alone: together they only fill the caches.
    fixed : int or None
        Their number, where nothing is to be tried; less if memory runs out.

    Attributes
    ----------
    size : int
        Tiles to compute at once.
    """

    def __init__(self, device: torch.device, fixed: int | None = None) -> None:
        self.size = fixed or 1
        self._growing = device.type == "cuda" and fixed is None
        self._fastest = float("inf")

    def took(self, seconds: float, count: int) -> None:
        """Take in how long so many tiles took."""
        # The last ones of a plane are fewer, and tell nothing.
        if not self._growing or count < self.size:
            return
        if seconds / count > _WORTH * self._fastest:
            self.shrink()
            return
        self._fastest = seconds / count
        self.size = min(2 * self.size, _MOST)
        self._growing = self.size < _MOST

    def shrink(self) -> None:
        """Take half as many from now on, since these were too many."""
        self.size = max(self.size // 2, 1)
        self._growing = False


class ReadAhead:
    """Reads batches of tiles, on a thread of its own if there is something to gain.

    Parameters
    ----------
    read : callable
        Returns the pixels of a batch.
    ahead : bool
        Whether a batch is read while the one before it is computed.
    """

    def __init__(self, read: Callable[[Batch], Planes], *, ahead: bool) -> None:
        self._read = read
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(1, "napari-seg reader") if ahead else None
        self._batch: Batch = []
        self._future: Future[Planes] | None = None

    def begin(self, batch: Batch) -> None:
        """Begin to read a batch."""
        self._batch = batch
        if self._pool is not None:
            self._future = self._pool.submit(self._read, batch)

    def finish(self) -> Planes:
        """Return the pixels of the batch that was begun last.

        Raises
        ------
        Exception
            Whatever reading the image raises.
        """
        future, self._future = self._future, None
        return self._read(self._batch) if future is None else future.result()

    def drop(self) -> None:
        """Forget what was begun."""
        if self._future is not None:
            self._future.cancel()
            self._future = None

    def close(self) -> None:
        """End the thread, once what it reads is there."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
