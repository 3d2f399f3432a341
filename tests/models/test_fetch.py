"""Published files against a server on this machine: progress, resuming, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from napari_seg.errors import DownloadError, ModelFileError, StorageError
from napari_seg.models import fetch as module
from napari_seg.models.fetch import fetch
from napari_seg.models.published import Fetched, PublishedFile, weights_folder
from tests.weight_server import WeightServer

CONTENT = bytes(range(256)) * 2048  # 512 KiB


@pytest.fixture
def file(weight_server: WeightServer, monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    monkeypatch.setattr(module, "_PACE", 0)
    return weight_server.offer("tiny", CONTENT)


@pytest.fixture
def target() -> Path:
    return weights_folder() / "tiny.safetensors"


def convert(source: Path, target: Path) -> None:
    target.write_bytes(b"converted " + source.read_bytes()[:4])


def fetch_all(file: PublishedFile, target: Path) -> list[Fetched]:
    return list(fetch(file, target, convert))


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir() if path.suffix != ".lock"}


def test_tells_progress_and_leaves_the_converted_file_alone(file, target):
    states = fetch_all(file, target)
    done = [state.done for state in states]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert len(done) > 4
    assert {state.total for state in states} == {len(CONTENT)}
    assert states[-1].text == "fetching 1 of 1 MB"
    assert target.read_bytes() == b"converted " + CONTENT[:4]
    assert left(target) == {target.name}


def test_second_use_asks_nobody(file, target, weight_server):
    fetch_all(file, target)
    weight_server.stop()
    assert fetch_all(file, target) == []


def test_goes_on_by_itself_where_a_connection_broke(file, target, weight_server):
    weight_server.breaks_after = [2 << 16, 3 << 16]
    fetch_all(file, target)
    assert weight_server.ranges == [None, "bytes=131072-", "bytes=327680-"]
    assert target.exists()


def test_starts_over_where_the_server_knows_no_ranges(file, target, weight_server):
    weight_server.knows_ranges = False
    weight_server.breaks_after = [2 << 16]
    fetch_all(file, target)
    assert weight_server.ranges == [None, "bytes=131072-"]
    assert target.exists()


def test_gives_up_where_nothing_more_arrives(file, target, weight_server):
    weight_server.breaks_after = [2 << 16, 0]
    with pytest.raises(DownloadError):
        fetch_all(file, target)
    assert file.part.stat().st_size == 2 << 16


def test_cancel_leaves_what_arrived_for_the_next_time(file, target, weight_server):
    weight_server.waits_after = 4 << 16
    with closing(fetch(file, target, convert)) as fetching:
        for state in fetching:
            if state.done >= 2 << 16:
                break
    weight_server.go_on.set()
    here = file.part.stat().st_size
    assert here >= 2 << 16
    assert next(iter(fetch_all(file, target))).done == here
    assert weight_server.ranges == [None, f"bytes={here}-"]


@pytest.mark.parametrize("arrived", [CONTENT, CONTENT + b"more"])
def test_a_part_may_already_be_all(file, target, arrived):
    file.part.parent.mkdir(parents=True)
    file.part.write_bytes(arrived)
    if arrived == CONTENT:
        fetch_all(file, target)
        assert target.exists()
        return
    with pytest.raises(ModelFileError, match="SHA-256"):
        fetch_all(file, target)
    assert left(target) == set()


def test_other_content_is_refused_and_removed(file, target, weight_server):
    weight_server.files[file.name] = CONTENT[:-1] + b"?"
    with pytest.raises(ModelFileError, match="not the published file"):
        fetch_all(file, target)
    assert left(target) == set()
    weight_server.files[file.name] = CONTENT
    fetch_all(file, target)
    assert target.exists()


@pytest.mark.parametrize("how", ["offline", "missing"])
def test_failure_names_the_address_and_the_place(file, target, weight_server, how):
    if how == "offline":
        weight_server.stop()
    else:
        weight_server.files.clear()
    with pytest.raises(DownloadError) as caught:
        fetch_all(file, target)
    message = str(caught.value)
    assert f"{weight_server.address}/{file.name}" in message
    assert str(weights_folder() / file.name) in message
    reason = {"offline": "no connection", "missing": "answered 404"}[how]
    assert reason in message


def test_a_file_put_there_by_hand_is_taken(file, target, weight_server):
    weight_server.stop()
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(CONTENT)
    assert fetch_all(file, target) == []
    assert left(target) == {target.name}


def test_a_wrong_file_put_there_by_hand_is_refused_and_left(file, target):
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(CONTENT[:1000])
    with pytest.raises(ModelFileError, match=r"not all of it.*Remove it"):
        fetch_all(file, target)
    assert left(target) == {file.name}


def test_what_cannot_be_converted_is_removed(file, target):
    def refuse(source: Path, target: Path) -> None:
        raise ModelFileError("no weights")

    with pytest.raises(ModelFileError, match="no weights"):
        list(fetch(file, target, refuse))
    assert left(target) == set()


def test_a_full_disk_keeps_the_download(file, target):
    def fail(source: Path, target: Path) -> None:
        raise StorageError("disk full")

    with pytest.raises(StorageError):
        list(fetch(file, target, fail))
    assert left(target) == {file.name}


def test_a_folder_that_cannot_be_made(file, target, user_home):
    user_home.write_text("a file, not a folder")
    with pytest.raises(StorageError, match="NAPARI_SEG_HOME"):
        fetch_all(file, target)


_PROCESS = """
import sys
from pathlib import Path
from napari_seg.models.fetch import fetch
from napari_seg.models.published import PublishedFile, weights_folder

def convert(source, target):
    with (weights_folder() / "conversions").open("a") as log:
        log.write("x")
    target.write_bytes(source.read_bytes())

file = PublishedFile(sys.argv[1], sys.argv[2], int(sys.argv[3]))
for state in fetch(file, weights_folder() / "tiny.safetensors", convert):
    print(state.done, flush=True)
"""


def test_two_processes_at_once_fetch_once(file, target, weight_server):
    weight_server.waits_after = 4 << 16
    command = [sys.executable, "-c", _PROCESS, file.name, file.sha256, str(file.size)]
    children = [
        subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    # Each has said something: one fetches, the other waits for it.
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    weight_server.go_on.set()
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0, 0]
    assert weight_server.ranges == [None]
    assert target.read_bytes() == CONTENT
    assert (target.parent / "conversions").read_text() == "x"
