"""Prediction as the user meets it: one at a time, visible part first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from napari_seg.models.published import Fetched
from napari_seg.workspace.choices import ModelChoice
from napari_seg.workspace.session import Session
from napari_seg.workspace.source import View
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    from napari_seg.inference.cluster import Cluster
    from napari_seg.inference.object_maps import Seen
    from napari_seg.inference.predict import PredictOptions, TileResult
    from napari_seg.models.base import SegmentationModel

__all__ = ["Predictor", "Progress"]


@dataclass(frozen=True)
class Progress:
    """How far a prediction is."""

    done: int
    total: int
    seconds: float

    @property
    def share(self) -> float:
        """Finished share, 0 to 1."""
        return self.done / max(self.total, 1)

    @property
    def seconds_left(self) -> float:
        """Estimate of the seconds to go."""
        return self.seconds * (self.total - self.done) / max(self.done, 1)


class Predictor:
    """Runs one prediction at a time; a new one ends the one before.

    Answers carry the generation of their request; those of an older one are dropped,
    so that a tile that was under way when the user changed the model never appears.

    Parameters
    ----------
    runner : Runner
        Drives the work beside the main thread.

    Attributes
    ----------
    busy : bool
        Whether a prediction is under way.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._task: Task | None = None
        self.busy = False
        self._stop = threading.Event()
        self._generation = 0
        self._loaded: tuple[ModelChoice, SegmentationModel] | None = None
        self._view: View | None = None

    def start(
        self,
        session: Session,
        choice: ModelChoice,
        options: PredictOptions | None,
        device: str,
        view: View | None,
        *,
        everything: bool,
        cluster: Cluster | None = None,
        on_tile: Callable[[TileResult, Progress], None],
        on_fetch: Callable[[Fetched], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        """Predict the view, and the rest of the image after it if `everything`.

        Parameters
        ----------
        session : Session
            The image; its mask is left to `on_tile`.
        choice : ModelChoice
            A trained model; one that others publish is fetched first.
        options : PredictOptions or None
            None takes the defaults.
        device : str
            As :func:`napari_seg.predict` takes it.
        view : View or None
            What is visible; None if nothing is.
        everything : bool
            Whether to go on with what is not visible.
        cluster : Cluster or None
            Whose workers compute; None is this computer.
        on_tile : callable
            Called with each tile and the progress.
        on_fetch : callable
            Called while the model is fetched.
        on_end : callable
            Called once, with the exception that ended the work, or None.
        """
        self.cancel()
        self._view = view
        generation, stop = self._generation, threading.Event()
        self._stop = stop
        start = time.monotonic()

        def job() -> Job:
            yield from choice.fetch()
            yield from self._tiles(
                session, choice, options, device, view, everything, cluster, stop
            )

        def current() -> bool:
            return generation == self._generation

        def item(tile: TileResult | Fetched) -> None:
            if not current():
                return
            if isinstance(tile, Fetched):
                on_fetch(tile)
            else:
                seconds = time.monotonic() - start
                on_tile(tile, Progress(tile.done, tile.total, seconds))

        def end(error: Exception | None = None) -> None:
            if current():
                self.busy = False
                on_end(error)

        self.busy = True
        self._task = self._runner(job(), on_item=item, on_done=end, on_error=end)

    def cancel(self) -> bool:
        """End the prediction under way; return whether there was one."""
        was_busy, self.busy = self.busy, False
        self._generation += 1
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        return was_busy

    def look_at(self, view: View) -> None:
        """Go on with what is visible now."""
        self._view = view

    def seen(
        self,
        session: Session,
        choice: ModelChoice,
        options: PredictOptions | None,
        device: str,
        cancelled: Callable[[], bool],
    ) -> Seen:
        """Return a model that looks at the image in parts.

        To be called beside the main thread.

        Raises
        ------
        ModelFileError, DeviceError
            If the model cannot be used.
        """
        from napari_seg.inference.object_maps import Seen
        from napari_seg.inference.predict import PredictOptions

        source = session.source
        return Seen(
            self._model(choice),
            source.data,
            session.reading,
            device=device,
            options=replace(options or PredictOptions(), zoom=source.read_as.zoom),
            ranges=session.ranges,
            cancelled=cancelled,
        )

    def _look(self) -> tuple[tuple[int, ...], tuple[slice, slice]] | None:
        view = self._view
        return None if view is None else (view.index, view.box)

    def _tiles(
        self,
        session: Session,
        choice: ModelChoice,
        options: PredictOptions | None,
        device: str,
        view: View | None,
        everything: bool,
        cluster: Cluster | None,
        stop: threading.Event,
    ) -> Job:
        # Runs beside the main thread, which is why torch is first met here.
        from napari_seg.inference.axes import as_array
        from napari_seg.inference.normalization import channel_ranges
        from napari_seg.inference.predict import PredictOptions, stream

        model = self._model(choice)
        source, reading = session.source, session.reading
        image = as_array(source.data)
        if session.ranges is None:
            session.ranges = channel_ranges(image, reading, model.spec.normalization)
        if cluster is not None:
            from napari_seg.inference.remote import stream_on

            stream = partial(stream_on, cluster)
        yield from stream(
            model,
            image,
            axes=reading.axes,
            channels=reading.picked,
            device=device,
            options=replace(
                options or PredictOptions(), confidence=True, zoom=source.read_as.zoom
            ),
            look=self._look,
            within=view.box if view and not everything else None,
            indices=[view.index] if view and not everything else None,
            ranges=session.ranges,
            cancelled=stop.is_set,
        )

    def _model(self, choice: ModelChoice) -> SegmentationModel:
        from napari_seg.models.checkpoint import load_model

        if self._loaded is None or self._loaded[0] != choice:
            assert choice.path is not None
            self._loaded = (choice, load_model(choice.path))
        return self._loaded[1]
