"""Files that others publish, fetched on first use into the user's cache.

A broken or cancelled download leaves what has arrived, and the next one goes on from
there.  A file is used only if its SHA-256 is the one that is written down here, and
while one process fetches it, others wait.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

import requests
from filelock import FileLock, Timeout

from napari_seg.errors import DownloadError, ModelFileError, StorageError
from napari_seg.models.published import Fetched, PublishedFile

__all__ = ["Fetching", "fetch"]

#: Seconds to wait for a connection, and for the next bytes.
_PATIENCE = (10, 15)
_CHUNK = 1 << 16
#: Seconds after which progress is told again; more often, a fast download would keep
#: a window busy with drawing it.
_PACE = 0.1


Fetching: TypeAlias = Generator[Fetched, None, None]


def fetch(
    file: PublishedFile, target: Path, convert: Callable[[Path, Path], None]
) -> Fetching:
    """Make sure that `target` is there; if not, fetch a file and convert it.

    Nothing is asked of the network where `target` exists, or where the file was put
    into its place by hand. Closing the generator (cancel) keeps what has arrived.

    Parameters
    ----------
    file : PublishedFile
        The source, which is removed once it is converted.
    target : Path
        What is to be there.
    convert : callable
        Makes the second path from the first, whole or not at all.

    Yields
    ------
    Fetched
        At the start, about ten times a second, and at the end of the download.

    Raises
    ------
    DownloadError
        If it cannot be fetched now; the message names the address and the place to
        put the file by hand.
    ModelFileError
        If its content is not what was published; what was fetched is removed.
    StorageError
        If it cannot be written.
    """
    if target.exists():
        return
    with _storing(file):
        file.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{file.path}.lock")
    yield from _acquire(lock, file)
    try:
        # Another process may have been faster.
        if target.exists():
            return
        if file.path.exists():
            _check_given(file)
        else:
            yield from _download(file)
            _check_fetched(file)
        try:
            convert(file.path, target)
        except ModelFileError:
            file.path.unlink(missing_ok=True)
            raise
        file.path.unlink(missing_ok=True)
    finally:
        lock.release()


def _acquire(lock: FileLock, file: PublishedFile) -> Fetching:
    """Wait for the lock, and tell meanwhile how far its holder is."""
    while True:
        try:
            lock.acquire(blocking=False)
            return
        except Timeout:
            yield Fetched(file.name, _size(file.part), file.size)
            time.sleep(_PACE)


def _download(file: PublishedFile) -> Fetching:
    """Fetch what is missing of a file, and go on by itself while something arrives."""
    while True:
        before = _size(file.part)
        try:
            yield from _receive(file)
            return
        except requests.RequestException as error:
            if _size(file.part) <= before:
                raise DownloadError(_advice(file, error)) from error


def _receive(file: PublishedFile) -> Fetching:
    """Fetch a file in one connection, from where its part ends.

    Raises
    ------
    requests.RequestException
        If the server cannot be reached, refuses, or breaks off.
    """
    start = _size(file.part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(
        file.address, headers=headers, stream=True, timeout=_PATIENCE
    ) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            # There is no more than what is here; the hash will tell whether it is all.
            return
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            start = 0
        total = start + int(answer.headers.get("Content-Length", file.size - start))
        with _storing(file), file.part.open("r+b" if start else "wb") as part:
            part.seek(start)
            part.truncate()
            yield from _write(answer, part, Fetched(file.name, start, total))


def _write(answer: requests.Response, part: BinaryIO, state: Fetched) -> Fetching:
    """Append the body to a file; tell the first, the last and some states between."""
    yield state
    done, told = state.done, time.monotonic()
    for chunk in answer.iter_content(_CHUNK):
        done += part.write(chunk)
        if time.monotonic() - told >= _PACE:
            told = time.monotonic()
            yield Fetched(state.name, done, state.total)
    if done < state.total:
        raise requests.ConnectionError(f"{state.total - done} bytes are missing")
    yield Fetched(state.name, done, state.total)


def _check_fetched(file: PublishedFile) -> None:
    """Give the part its name if it is what was published, or else remove it."""
    if not _is_right(file.part, file):
        file.part.unlink(missing_ok=True)
        raise ModelFileError(
            f"What {file.address} sent is not the published file: its SHA-256 is "
            "another one. It was removed; try again, perhaps over another network."
        )
    with _storing(file):
        os.replace(file.part, file.path)


def _check_given(file: PublishedFile) -> None:
    if not _is_right(file.path, file):
        raise ModelFileError(
            f"{file.path} is not the published file, or not all of it: its SHA-256 is "
            f"another one. Remove it, or replace it with {file.address}."
        )


def _is_right(path: Path, file: PublishedFile) -> bool:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _advice(file: PublishedFile, error: requests.RequestException) -> str:
    return (
        f"Weights could not be fetched: {_reason(error)}. Try again later, and it goes "
        f"on where it stopped; or get {file.address} ({file.megabytes} MB) in another "
        f"way and put it at {file.path}"
    )


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "no safe connection could be made"
    return "there is no connection to the server"


@contextmanager
def _storing(file: PublishedFile) -> Iterator[None]:
    """Turn what goes wrong on the disk into an error that says what would help."""
    try:
        yield
    except requests.RequestException:
        # It is an OSError too, but none of the disk's.
        raise
    except OSError as error:
        raise StorageError(
            f"{file.name} could not be saved in {file.path.parent} "
            f"({error.strerror or error}): free some space, or set NAPARI_SEG_HOME to "
            "a folder on another disk."
        ) from error
