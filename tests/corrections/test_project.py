"""Project folders: made, reopened, shared, damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dask.array
import numpy as np
import pytest
import zarr

from napari_seg.corrections import durable
from napari_seg.corrections.identity import (
    default_project_folder,
    fingerprint,
    safe_name,
)
from napari_seg.corrections.ledger import Ledger
from napari_seg.corrections.manifest import ReadAs
from napari_seg.corrections.project import Project, ProjectClass
from napari_seg.corrections.versions import VersionCard
from napari_seg.errors import InputError, ProjectError, StorageError

CLASSES = (ProjectClass("background", "#000000"), ProjectClass("Zellkern ✓", "#e69f00"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "plate 3"


@pytest.fixture
def project(folder):
    with Project.create(folder, CLASSES) as project:
        yield project


def test_reopening_gives_all_back(folder):
    with Project.create(folder, CLASSES) as project:
        entry = project.add_image("cells: A/01.tif", "f" * 32, (2, 40, 50), "x.tif")
        project.use_model("nuclei")
        store = project.open_store(entry)
        ledger = Ledger(np.zeros(entry.shape, np.uint8))
        ledger.labels[1, 3:9] = 1
        store.append(ledger.edited())
        store.close()
    with Project.open(folder) as again:
        assert not again.read_only
        assert again.classes == CLASSES
        assert again.images == {entry.id: entry}
        assert again.current == "nuclei"
        store = again.open_store(again.images[entry.id])
        np.testing.assert_array_equal(store.load().labels, ledger.labels)
        store.close()


def test_image_is_known_by_its_content_not_its_name(project):
    first = project.add_image("a", "1" * 32, (8, 8))
    assert project.add_image("b", "1" * 32, (8, 8)) == first
    assert project.add_image("a", "2" * 32, (8, 8)) != first
    assert len(project.images) == 2


def test_an_image_read_with_other_axes_is_another_one(folder, project):
    stack = project.add_image("a", "1" * 32, (8, 40, 50), read_as=ReadAs("ZYX"))
    turned = project.add_image("a", "1" * 32, (8, 40, 50), read_as=ReadAs("ZXY"))
    picked = ReadAs("CYX", channels=(2,), zoom=0.5)
    channels = project.add_image("a", "1" * 32, (40, 50), read_as=picked)
    assert len({stack.id, turned.id, channels.id}) == 3

    # Another name for the same axis is the same mask; what is said last is kept.
    renamed = project.add_image("a", "1" * 32, (8, 40, 50), read_as=ReadAs("TYX"))
    assert renamed.id == stack.id
    with Project.open(folder, read_only=True) as again:
        assert again.images[stack.id].read_as.axes == "TYX"
        assert again.images[channels.id] == channels


def test_second_viewer_reads_only(folder, project):
    second = Project.open(folder)
    assert second.read_only
    assert "process" in second.holder
    assert second.classes == CLASSES
    with pytest.raises(StorageError, match="read-only"):
        second.set_classes(())
    with pytest.raises(StorageError, match="read-only"):
        second.add_version(folder / "project.json", VersionCard())
    project.close()
    second.close()
    with Project.open(folder) as third:
        assert not third.read_only
    assert Project.open(folder, read_only=True).read_only


def test_lock_of_a_killed_program_is_gone(folder, project):
    project.close()
    script = f"""
import os, signal
from pathlib import Path
from napari_seg.corrections.project import Project
project = Project.open(Path({str(folder)!r}))
print(project.read_only, Project.open(Path({str(folder)!r})).read_only, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.stdout.split() == ["False", "True"]
    with Project.open(folder) as again:
        assert not again.read_only


def test_open_or_create(folder):
    with Project.open_or_create(folder, CLASSES) as project:
        assert project.classes == CLASSES
    with Project.open_or_create(folder) as project:
        assert project.classes == CLASSES
    with pytest.raises(ProjectError, match="is a project already"):
        Project.create(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1}', "cannot be read"),
        ('{"format": 99}', "newer napari-seg"),
        (
            '{"format": 1, "classes": [], "current": null, "images": [{"id": "../..",'
            ' "name": "a", "fingerprint": "f", "shape": [8, 8]}]}',
            "cannot be read",
        ),
    ],
)
def test_damaged_or_foreign_file(folder, project, text, message):
    project.close()
    (folder / "project.json").write_text(text)
    with pytest.raises(ProjectError, match=message):
        Project.open(folder)


def test_folder_without_a_project(tmp_path):
    with pytest.raises(ProjectError, match="no napari-seg project"):
        Project.open(tmp_path)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose a folder"):
        Project.create(tmp_path / "file" / "project")


def test_full_disk_keeps_what_was_saved(folder, project, monkeypatch):
    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", fail)
        with pytest.raises(StorageError, match="No space left"):
            project.set_classes(())
    assert project.classes == CLASSES
    assert json.loads((folder / "project.json").read_text())["classes"]
    assert not list(folder.glob("*.partial"))


def test_versions_are_numbered_and_have_cards(project, tmp_path):
    model = tmp_path / "tuned.safetensors"
    model.write_bytes(b"weights")
    card = VersionCard("nuclei", 6, {"mean_dice": 0.8}, {"mean_dice": None}, 61.5)
    first = project.add_version(model, card)
    model.write_bytes(b"other weights")
    second = project.add_version(model, VersionCard(first.name, kept=False))
    assert [v.name for v in project.versions] == ["v001", "v002"]
    assert project.versions == (first, second)
    assert not second.card.kept
    assert first.path.read_bytes() == b"weights"
    assert first.card.software["numpy"] == np.__version__
    project.keep_version("v002")
    assert [v.card.kept for v in project.versions] == [True, True]
    (project.models_folder / "v003.json").write_text("{}")
    assert len(project.versions) == 2
    with pytest.raises(InputError, match="no model file"):
        project.add_version(tmp_path / "none", card)
    (project.models_folder / "v002.json").write_text("[]")
    with pytest.raises(ProjectError, match="no model card"):
        _ = project.versions


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "C:\\x", "Zelle ä", "a__b", "x" * 99]
)
def test_safe_names(name):
    safe = safe_name(name)
    assert safe == safe_name(safe)
    assert 0 < len(safe) <= 60
    assert not set(safe) & set('/\\:*?"<>| ')
    assert "__" not in safe
    assert safe.strip(".") == safe


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SEG_HOME", str(tmp_path))
    folder = default_project_folder("a b", "0123456789")
    assert folder == tmp_path / "projects" / "a_b-01234567"
    monkeypatch.delenv("NAPARI_SEG_HOME")
    assert "napari-seg" in Path(default_project_folder("a", "f")).parts


@pytest.mark.parametrize("large", [False, True])
def test_fingerprint_follows_the_content(monkeypatch, large):
    if large:
        monkeypatch.setattr("napari_seg.corrections.identity._WHOLE_BYTES", 10)
    image = np.random.default_rng(0).integers(0, 255, (2, 3, 70, 90)).astype(np.uint16)
    name = fingerprint(image)
    assert len(name) == 32
    assert fingerprint(image.copy(order="F")) == name
    assert fingerprint(image.astype(">u2")) == name
    assert fingerprint(dask.array.from_array(image, chunks=32)) == name
    assert fingerprint(zarr.array(image)) == name
    assert fingerprint(image + np.uint16(1)) != name
    assert fingerprint(image.astype(np.int32)) != name
    assert fingerprint(image.reshape(3, 2, 70, 90)) != name


def test_fingerprint_of_a_huge_image_reads_little():
    huge = dask.array.zeros((4, 100, 50_000, 50_000), chunks=(1, 1, 512, 512))
    assert fingerprint(huge)


def test_fingerprint_of_a_tiny_image():
    assert fingerprint(np.zeros((3, 4))) != fingerprint(np.zeros((4, 3)))
