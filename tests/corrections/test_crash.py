"""Killed at random moments of its work, the program loses no finished stroke.

``make test-crash`` does it 200 times; NAPARI_SEG_CRASH_ROUNDS says how often.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("NAPARI_SEG_CRASH_ROUNDS", "40"))
DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.mark.slow
@pytest.mark.timeout(60 + 6 * ROUNDS)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killer forks, Windows cannot")
def test_killed_at_random_moments_no_finished_stroke_is_lost(tmp_path):
    command = [sys.executable, str(DRIVER), str(tmp_path), "--rounds", str(ROUNDS)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{summary}\n")
    assert not summary["failed"]
    assert summary["rounds"] == ROUNDS
    # It met the program at work, not only at its start.
    assert {"edit", "predict", "finetune"} <= summary["killed_at"].keys()
    assert summary["operations"] > 5 * ROUNDS
