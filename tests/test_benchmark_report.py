"""RESULTS.md keeps what was not measured again, and shows misses plainly."""

from __future__ import annotations

import pytest

pytest.importorskip("psutil")

import numpy as np

from benchmarks._report import Section, machine, row, write
from benchmarks.responsiveness import summary


def test_a_section_replaces_itself_and_leaves_the_others(tmp_path):
    path, order = tmp_path / "RESULTS.md", ["Start-up", "GPU"]
    for title, figure in (("GPU", "7 Mpx/s"), ("Start-up", "1 s"), ("Start-up", "2 s")):
        rows = [row("a | b", figure, "< 1.5 s", figure == "1 s", "detail")]
        write(Section(title, rows, "command", machine(), 3.0), order, path)
    text = path.read_text(encoding="utf-8")
    assert text.index("## Start-up") < text.index("## GPU")
    assert text.count("## Start-up") == 1
    assert "| a \\| b | 2 s | < 1.5 s | **no** | detail |" in text
    assert "7 Mpx/s" in text
    assert "| 1 s |" not in text


def test_stalls_count_by_how_long_they_keep_one_waiting():
    """A thousand gaps of 1 ms and one of 1 s: an event falls into the long one."""
    gaps = np.array([1e-3] * 1000 + [1.0])
    found = summary(np.concatenate([[0], gaps.cumsum()]))
    assert found["p50"] == pytest.approx(1)
    assert found["p99"] == pytest.approx(1)
    assert (found["max"], found["long"]) == (pytest.approx(1000), 1)
    assert found["when"] == pytest.approx(1.0)
    # Half of all moments lie in the long gap; 1 % of all wait 980 ms or more.
    assert found["wait_p99"] == pytest.approx(980, abs=2)
