"""Memory of large blocks, kept and handed back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_seg.inference import heap
from napari_seg.inference.heap import kept_blocks

SIZE = 64 << 20
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="glibc is on Linux alone"
)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def use_and_free() -> None:
    np.ones(SIZE, np.uint8)


@linux
def test_kept_inside_and_handed_back_at_the_end() -> None:
    # In a fresh process: in this one, earlier tests may have left a hole of that size.
    script = """
from tests.inference.test_heap import SIZE, kept_blocks, resident, use_and_free

use_and_free()
before = resident()
with kept_blocks():
    use_and_free()
    assert resident() - before > SIZE // 2
    with kept_blocks():
        pass
    # The inner one has ended; the outer one still computes.
    assert resident() - before > SIZE // 2
assert resident() - before < SIZE // 2
use_and_free()
assert resident() - before < SIZE // 2
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "napari", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    heap._glibc.cache_clear()
    with kept_blocks():
        assert heap._glibc() is None
    monkeypatch.undo()
    heap._glibc.cache_clear()


@linux
def test_a_viewer_in_the_same_process_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "napari", sys)
    use_and_free()
    before = resident()
    with kept_blocks():
        use_and_free()
        assert resident() - before < SIZE // 2


@linux
@pytest.mark.parametrize("shared", [False, True])
def test_threads_share_the_heap_that_there_is(shared: bool) -> None:
    script = f"""
import ctypes, threading
from napari_seg.inference.heap import share_heaps

if {shared}:
    share_heaps()
together = threading.Barrier(4)
def work():
    block = ctypes.CDLL(None).malloc(100_000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    heaps = sum(line.startswith("Arena") for line in done.stderr.splitlines())
    assert heaps == 1 if shared else heaps > 1
