"""A file server on this machine that takes the place of the publisher of weights."""

from __future__ import annotations

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from napari_seg.models.published import PublishedFile
from napari_seg.models.spec import ModelSpec, Normalization

__all__ = ["TINY", "WeightServer", "as_pth"]

_PIECE = 1 << 16

#: A published model of half a megabyte.
TINY = ModelSpec(
    arch="unet",
    encoder=None,
    in_channels=3,
    classes=("background", "cat", "dog"),
    name="voc-tiny",
    width=16,
    depth=2,
    gray_as_rgb=True,
    normalization=Normalization(
        full_range=True, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    ),
)


def as_pth(state: Any, *, legacy: bool = False) -> bytes:
    """Return what ``torch.save`` writes, now or before 2020."""
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


class WeightServer:
    """Serves files from memory, as well or as badly as it is told to.

    Attributes
    ----------
    files : dict
        Content by name.
    ranges : list
        The Range header of each request, None where it had none.
    knows_ranges : bool
        Whether a part of a file can be asked for.
    breaks_after : list of int
        Bytes after which a connection ends, one for each of the next requests.
    waits_after : int or None
        Bytes after which it waits for :attr:`go_on`.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.breaks_after: list[int] = []
        self.waits_after: int | None = None
        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}/models"

    def offer(self, stem: str, content: bytes) -> PublishedFile:
        """Serve a file, named as torchvision does, and return its entry."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{stem}-{digest[:8]}.pth"
        self.files[name] = content
        return PublishedFile(name, digest, len(content))

    def __enter__(self) -> WeightServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Be unreachable from now on."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: WeightServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.ranges.append(asked)
            content = server.files.get(self.path.rpartition("/")[2])
            if content is None:
                self.send_error(404)
                return
            start = 0
            if asked and server.knows_ranges:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self._send(content, start)

        def _send(self, content: bytes, start: int) -> None:
            end = len(content)
            if server.breaks_after:
                end = min(end, start + server.breaks_after.pop(0))
            try:
                for at in range(start, end, _PIECE):
                    if server.waits_after is not None and at >= server.waits_after:
                        server.go_on.wait()
                    self.wfile.write(content[at : min(at + _PIECE, end)])
            except (BrokenPipeError, ConnectionResetError):
                return

        def log_message(self, *_: object) -> None:
            return

    return Handler
