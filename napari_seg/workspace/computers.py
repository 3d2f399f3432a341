"""Where predictions are computed: here, or by the workers of a dask scheduler."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_seg.errors import InputError
from napari_seg.workspace.tasks import Job, Runner, Task

if TYPE_CHECKING:
    from napari_seg.inference.cluster import Cluster
    from napari_seg.workspace.workspace import Workspace

__all__ = ["Computers"]

_LOG = logging.getLogger(__name__)

#: Addresses that are remembered.
_MOST = 5


class Computers:
    """Connects a workspace with schedulers, one at a time.

    Parameters
    ----------
    workspace : Workspace
        Told of changes and failures.
    runner : Runner
        Connects beside the main thread.

    Attributes
    ----------
    address : str
        Of the scheduler that is used, or that is being connected with; empty for this
        computer.
    cluster : Cluster or None
        The connection, once it is there.
    """

    def __init__(self, workspace: Workspace, runner: Runner) -> None:
        self._workspace, self._runner = workspace, runner
        self._file = workspace.home / "schedulers.json"
        self._task: Task | None = None
        self.address = ""
        self.cluster: Cluster | None = None
        self._workers = 0

    @property
    def known(self) -> list[str]:
        """Addresses that worked before, the last one first."""
        try:
            told = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return []
        return [str(each) for each in told] if isinstance(told, list) else []

    @property
    def busy(self) -> bool:
        """Whether a connection is being made."""
        return bool(self.address) and self.cluster is None

    @property
    def text(self) -> str:
        """What is used, in words; empty for this computer."""
        if not self.address:
            return ""
        if self.cluster is None:
            return f"connecting with {self.address}…"
        return f"{self._workers} worker{'s' * (self._workers != 1)}"

    def use(self, address: str) -> None:
        """Predict on the workers of a scheduler from now on.

        Parameters
        ----------
        address : str
            Such as ``tcp://gpu-server:8786``; empty is this computer.
        """
        address = address.strip()
        if address == self.address:
            self._workspace.computer_changed.emit()
            return
        self._leave()
        if address and find_spec("distributed") is None:
            self._workspace.failed.emit(
                InputError(
                    "Predicting on other computers needs dask.distributed: pip install "
                    "'napari-seg[distributed]', here and where the workers run."
                )
            )
            address = ""
        self.address = address
        if address:
            self._task = self._runner(
                _connect(address),
                on_item=self._connected,
                on_done=lambda: None,
                on_error=self._failed,
            )
        self._workspace.computer_changed.emit()

    def lost(self) -> None:
        """Take in that the scheduler is gone: this computer goes on."""
        if self.address:
            self._leave()
            self._workspace.computer_changed.emit()

    def close(self) -> None:
        """Disconnect."""
        self._leave()

    def _connected(self, found: tuple[Cluster, int]) -> None:
        self.cluster, self._workers = found
        known = [self.address, *(each for each in self.known if each != self.address)]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(known[:_MOST]))
        except OSError as error:
            # Only the list of the next session is shorter.
            _LOG.info("%s could not be written: %s", self._file, error)
        self._workspace.computer_changed.emit()

    def _failed(self, error: Exception) -> None:
        self._leave()
        self._workspace.failed.emit(error)
        self._workspace.computer_changed.emit()

    def _leave(self) -> None:
        self._workspace.cancel()
        task, self._task = self._task, None
        cluster, self.cluster = self.cluster, None
        self.address = ""
        if cluster is not None:
            # Beside the main thread: a scheduler that is gone is waited for.
            self._runner(
                _close(cluster),
                on_item=lambda _: None,
                on_done=lambda: None,
                on_error=self._workspace.failed.emit,
            )
        elif task is not None:
            task.cancel()


def _close(cluster: Cluster) -> Job:
    cluster.close()
    yield from ()


def _connect(address: str) -> Job:
    # Late, since it needs torch and dask.
    from napari_seg.inference.cluster import Cluster

    cluster = Cluster.connect(address)
    try:
        yield cluster, cluster.workers()
    except GeneratorExit:
        # Nobody waited for it.
        cluster.close()
        raise
