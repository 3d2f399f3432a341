"""Kills a program at random moments of its work, and looks at what it left on disk.

A round forks a *worker*, which paints, accepts, predicts and keeps new models by a
script and says through a pipe what it began and what is flushed; kills it (SIGKILL)
after a random number of operations and a random time; and forks a *judge*, which plays
the same script in memory and compares.  The driver itself imports everything once and
starts no thread, so that forking is quick and safe.

Run it as ``python crash_driver.py FOLDER --rounds 40 --seed 1``.  The last line that it
prints is a JSON object; a round that failed is told in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import Counter
from hashlib import blake2b
from itertools import count
from pathlib import Path

import numpy as np
import torch

from napari_seg.corrections import arrays as arrays_module
from napari_seg.corrections import store as store_module
from napari_seg.corrections.activity import Activity, ActivityLog, read_activity
from napari_seg.corrections.change import Pixels
from napari_seg.corrections.history import last_strokes, moments, state_at
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.project import Project, ProjectClass
from napari_seg.corrections.versions import VersionCard
from napari_seg.corrections.windows import cut_windows, save_windows
from napari_seg.inference.predict import PredictOptions, stream
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import create_model
from napari_seg.scoring.regions import as_box, split

SHAPE = (96, 128)
CLASSES = ("background", "nucleus", "cytoplasm")
# A round ends at most so many seconds after fewer operations than these.
_OPERATIONS, _SECONDS = 20, 0.2
FINGERPRINT = "c0ffee" * 5
IMAGE = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)


# What happens, the same in worker and judge --------------------------------------


def operation(seed, i):
    """Return kind and random numbers of an operation."""
    rng = np.random.default_rng((seed, i))
    kinds = ["edit"] * 12 + ["accept", "unaccept"] * 2
    kinds += ["predict"] * 3 + ["finetune"] * 2 + ["revert"]
    return str(rng.choice(kinds)), rng


def changes(kind, rng, ledger, model_number, past):
    """Make an operation happen to a ledger; yield each change when it is there.

    `past` is a list of masks to go back to, for the operations of one round.
    """
    if kind == "edit":
        yield from _stroke(rng, ledger)
    elif kind in ("accept", "unaccept"):
        past.append(
            Pixels(ledger.labels.copy(), ledger.state(), ledger.reference.copy())
        )
        ends = [np.sort(rng.integers(0, n + 1, 2)) for n in SHAPE]
        yield getattr(ledger, kind)(tuple(slice(int(a), int(b)) for a, b in ends))
    elif kind == "predict":
        for tile in stream(
            _model(model_number),
            IMAGE,
            axes="YX",
            device="cpu",
            options=PredictOptions(tile=64, halo=16, confidence=True),
        ):
            yield ledger.predicted(tile.region, tile.labels)

    elif kind == "revert" and past:
        yield from _revert(ledger, past[rng.integers(len(past))])


def _revert(ledger, earlier):
    for box in split(as_box(None, SHAPE), 2000):
        there = (earlier.labels[box], earlier.state[box], earlier.reference[box])
        change = ledger.restore(box, Pixels(*there))
        if change is not None:
            yield change


def _stroke(rng, ledger):
    y, x, dy, dx = *rng.integers(0, 80, 2), *rng.integers(-6, 7, 2)
    value = rng.integers(0, len(CLASSES))
    for _ in range(rng.integers(1, 12)):
        y, x = np.clip(y + dy, 0, 84), np.clip(x + dx, 0, 116)
        region = slice(int(y), int(y) + 12), slice(int(x), int(x) + 12)
        ledger.labels[region] = value
        change = ledger.edited(region)
        if change is not None:
            yield change


def _model(number):
    torch.manual_seed(number)
    return create_model("unet", classes=CLASSES, width=4, depth=2).eval()


def digest(ledger):
    """Return a hash of mask, reference and flags."""
    data = (ledger.labels, ledger.reference, ledger.state())
    return blake2b(b"".join(np.ascontiguousarray(a) for a in data)).hexdigest()


def open_all(folder):
    """Open the project, the store and the ledger, as a session does."""
    project = Project.open_or_create(folder / "project")
    assert not project.read_only, "the dead program still holds the project"
    if not project.classes:
        project.set_classes([ProjectClass(name, "") for name in CLASSES])
    store = project.open_store(project.add_image("scene", FINGERPRINT, SHAPE))
    mask = store.load()
    ledger = Ledger(mask.labels, mask.reference, len(CLASSES), mask.state)
    return project, store, ledger


def finetune(folder, project, ledger, number):
    """Do what fine-tuning leaves on disk; return the version's name."""
    windows = cut_windows(
        ledger.truth(), lambda box: IMAGE[box], "scene", size=32, context=8, minimum=1
    )
    save_windows(project.windows_folder, "scene", windows)
    candidate = save_model(_model(number), folder / "candidate")
    version = project.add_version(candidate, VersionCard(windows=len(windows)))
    project.use_model(version.name)
    return version.name


# The worker ----------------------------------------------------------------------


def work(folder, seed, say):
    """Work until killed."""
    project, store, ledger = open_all(folder)
    number, past = len(project.versions), []
    log = ActivityLog(store.folder / "activity.csv")
    # Every other worker goes on without waiting for the disk, as the program does.
    patient = seed % 2 == 0
    for i in count():
        kind, rng = operation(seed, i)
        say(f"began {i} {kind}")
        for change in changes(kind, rng, ledger, number, past):
            store.append(change)
        store.stroke_finished()
        log.append(Activity(kind, corrected=ledger.corrected_pixels))
        if kind == "finetune":
            number += 1
            say(f"version {finetune(folder, project, ledger, number)}")
        if patient or rng.random() < 0.2:
            assert store.flush(60)
            say(f"safe {i}")
        if rng.random() < 0.01:
            log.close()
            store.close()
            project.close()
            project, store, ledger = open_all(folder)
            log = ActivityLog(store.folder / "activity.csv")


# The judge -----------------------------------------------------------------------


def judge(folder, seed, told):
    """Compare what is on disk with what must be there.

    Returns
    -------
    int
        Changes missing of the operation in progress; most had not happened yet.
    """
    began, safe = int(told.get("began", "-1").split()[0]), int(told.get("safe", -1))
    states, number, base = _play(folder, seed, began)
    project, store, ledger = open_all(folder)
    found = digest(ledger)
    assert safe >= began - 1 or seed % 2, "a patient worker waits for the disk"
    must = max(k for k, (i, _) in enumerate(states) if i == safe)
    fitting = [k for k, state in enumerate(states) if k >= must and state[1] == found]
    assert fitting, f"the mask is none of those after operation {safe} of {began}"
    _judge_versions(project, told, base, number)
    _judge_history(store, ledger)
    read_activity(store.folder / "activity.csv")
    _go_on(folder, project, store, ledger, seed)
    return len(states) - 1 - max(fitting)


def _play(folder, seed, began):
    """Return (operation, digest) after each change, versions at most, and at first."""
    mask, base = _baseline(folder)
    ledger = Ledger(mask["labels"], mask["reference"], len(CLASSES), mask["state"])
    number, past = base, []
    states = [(-1, digest(ledger))]
    for i in range(began + 1):
        kind, rng = operation(seed, i)
        for _ in changes(kind, rng, ledger, number, past):
            states.append((i, digest(ledger)))
        number += kind == "finetune"
        # The end of an operation, also of one that changed nothing.
        states.append((i, states[-1][1]))
    return states, number, base


def _baseline(folder):
    path = folder / "baseline.npz"
    if path.exists():
        with np.load(path) as saved:
            return {name: saved[name] for name in saved}, int(saved["versions"])
    empty = np.zeros(SHAPE, np.uint8)
    mask = {"labels": empty, "reference": empty + 255, "state": empty.copy()}
    return mask, 0


def _judge_versions(project, told, base, most):
    names = [version.name for version in project.versions]
    for version in project.versions:
        load_model(version.path)
    assert base <= len(names) <= most, f"versions {names}, {base} to {most} expected"
    if "version" in told:
        assert told["version"] in names, f"version {told['version']} is lost"
        assert project.current >= told["version"]
    assert project.current is None or project.current in names


def _judge_history(store, ledger):
    known = moments(store)
    if known:
        for mask, wanted in (
            (state_at(store, known[-1]), ledger),
            (state_at(store, known[len(known) // 2]), None),
        ):
            other = Ledger(mask.labels, mask.reference, len(CLASSES), mask.state)
            assert wanted is None or digest(other) == digest(ledger), "the last moment"
    mask = ledger.labels.copy()
    for stroke in reversed(last_strokes(store)):
        for box, before, after in reversed(stroke):
            assert np.array_equal(mask[box], after), "a stroke that cannot be undone"
            mask[box] = before


def _names(folder):
    return {path.name for path in folder.glob("*.tif")}


def _go_on(folder, project, store, ledger, seed):
    """Work on, and keep the outcome as the start of the next round."""
    for change in _stroke(np.random.default_rng(seed), ledger):
        store.append(change)
    assert store.flush(60)
    if seed % 3 == 0:
        store.compact()
        left = list((store.folder / "mask.zarr").rglob("*.partial"))
        assert not left, f"left over: {left}"
    if (ledger.truth() != 255).any():
        number = len(project.versions) + 1
        finetune(folder, project, ledger, number)
        windows = project.windows_folder
        pairs = [_names(windows / each) for each in ("images", "labels")]
        assert pairs[0] == pairs[1] != set(), f"windows without a partner: {pairs}"
    wanted = digest(ledger)
    store.close()
    project.close()
    project, store, ledger = open_all(folder)
    assert digest(ledger) == wanted, "the mask after going on"
    np.savez(
        folder / "baseline.npz",
        labels=ledger.labels,
        reference=ledger.reference,
        state=ledger.state(),
        versions=len(project.versions),
    )
    store.close()
    project.close()


# The driver ----------------------------------------------------------------------


def fork(job, *arguments):
    """Run `job(*arguments, say)` in a child; return its pid and what it says."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)

    def say(text):
        os.write(writing, f"{text}\n".encode())

    try:
        job(*arguments, say)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child must not return to the driver
        say("failed " + json.dumps(traceback.format_exc()[-3000:]))
        os._exit(1)


def listen(pipe, seconds=None):
    """Return what a child said, up to its end or for some time."""
    end = None if seconds is None else time.monotonic() + seconds
    said = b""
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, _, _ = select.select([pipe], [], [], left)
        if not ready:
            return said
        part = os.read(pipe, 1 << 16)
        if not part:
            return said
        said += part


def listen_for(pipe, operations):
    """Return what a child said until it began so many operations, or ended."""
    said = b""
    while said.count(b"began ") < operations:
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        said += part
    return said


def _judge_aloud(folder, seed, told, say):
    say(f"missing {judge(folder, seed, told)}")


def play_round(folder, seed, operations, seconds):
    """Kill one worker; return what it was at, and what was missing afterwards.

    So many seconds after it began so many operations: by the clock alone, a busy
    machine would do little before it is killed.
    """
    folder.mkdir(exist_ok=True)
    worker, pipe = fork(work, folder, seed)
    said = listen_for(pipe, operations) + listen(pipe, seconds)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    said += listen(pipe)
    os.close(pipe)
    # The last of each kind counts; a line that the kill tore has no end.
    lines = said.decode().split("\n")[:-1]
    told = dict(line.split(" ", 1) for line in lines)
    outcome = {"seed": seed, "kind": told.get("began", "0 opening").split()[1]}
    outcome["operations"] = int(told.get("began", "-1").split()[0]) + 1
    if "failed" in told:
        return {**outcome, "failed": json.loads(told["failed"])}
    judging, pipe = fork(_judge_aloud, folder, seed, told)
    verdict = dict(line.split(" ", 1) for line in listen(pipe).decode().splitlines())
    os.waitpid(judging, 0)
    os.close(pipe)
    if "failed" in verdict:
        return {**outcome, "failed": json.loads(verdict["failed"])}
    return {**outcome, "missing": int(verdict["missing"])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Small chunks and short journals: every round meets compaction.
    arrays_module._CHUNK = 32
    store_module._LONG_JOURNAL = 15_000
    store_module._MANY_RECORDS = 40
    store_module._SETTLE_SECONDS = 0.02
    chance = random.Random(given.seed)
    outcomes, folders = [], []
    for i in range(given.rounds):
        if not folders or chance.random() < 0.3:
            folders.append(given.folder / f"folder{len(folders)}")
        folder = chance.choice(folders[-3:])
        store_module._HISTORY_BYTES = chance.choice([40_000, 64 << 20])
        seed = given.seed * 1_000_000 + i
        outcome = play_round(
            folder, seed, chance.randrange(_OPERATIONS), chance.uniform(0.0, _SECONDS)
        )
        sys.stderr.write(f"{json.dumps(outcome)}\n")
        outcomes.append(outcome)
    summary = {
        "rounds": len(outcomes),
        "folders": len(folders),
        "killed_at": Counter(outcome["kind"] for outcome in outcomes),
        "operations": sum(outcome["operations"] for outcome in outcomes),
        "unfinished": sum(outcome.get("missing", 0) > 0 for outcome in outcomes),
        "failed": [outcome for outcome in outcomes if "failed" in outcome],
    }
    sys.stdout.write(f"{json.dumps(summary)}\n")


if __name__ == "__main__":
    main()
