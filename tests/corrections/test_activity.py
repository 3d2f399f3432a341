"""The record of work survives crashes and full disks, and adds up."""

from __future__ import annotations

import csv
import errno
import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from napari_seg.corrections import activity as activity_module
from napari_seg.corrections.activity import (
    Activity,
    ActivityLog,
    corrected_per_class,
    read_activity,
    summarize,
)
from napari_seg.corrections.ledger import Ledger

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stroke(seconds, **changed):
    """Return a stroke some time after the start."""
    return Activity(
        "edit",
        changed,
        corrected=120,
        accepted=40,
        whole_iou=0.5,
        whole_dice=0.75,
        time=START + timedelta(seconds=seconds),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.csv"


def write(path, *activities):
    log = ActivityLog(path)
    done = [log.append(activity) for activity in activities]
    log.close()
    return done


def test_what_was_written_is_read_back(path):
    done = write(path, stroke(0, nucleus=90), stroke(4, nucleus=-5, cytoplasm=7))
    done += write(path, Activity("finetune"))
    found = read_activity(path)
    assert [a.kind for a in found] == ["edit", "edit", "finetune"]
    assert found[1].changed == {"nucleus": -5, "cytoplasm": 7}
    assert found[1].time == done[1].time
    assert (found[1].corrected, found[1].accepted) == (120, 40)
    assert (found[1].whole_iou, found[1].whole_dice) == (0.5, 0.75)
    assert math.isnan(found[1].reviewed_iou)
    assert found[2].time.utcoffset() is not None


def test_a_spreadsheet_reads_it(path):
    write(path, stroke(0, nucleus=90))
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["time"] == "2026-01-02T03:04:05.000+00:00"
    assert json.loads(row["changed"]) == {"nucleus": 90}
    assert row["reviewed_iou"] == ""


def test_pauses_are_no_work(path):
    done = write(path, stroke(0), stroke(10), stroke(71), stroke(200), stroke(205))
    assert [a.seconds for a in done] == [0, 10, 0, 0, 5]
    assert summarize(read_activity(path)).seconds == 15


def test_summary_adds_up_per_class(path):
    write(path, stroke(0, a=9, b=3), stroke(1, a=-4), Activity("accept"))
    summary = summarize(read_activity(path))
    assert summary.strokes == 2
    assert summary.corrected == {"a": 5, "b": 3}


def test_torn_at_any_byte_loses_the_last_line_only(path):
    write(path, stroke(0, a=9), stroke(1, b=3), stroke(2, b=4))
    content = path.read_bytes()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start, len(content)):
        path.write_bytes(content[:cut])
        assert len(read_activity(path)) == 2
        write(path, stroke(9, a=1))
        assert [sum(a.changed.values()) for a in read_activity(path)] == [9, 3, 1]


def test_lines_of_others_are_passed_over(path):
    write(path, stroke(0))
    path.write_bytes(path.read_bytes() + b'my, own\n\xff\xfe,"note\n')
    write(path, stroke(1))
    assert len(read_activity(path)) == 2


def test_without_a_file_there_is_no_activity(path):
    assert read_activity(path) == []
    ActivityLog(path).close()
    assert not path.exists()


def test_full_disk_is_logged_once_and_loses_nothing(path, monkeypatch, caplog):
    real = activity_module._append

    def full(_path, _text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(activity_module, "_append", full)
    log = ActivityLog(path, retry_seconds=0.01)
    log.append(stroke(0))
    assert not log.flush()
    log.append(stroke(1))
    assert not log.flush()
    assert caplog.text.count("No space left") == 1
    monkeypatch.setattr(activity_module, "_append", real)
    log.append(stroke(2))
    log.close()
    assert len(read_activity(path)) == 3


def test_corrected_pixels_of_a_change():
    ledger = Ledger(np.zeros((8, 8), np.uint8), None, 3)
    ledger.predicted(None, np.ones((8, 8), np.uint8))
    ledger.labels[0, :5] = 2
    first = corrected_per_class(ledger.edited())
    ledger.labels[0, :2] = 1
    ledger.labels[0, 2] = 0
    second = corrected_per_class(ledger.edited())
    assert first[:3].tolist() == [0, 0, 5]
    assert second[:3].tolist() == [1, 0, -3]
    assert (first + second).sum() == ledger.corrected_pixels
