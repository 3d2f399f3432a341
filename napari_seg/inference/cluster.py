"""Prediction on the workers of a dask cluster.

Each worker gets the model once. What it is asked for after that is a part of a
:class:`~napari_seg.inference.engine.Job`, with the very tiles into which one machine
would cut the image, so that the mask is the same.

A scheduler is trusted: whoever can reach it can run code on its workers, and what they
answer is unpickled. TLS is set up in dask's own configuration.
"""

from __future__ import annotations

import hashlib
import logging
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from queue import Empty, Queue
from typing import Any, NamedTuple, TypeVar

import torch
from distributed import Client, Future, LocalCluster, get_worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker

from napari_seg.errors import ClusterError, InputError
from napari_seg.inference.agenda import Index
from napari_seg.inference.device import pick_device
from napari_seg.inference.engine import Job, TileResult
from napari_seg.inference.predict import PredictOptions, make_runner
from napari_seg.inference.runner import Context, TileRunner
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import pack_model, unpack_model

__all__ = ["Call", "Cluster", "compute", "find_context", "model_here"]

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)

#: Seconds to wait for a scheduler, for its first worker, and for one after the last
#: was lost; those of a computer's own cluster are made anew by dask.
_PATIENCE = 15.0
#: Seconds between two looks at whether anybody is still there.
_GLANCE = 0.1
_COUNTING = 2.0
#: Pieces that wait at each worker beside those that it computes.
_WAITING = 2


class Call(NamedTuple):
    """A function and what it is called with on a worker; `mark` tells which."""

    mark: Any
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class _Model(WorkerPlugin):
    """A model on a worker, made ready when it is first needed."""

    def __init__(
        self,
        name: str,
        packed: tuple[dict[str, Any], bytes],
        device: str,
        options: PredictOptions,
    ) -> None:
        self.name = name
        self._packed, self._device, self._options = packed, device, options
        self._runner: TileRunner | None = None

    def setup(self, worker: Any) -> None:
        self._threads = worker.state.nthreads
        self._place = worker.name

    def teardown(self, worker: Any) -> None:
        self._runner = None

    def runner(self) -> TileRunner:
        # dask gives each worker one thread of PyTorch. Here all of a worker's threads
        # compute one tile together; meanwhile the others read and write.
        torch.set_num_threads(self._threads)
        if self._runner is None:
            device = pick_device(share_out(self._device, self._place))
            self._runner = make_runner(
                unpack_model(*self._packed), device, self._options
            )
        return self._runner


def share_out(device: str, place: Any) -> str:
    """Return the device of a computer's worker, whose name is its number from 0.

    Several GPUs are dealt out in turn, unless one was asked for.
    """
    gpus = torch.cuda.device_count()
    if device in ("auto", "cuda") and isinstance(place, int) and gpus > 1:
        return f"cuda:{place % gpus}"
    return device


def compute(name: str, job: Job, keep: Callable[[TileResult], _T]) -> list[_T]:
    """Compute a part of a job, on a worker.

    Parameters
    ----------
    name : str
        What :meth:`Cluster.load` returned.
    job : Job
        The part.
    keep : callable
        Called with each tile on the worker; what it returns is sent back.
    """
    return [keep(result) for result in job.results(model_here(name).runner())]


def model_here(name: str) -> _Model:
    """Return the model of this worker."""
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, _Model)
    return plugin


def find_context(name: str, job: Job, index: Index) -> Context | None:
    """Find what the tiles of a plane have in common, on a worker."""
    return job.context(model_here(name).runner(), index)


class Cluster:
    """A dask scheduler and its workers.

    Parameters
    ----------
    client : Client
        Connected; closed with this.
    own : LocalCluster or None
        A cluster that ends with this.

    Attributes
    ----------
    cores : int or None
        Cores of this computer if the workers share them: tiles are cut as if one
        process had them all.
    """

    def __init__(self, client: Client, own: LocalCluster | None = None) -> None:
        self._client, self._own = client, own
        self.cores = None if own is None else torch.get_num_threads()
        self._loaded = ""
        # What was packed last: packing hundreds of megabytes takes a while.
        self._last: tuple[weakref.ref[SegmentationModel], tuple[Any, ...]] | None = None
        self._counted_at, self._room = float("-inf"), 0

    @classmethod
    def connect(cls, address: str) -> Cluster:
        """Connect with a scheduler that runs already.

        Parameters
        ----------
        address : str
            Such as ``tcp://gpu-server:8786``; ``tcp://`` may be left out.

        Raises
        ------
        InputError
            If there is no scheduler, or it has no workers.
        """
        try:
            client = Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, ImportError, TimeoutError) as error:
            raise InputError(
                f"No dask scheduler answers at {address!r} ({_said(error)}). Start one "
                "with `dask scheduler`, and give the address that it prints, such as "
                "tcp://gpu-server:8786."
            ) from error
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            client.close()
            raise InputError(
                f"The dask scheduler at {address} has no workers; start some with "
                f"`dask worker {address}`, where napari-seg is installed."
            ) from error
        return cls(client)

    @classmethod
    def local(cls, workers: int) -> Cluster:
        """Start workers on this computer, which share its cores.

        Raises
        ------
        ClusterError
            If they do not start.
        """
        threads = max(1, torch.get_num_threads() // workers)
        try:
            own = LocalCluster(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                dashboard_address=":0",
                # What a tile needs is not dask's to manage: it would pause workers.
                memory_limit=0,
            )
            client = Client(own, timeout=_PATIENCE, set_as_default=False)
            client.wait_for_workers(workers, timeout=4 * _PATIENCE)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise ClusterError(
                f"{workers} workers could not be started ({_said(error)}); try fewer."
            ) from error
        return cls(client, own)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; workers that were started for this end."""
        if self._loaded:
            self._forget(self._loaded)
        self._client.close()
        if self._own is not None:
            self._own.close()

    def workers(self) -> int:
        """Return how many workers there are now; 0 if nobody answers."""
        return len(self._workers())

    def load(
        self,
        model: SegmentationModel,
        device: str = "auto",
        options: PredictOptions | None = None,
    ) -> str:
        """Give a model to all workers, those to come included.

        Parameters
        ----------
        model : SegmentationModel
            Left as it is; its weights must stay as they are from call to call.
        device : str
            As the workers know it; ``auto`` is the best that each has.
        options : PredictOptions or None
            Zoom, mirror images, precision.

        Returns
        -------
        str
            What calls know it by. The one before is forgotten.

        Raises
        ------
        ClusterError
            If a worker cannot take it, as without napari-seg.
        InputError
            If it sees volumes.
        """
        if model.spec.ndim == 3:
            raise InputError(
                "Several workers go through planes, and this model sees volumes: "
                "predict on one computer, without workers."
            )
        options = options or PredictOptions()
        kept = device, options.zoom, options.flips, options.precision
        last = self._last
        if last is not None and last[0]() is model and last[1] == kept:
            return self._loaded
        spec, weights = packed = pack_model(model)
        told = repr((spec, kept)).encode()
        name = f"napari-seg {hashlib.sha256(told + weights).hexdigest()[:16]}"
        if name != self._loaded:
            try:
                self._client.register_plugin(_Model(name, packed, device, options))
            except Exception as error:
                raise self._reason(error) from error
            if self._loaded:
                self._forget(self._loaded)
            self._loaded = name
        self._last = (weakref.ref(model), kept)
        return name

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function on a worker, and wait for it.

        Raises
        ------
        ClusterError
            If the scheduler or all workers are lost.
        Exception
            Whatever the function raises.
        """
        ((_, result),) = self.run([Call(None, function, arguments)])
        answer: _T = result
        return answer

    def run(
        self,
        calls: Iterable[Call],
        cancelled: Callable[[], bool] | None = None,
    ) -> Generator[tuple[Any, Any], None, None]:
        """Call functions on the workers, and yield marks and results as they come.

        A worker that is lost costs nothing but time: its calls go to others. Calls are
        taken one by one while there is room, so that they may be decided late.

        Parameters
        ----------
        calls : iterable of Call
            In the order in which they are begun.
        cancelled : callable or None
            Once it returns True, the generator ends.

        Raises
        ------
        ClusterError
            If the scheduler or all workers are lost, or one call kills several workers.
        Exception
            Whatever a function raises.
        """
        waiting = iter(calls)
        done: Queue[Future[Any]] = Queue()
        pending: dict[Future[Any], Any] = {}
        try:
            while cancelled is None or not cancelled():
                self._begin(waiting, pending, done)
                if not pending:
                    return
                future = self._next(done, cancelled)
                if future is not None:
                    yield pending.pop(future), _result(future)
        finally:
            if pending and self._client.status == "running":
                self._client.cancel(list(pending), force=True)

    def _begin(
        self,
        calls: Iterator[Call],
        pending: dict[Future[Any], Any],
        done: Queue[Future[Any]],
    ) -> None:
        # One at least: without a worker it waits for the next to come.
        while len(pending) < max(self._count_room(), 1):
            call = next(calls, None)
            if call is None:
                return
            try:
                future = self._client.submit(call.function, *call.arguments, pure=False)
            except Exception as error:
                raise self._reason(error) from error
            pending[future] = call.mark
            future.add_done_callback(done.put)

    def _next(
        self, done: Queue[Future[Any]], cancelled: Callable[[], bool] | None
    ) -> Future[Any] | None:
        """Return the next future that is done, or None once nobody wants it."""
        alone_since: float | None = None
        while cancelled is None or not cancelled():
            try:
                return done.get(timeout=_GLANCE)
            except Empty:
                pass
            if self._client.status != "running":
                raise _gone()
            if self._count_room() > 0:
                alone_since = None
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > 4 * _PATIENCE:
                raise ClusterError(
                    "The dask scheduler has no workers any more; what was finished is "
                    "kept. Start some again, and then this."
                )
        return None

    def _count_room(self) -> int:
        """Return how many calls may be under way."""
        now = time.monotonic()
        if now - self._counted_at > _COUNTING:
            threads = [worker["nthreads"] for worker in self._workers().values()]
            # Two at a time keep a worker busy: one computes, one reads and writes.
            self._room = sum(min(each, 2) + _WAITING for each in threads)
            self._counted_at = now
        return self._room

    def _workers(self) -> dict[str, Any]:
        if self._client.status != "running":
            return {}
        try:
            return dict(self._client.scheduler_info()["workers"])
        except (OSError, TimeoutError) as error:
            # Whoever waits for a result finds out whether the scheduler is gone.
            _LOG.info("The dask scheduler did not answer: %s", error)
            return {}

    def _reason(self, error: Exception) -> ClusterError:
        """Return why the cluster takes nothing more."""
        if self._client.status != "running" or isinstance(error, OSError):
            return _gone()
        return _unusable(error)

    def _forget(self, name: str) -> None:
        if self._client.status == "running":
            self._client.unregister_worker_plugin(name)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            "Several workers died over the same piece of the image, most likely for "
            "lack of memory; try a smaller tile. What was finished is kept."
        ) from error
    except CancelledError as error:
        raise ClusterError(
            "The dask scheduler lost what it was asked for; what was finished is kept. "
            "Start again to go on."
        ) from error
    except ImportError as error:
        raise _unusable(error) from error


def _gone() -> ClusterError:
    return ClusterError(
        "The dask scheduler is gone; what was finished is kept. Start it again, and "
        "then this."
    )


def _unusable(error: BaseException) -> ClusterError:
    return ClusterError(
        f"The workers cannot take the model ({_said(error)}). Scheduler and workers "
        "need the same version of napari-seg as this computer: pip install "
        "'napari-seg[distributed]' there."
    )


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
