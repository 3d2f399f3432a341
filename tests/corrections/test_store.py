"""Arrays plus journal give back the mask, after compaction, crash or damage."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from napari_seg.corrections import arrays as arrays_module
from napari_seg.corrections import journal as journal_module
from napari_seg.corrections import segments as segments_module
from napari_seg.corrections import store as store_module
from napari_seg.corrections.store import ImageStore
from napari_seg.errors import ProjectError, StorageError

SHAPE = (2, 30, 40)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(arrays_module, "_CHUNK", 16)


def assert_holds(store, painter):
    mask = store.load()
    for found, wanted in zip(vars(mask).values(), painter.arrays(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_new_store_is_empty(tmp_path):
    store = ImageStore(tmp_path / "image", SHAPE)
    mask = store.load()
    assert not mask.labels.any()
    assert not mask.state.any()
    assert (mask.reference == 255).all()
    store.close()


@pytest.mark.parametrize("compact", ["never", "at the end", "amid", "twice"])
def test_reopening_gives_the_same_mask(tmp_path, painter, compact):
    store = ImageStore(tmp_path, SHAPE)
    for i in range(60):
        store.append(painter.change())
        if compact == "amid" and i % 13 == 0:
            assert store.flush(10)
            store.compact()
    assert store.flush(10)
    assert store.pending == 0
    for _ in range({"at the end": 1, "twice": 2}.get(compact, 0)):
        store.compact()
    store.close()
    again = ImageStore(tmp_path, SHAPE)
    assert_holds(again, painter)
    assert len(list(again.history())) == 60
    again.close()


def test_compaction_with_few_chunks_in_memory(tmp_path, painter, monkeypatch):
    writer = arrays_module.ChunkWriter
    monkeypatch.setattr(store_module, "ChunkWriter", lambda a: writer(a, limit=2))
    store = ImageStore(tmp_path, SHAPE)
    for _ in range(40):
        store.append(painter.change())
    store.flush()
    store.compact()
    assert not list((tmp_path / "journal").glob("*.bin"))
    assert_holds(store, painter)
    store.close()


def test_any_zarr_reader_opens_it(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    store.append(painter.change())
    store.flush()
    store.compact()
    store.close()
    group = zarr.open_group(tmp_path / "mask.zarr", mode="r")
    labels, reference, state = painter.arrays()
    np.testing.assert_array_equal(group["labels"][:], labels)
    np.testing.assert_array_equal(group["reference"][:], reference)
    np.testing.assert_array_equal(group["state"][:], state)


@pytest.mark.parametrize("survives", range(0, 24, 3))
def test_failing_amid_compaction_loses_nothing(
    tmp_path, painter, monkeypatch, survives
):
    store = ImageStore(tmp_path, SHAPE)
    for _ in range(20):
        store.append(painter.change())
    store.flush()
    real, left = arrays_module.write_atomically, [survives]

    def write(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(arrays_module, "write_atomically", write)
    with pytest.raises(StorageError, match="safe in its journal"):
        store.compact()
    store.append(painter.change())
    store.close()
    monkeypatch.undo()
    again = ImageStore(tmp_path, SHAPE)
    assert_holds(again, painter)
    again.compact()
    assert_holds(again, painter)
    again.close()


def test_long_journal_is_taken_over_in_the_background(tmp_path, painter, monkeypatch):
    monkeypatch.setattr(store_module, "_LONG_JOURNAL", 2000)
    store = ImageStore(tmp_path, SHAPE)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "journal").glob("*.done")):
        store.append(painter.change())
        store.flush()
        assert time.monotonic() < deadline
    store.close()
    again = ImageStore(tmp_path, SHAPE, read_only=True)
    assert_holds(again, painter)


def test_read_only_reads_and_refuses_changes(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    store.append(painter.change())
    store.flush()
    reader = ImageStore(tmp_path, SHAPE, read_only=True)
    assert reader.read_only
    assert_holds(reader, painter)
    with pytest.raises(StorageError, match="read-only"):
        reader.append(painter.change())
    reader.compact()
    reader.close()
    store.close()


def test_mask_of_another_shape_is_refused(tmp_path):
    ImageStore(tmp_path, SHAPE).close()
    with pytest.raises(ProjectError, match="belongs to another image"):
        ImageStore(tmp_path, (30, 40))


def test_damaged_store_is_refused_and_left_alone(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    store.append(painter.change())
    store.close()
    (tmp_path / "mask.zarr" / "labels" / "zarr.json").unlink()
    with pytest.raises(ProjectError, match="no readable mask store"):
        ImageStore(tmp_path, SHAPE)
    assert (tmp_path / "mask.zarr" / "state" / "zarr.json").exists()


def test_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "image").write_text("a file")
    with pytest.raises(StorageError, match="choose a project folder"):
        ImageStore(tmp_path / "image", SHAPE)


KILLED = """
import sys
import numpy as np
from pathlib import Path
from napari_seg.corrections import arrays, store as store_module
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.store import ImageStore
arrays._CHUNK = 16
store_module._LONG_JOURNAL = 3000
store = ImageStore(Path(sys.argv[1]), (60, 70))
ledger = Ledger(np.zeros((60, 70), np.uint8), None, 3)
rng = np.random.default_rng(1)
for i in range(1, 100_000):
    y, x = rng.integers(0, 50, 2)
    ledger.labels[y : y + 9, x : x + 9] = i % 251
    store.append(ledger.edited())
    store.flush()
    print(i, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("strokes", [1, 7, 40, 111, 205])
def test_killed_at_any_moment_at_most_the_stroke_in_progress_is_missing(
    tmp_path, strokes
):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= strokes:
                process.send_signal(signal.SIGKILL)
                break
        reported = [int(line), *map(int, process.stdout)][-1]
    store = ImageStore(tmp_path, (60, 70))
    mask = store.load()
    saved = len(list(store.history()))
    assert reported <= saved <= reported + 1
    expected = np.zeros((60, 70), np.uint8)
    rng = np.random.default_rng(1)
    for i in range(1, saved + 1):
        y, x = rng.integers(0, 50, 2)
        expected[y : y + 9, x : x + 9] = i % 251
    np.testing.assert_array_equal(mask.labels, expected)
    store.close()


def test_history_tells_what_was_before(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    start = painter.arrays()
    for _ in range(10):
        store.append(painter.change())
    store.flush()
    mask = vars(store.load())
    for record in reversed(list(store.history())):
        before = record.change.before
        mask["labels"][record.change.region] = before.labels
        mask["state"][record.change.region] = before.state
        if before.reference is not None:
            mask["reference"][record.change.region] = before.reference
    for found, wanted in zip(mask.values(), start, strict=True):
        np.testing.assert_array_equal(found, wanted)
    store.close()


def test_journal_torn_at_any_byte_of_its_last_record_opens_without_it(
    tmp_path, painter
):
    store = ImageStore(tmp_path, SHAPE)
    for _ in range(4):
        store.append(painter.change())
    store.flush()
    (path,) = tmp_path.glob("journal/*.bin")
    whole = path.stat().st_size
    before = painter.arrays()
    painter.ledger.labels[0, :9] += 1
    store.append(painter.ledger.edited())
    store.flush()
    store.close()
    content = path.read_bytes()
    reader = ImageStore(tmp_path, SHAPE, read_only=True)
    for cut in range(whole, len(content)):
        path.write_bytes(content[:cut])
        for found, wanted in zip(vars(reader.load()).values(), before, strict=True):
            np.testing.assert_array_equal(found, wanted)
    again = ImageStore(tmp_path, SHAPE)
    again.append(painter.change())
    again.compact()
    again.close()
    assert len(list(reader.history())) == 5


# A disk that fills up --------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch):
    """Stand in for the disk under journal and arrays; it can be full."""
    write_all, write_atomically = (
        segments_module.write_all,
        arrays_module.write_atomically,
    )

    class Disk:
        full = False

        def refuse(self):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

        def write_all(self, descriptor, data):
            write_all(descriptor, data[: len(data) // 2] if self.full else data)
            self.refuse()

        def write_atomically(self, path, data):
            self.refuse()
            write_atomically(path, data)

    disk = Disk()
    monkeypatch.setattr(segments_module, "write_all", disk.write_all)
    monkeypatch.setattr(arrays_module, "write_atomically", disk.write_atomically)
    monkeypatch.setattr(journal_module, "_BATCH", 3)
    return disk


def test_full_disk_while_painting_loses_nothing_and_saving_resumes(
    tmp_path, painter, disk
):
    told = []
    store = ImageStore(tmp_path, SHAPE, on_error=told.append)
    for _ in range(5):
        store.append(painter.change())
    assert store.flush(10)
    disk.full = True
    for _ in range(20):
        store.append(painter.change())
    assert not store.flush()
    with pytest.raises(StorageError, match="safe in its journal"):
        store.compact()
    assert store.pending == 20
    assert len(told) == 1
    reader = ImageStore(tmp_path, SHAPE, read_only=True)
    assert len(list(reader.history())) == 5
    disk.full = False
    store.append(painter.change())
    assert store.flush(10)
    assert store.error is None
    assert_holds(store, painter)
    store.compact()
    assert not list((tmp_path / "journal").glob("*.bin"))
    store.close()
    again = ImageStore(tmp_path, SHAPE)
    assert_holds(again, painter)
    assert len(list(again.history())) == 26
    again.close()


LIMITED = """
import resource
import sys
import numpy as np
from pathlib import Path
from napari_seg.corrections import arrays
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.store import ImageStore
arrays._CHUNK = 16
shape = (60, 70)
store = ImageStore(Path(sys.argv[1]), shape)
ledger = Ledger(np.zeros(shape, np.uint8), None, 3)
rng = np.random.default_rng(1)

def paint(times):
    for _ in range(times):
        y, x = rng.integers(0, 50, 2)
        ledger.labels[y : y + 9, x : x + 9] = rng.integers(0, 250, (9, 9))
        store.append(ledger.edited())

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
paint(40)
assert not store.flush()
assert store.pending
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
paint(40)
assert store.flush(30)
store.close()
np.save(sys.argv[2], ledger.labels)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file sizes")
def test_system_that_takes_a_part_of_each_write(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "i"), str(tmp_path / "l")]
    subprocess.run(command, check=True)
    store = ImageStore(tmp_path / "i", (60, 70))
    np.testing.assert_array_equal(store.load().labels, np.load(tmp_path / "l.npy"))
    assert len(list(store.history())) == 80
    store.close()


# Chunks ----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["auto", "plain zstd", "none"])
def test_store_of_another_codec_is_read(tmp_path, painter, codec):
    for _ in range(10):
        painter.change()
    ImageStore(tmp_path, SHAPE).close()
    group = zarr.open_group(tmp_path / "mask.zarr", mode="a")
    compressors = {"auto": "auto", "plain zstd": ZstdCodec(), "none": None}[codec]
    for name, values in zip(
        ("labels", "reference", "state"), painter.arrays(), strict=True
    ):
        array = group.create_array(
            name,
            shape=SHAPE,
            chunks=(1, 20, 20),
            dtype="uint8",
            fill_value=group[name].fill_value,
            compressors=compressors,
            overwrite=True,
        )
        array[:] = values
    store = ImageStore(tmp_path, SHAPE)
    assert_holds(store, painter)
    store.append(painter.change())
    store.flush()
    store.compact()
    assert_holds(store, painter)
    store.close()


def test_damaged_chunk_is_told_and_can_be_moved_away(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    painter.ledger.labels[:] = 1
    store.append(painter.ledger.edited())
    store.flush()
    store.compact()
    (chunk,) = tmp_path.glob("mask.zarr/labels/c/0/1/1")
    content = chunk.read_bytes()
    for damaged in (content[:-1], content[:-6] + b"\xff" + content[-5:], b""):
        chunk.write_bytes(damaged)
        with pytest.raises(ProjectError, match=r"labels.c.0.1.1 is damaged"):
            store.load()
    chunk.unlink()
    labels = store.load().labels
    assert not labels[0, 16:, 16:32].any()
    assert labels.sum() == labels.size - 14 * 16
    store.close()


def test_what_a_killed_program_had_begun_is_cleared_away(tmp_path, painter):
    store = ImageStore(tmp_path, SHAPE)
    left = tmp_path / "mask.zarr" / "labels" / "c" / "0" / "1" / "1.1234567.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a chunk")
    store.append(painter.change())
    store.flush()
    assert_holds(store, painter)
    store.compact()
    assert not left.exists()
    store.close()


def test_chunk_that_became_empty_is_removed_for_good(tmp_path, painter, monkeypatch):
    synced = []
    monkeypatch.setattr(arrays_module, "sync_folder", synced.append)
    store = ImageStore(tmp_path, SHAPE)
    for value in (1, 0):
        painter.ledger.labels[:] = value
        store.append(painter.ledger.edited())
        store.flush()
        store.compact()
    folder = tmp_path / "mask.zarr" / "labels" / "c" / "0" / "1"
    assert not (folder / "1").exists()
    assert folder in synced
    assert_holds(store, painter)
    store.close()
