"""Writes the objects of an image to its project, a little behind their edits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.objects import Chunk, ObjectsFile, chunks_of
from napari_seg.errors import StorageError
from napari_seg.workspace.numbered import Numbered
from napari_seg.workspace.tasks import Job, Runner

__all__ = ["ObjectsSaver"]


class ObjectsSaver:
    """Knows which chunks of the file are out of date, and writes them.

    Parameters
    ----------
    file : ObjectsFile
        Where the objects are kept.
    numbered : Numbered
        The objects.
    anew : bool
        Whether nothing of them is in the file yet.
    runner : Runner
        Drives the writing beside the main thread.
    on_error : callable
        Called with a StorageError when writing fails.
    """

    def __init__(
        self,
        file: ObjectsFile,
        numbered: Numbered,
        runner: Runner,
        on_error: Callable[[Exception], None],
        *,
        anew: bool,
    ) -> None:
        self._file, self._numbered = file, numbered
        self._runner, self._on_error = runner, on_error
        self._anew = anew
        self._chunks: set[Chunk] = set()
        self._busy = False

    def note(self, where: NDArray[np.int64]) -> None:
        """Take in that numbers have changed at these places of the flattened array."""
        if not self._anew and len(where):
            self._chunks |= chunks_of(where, self._numbered.ids.shape)

    def soon(self) -> None:
        """Write what is out of date beside the main thread."""
        if self._busy or not (self._anew or self._chunks):
            return

        def job() -> Job:
            self._save()
            yield

        self._busy = True
        self._runner(
            job(), on_item=lambda _: None, on_done=self._done, on_error=self._failed
        )

    def now(self) -> None:
        """Write what is out of date, and return when it is there."""
        try:
            self._save()
        except StorageError as error:
            self._on_error(error)

    def _done(self) -> None:
        self._busy = False
        # What was edited meanwhile.
        self.soon()

    def _failed(self, error: Exception) -> None:
        self._busy = False
        self._on_error(error)

    def _save(self) -> None:
        # What changes from now on, even in a chunk being written, is written again.
        anew, self._anew = self._anew, False
        chunks, self._chunks = self._chunks, set()
        if not (anew or chunks):
            return
        numbered = self._numbered
        try:
            self._file.write(numbered.ids, numbered.last, None if anew else chunks)
        except StorageError:
            self._anew |= anew
            self._chunks |= chunks
            raise
