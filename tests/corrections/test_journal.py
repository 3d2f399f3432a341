"""Records survive torn files, full disks and the end of the program."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_seg.corrections import journal as journal_module
from napari_seg.corrections import records as records_module
from napari_seg.corrections import segments as segments_module
from napari_seg.corrections.journal import Journal
from napari_seg.corrections.records import (
    Record,
    arrays_of,
    encode,
    parts,
    read_after,
    read_records,
)
from napari_seg.corrections.segments import finish, finished, segments
from napari_seg.errors import StorageError


def assert_same(found, expected):
    assert found.kind == expected.kind
    assert found.region == expected.region
    for stage in ("before", "after"):
        pairs = zip(
            arrays_of(getattr(found, stage)),
            arrays_of(getattr(expected, stage)),
            strict=True,
        )
        for (name, array), (other_name, other) in pairs:
            assert name == other_name
            np.testing.assert_array_equal(array, other)


def changes_in(folder):
    return [r.change for path in segments(folder) for r in read_records(path)]


def test_what_was_appended_is_read_back(tmp_path, painter):
    journal = Journal(tmp_path / "journal")
    changes = [painter.change() for _ in range(50)]
    for change in changes:
        journal.append(change)
    assert journal.flush(10)
    assert journal.pending == 0
    assert journal.saved_at == pytest.approx(time.time(), abs=30)
    found = changes_in(tmp_path / "journal")
    for one, other in zip(found, changes, strict=True):
        assert_same(one, other)
    journal.close()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_torn_anywhere_gives_the_state_after_the_last_whole_record(
    data, tmp_path, make_painter
):
    seed = data.draw(st.integers(0, 2**32 - 1))
    painter = make_painter((12, 15), seed)
    ends, states, content = [0], [painter.arrays()], b""
    for seq in range(data.draw(st.integers(1, 6))):
        content += encode(Record(painter.change(), 0.0, seq))
        ends.append(len(content))
        states.append(painter.arrays())
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path / "1.bin"
    path.write_bytes(content[:cut])
    mask = dict(zip(("labels", "reference", "state"), states[0], strict=True))
    for region, after in read_after(path):
        for name, values in arrays_of(after):
            mask[name][region] = values
    expected = states[sum(end <= cut for end in ends) - 1]
    for found, wanted in zip(mask.values(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_damage_in_the_middle_costs_one_record_and_is_logged(tmp_path, painter, caplog):
    coded = [encode(Record(painter.change(), 0.0, i)) for i in range(3)]
    middle = bytearray(coded[1])
    middle[len(middle) // 2] ^= 1
    path = tmp_path / "1.bin"
    path.write_bytes(coded[0] + middle + coded[2])
    with caplog.at_level(logging.WARNING):
        assert [record.seq for record in read_records(path)] == [0, 2]
    assert "damaged" in caplog.text


def test_torn_tail_of_an_earlier_run_does_not_hide_the_next_run(tmp_path, painter):
    first, second = painter.change(), painter.change()
    path = tmp_path / "00000004.bin"
    path.write_bytes(encode(Record(first, 0.0, 0)) + b"NSJ1 torn")
    journal = Journal(tmp_path)
    journal.append(second)
    journal.close()
    found = changes_in(tmp_path)
    assert len(found) == 2
    assert_same(found[1], second)


def test_large_change_becomes_records_that_add_up(painter, monkeypatch):
    monkeypatch.setattr(records_module, "_LIMIT", 100)
    painter.ledger.labels[:] = 1
    change = painter.ledger.edited()
    seen = np.zeros(painter.ledger.shape, np.uint8)
    for part in parts(change):
        assert part.labels.size <= 100
        seen[part.region] += part.labels
    np.testing.assert_array_equal(seen, painter.ledger.labels)


@pytest.fixture
def disk(monkeypatch):
    """Stand in for the disk; it can be full, after a few more bytes."""
    real = segments_module.write_all

    class Disk:
        full = False

        def write(self, descriptor, data):
            if self.full:
                real(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor, data)

    disk = Disk()
    monkeypatch.setattr(segments_module, "write_all", disk.write)
    return disk


def test_full_disk_is_told_once_and_loses_nothing(tmp_path, painter, disk):
    told, called = [], threading.Event()

    def on_error(error):
        told.append(error)
        called.set()

    journal = Journal(tmp_path, on_error, retry_seconds=0.01)
    changes = [painter.change() for _ in range(6)]
    journal.append(changes[0])
    assert journal.flush(10)
    disk.full = True
    for change in changes[1:4]:
        journal.append(change)
    assert called.wait(10)
    time.sleep(0.1)
    assert not journal.flush(0.05)
    assert not journal.flush()
    assert len(told) == 1
    assert isinstance(told[0], StorageError)
    assert "No space left" in str(told[0])
    assert journal.pending == 3
    assert journal.error is told[0] or isinstance(journal.error, StorageError)
    disk.full = False
    for change in changes[4:]:
        journal.append(change)
    assert journal.flush(10)
    assert journal.error is None
    journal.close()
    for one, other in zip(changes_in(tmp_path), changes, strict=True):
        assert_same(one, other)


def test_closing_on_a_full_disk_says_what_was_not_saved(tmp_path, painter, disk):
    disk.full = True
    journal = Journal(tmp_path, retry_seconds=60)
    journal.append(painter.change())
    with pytest.raises(StorageError, match=r"1 changes.*No space left"):
        journal.close()
    assert journal.pending == 1
    assert segments(tmp_path) == []


def test_failing_listener_does_not_stop_the_writer(tmp_path, painter, disk, caplog):
    def on_error(_error):
        raise RuntimeError("listener")

    journal = Journal(tmp_path, on_error, retry_seconds=0.01)
    disk.full = True
    journal.append(painter.change())
    while journal.error is None:
        time.sleep(0.01)
    disk.full = False
    assert journal.flush(10)
    journal.close()
    assert "listener" in caplog.text


def test_closed_journal_refuses(tmp_path, painter):
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        journal.append(painter.change())


def test_finished_segments_stay_as_history_up_to_a_size(tmp_path, painter):
    journal = Journal(tmp_path)
    for _ in range(3):
        journal.append(painter.change())
        assert journal.flush(10)
        closed = journal.rotate()
    sizes = [path.stat().st_size for path in closed]
    finish(closed, keep_bytes=sum(sizes[1:]))
    assert segments(tmp_path) == []
    assert [path.name for path in finished(tmp_path)] == [
        "00000002.done",
        "00000003.done",
    ]
    journal.append(painter.change())
    journal.close()
    assert [path.name for path in segments(tmp_path)] == ["00000004.bin"]


def test_end_of_the_program_without_closing_saves_all(tmp_path):
    script = f"""
import numpy as np
from pathlib import Path
from napari_seg.corrections.journal import Journal
from napari_seg.corrections.ledger import Ledger
journal = Journal(Path({str(tmp_path)!r}))
ledger = Ledger(np.zeros((64, 64), np.uint8))
for i in range(40):
    ledger.labels[i] = 1
    journal.append(ledger.edited())
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(changes_in(tmp_path)) == 40


def strokes_of(folder):
    return [r.stroke for path in segments(folder) for r in read_records(path)]


def test_changes_up_to_the_end_of_a_stroke_share_its_number(tmp_path, painter):
    journal = Journal(tmp_path)

    def dab():
        painter.ledger.labels[0, :5] += 1
        journal.append(painter.ledger.edited())

    dab()
    dab()
    journal.stroke_finished()
    dab()
    journal.append(painter.ledger.accept())
    dab()
    journal.close()
    assert strokes_of(tmp_path) == [1, 1, 2, 3, 4]


def test_parts_of_a_large_change_are_one_stroke(tmp_path, painter, monkeypatch):
    monkeypatch.setattr(records_module, "_LIMIT", 100)
    journal = Journal(tmp_path)
    painter.ledger.labels[:] = 1
    journal.append(painter.ledger.edited())
    journal.close()
    assert set(strokes_of(tmp_path)) == {1}


def test_a_number_that_another_program_took_is_passed_over(tmp_path, painter):
    journal = Journal(tmp_path)
    (tmp_path / "00000001.bin").write_bytes(b"")
    journal.append(painter.change())
    assert journal.flush(10)
    journal.close()
    assert [path.name for path in segments(tmp_path)] == [
        "00000001.bin",
        "00000002.bin",
    ]


def test_torn_at_every_byte_of_the_last_record_loses_only_that(tmp_path, painter):
    coded = [encode(Record(painter.change(), 0.0, i, i)) for i in range(3)]
    path = tmp_path / "1.bin"
    content = b"".join(coded)
    for cut in range(len(content) - len(coded[2]), len(content)):
        path.write_bytes(content[:cut])
        assert [record.seq for record in read_records(path)] == [0, 1]


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_anywhere_loses_at_most_its_record(tmp_path, painter, mask):
    coded = [encode(Record(painter.change(), 0.0, i, i)) for i in range(3)]
    path = tmp_path / "1.bin"
    content = bytearray(b"".join(coded))
    owners = [i for i, record in enumerate(coded) for _ in record]
    for at, owner in enumerate(owners):
        content[at] ^= mask
        path.write_bytes(content)
        left = [i for i in range(3) if i != owner]
        assert [record.seq for record in read_records(path)] == left
        content[at] ^= mask


def test_lack_of_memory_is_tried_again_like_a_full_disk(tmp_path, painter, monkeypatch):
    told = []

    def encode_without_memory(_record):
        raise MemoryError

    journal = Journal(tmp_path, told.append, retry_seconds=0.01)
    monkeypatch.setattr(journal_module, "encode", encode_without_memory)
    journal.append(painter.change())
    while journal.error is None:
        time.sleep(0.01)
    assert "MemoryError" in str(told[0])
    monkeypatch.undo()
    assert journal.flush(10)
    journal.close()
    assert len(changes_in(tmp_path)) == 1
