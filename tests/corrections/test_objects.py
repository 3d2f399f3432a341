"""The numbers of objects on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_seg.corrections.objects import FOLDER, ObjectsFile, chunks_of
from napari_seg.errors import ProjectError, StorageError

SHAPE = (2, 520, 600)


@pytest.fixture
def ids() -> NDArray[np.uint32]:
    ids = np.zeros(SHAPE, np.uint32)
    ids[0, 500:515, 500:530] = 7
    ids[1, 10:20, 590:] = 70_000
    return ids


def test_what_was_written_comes_back(tmp_path: Path, ids: NDArray[np.uint32]) -> None:
    file = ObjectsFile(tmp_path, SHAPE)
    assert not file.exists
    assert file.load() is None
    file.write(ids, 70_001, None)
    stored = ObjectsFile(tmp_path, SHAPE).load()
    assert stored is not None
    assert stored.last == 70_001
    assert stored.ids.dtype == np.uint32
    np.testing.assert_array_equal(stored.ids, ids)


def test_only_what_changed_is_written(tmp_path: Path, ids: NDArray[np.uint32]) -> None:
    file = ObjectsFile(tmp_path, SHAPE)
    file.write(ids, 70_000, None)
    new = ids.copy()
    new[0, 500:505, 500:505] = 70_001
    changed = np.flatnonzero(new != ids)
    assert chunks_of(changed, SHAPE) == {(0, 0, 0)}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("c/*/*/*")}
    file.write(new, 70_001, chunks_of(changed, SHAPE))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("c/*/*/*")}
    rewritten = [path for path, when in after.items() if times[path] != when]
    assert [path.relative_to(tmp_path / FOLDER / "c") for path in rewritten] == [
        Path("0/0/0")
    ]
    stored = file.load()
    assert stored is not None
    assert stored.last == 70_001
    np.testing.assert_array_equal(stored.ids, new)


def test_a_damaged_chunk_is_told_of(tmp_path: Path, ids: NDArray[np.uint32]) -> None:
    file = ObjectsFile(tmp_path, SHAPE)
    file.write(ids, 70_000, None)
    chunk = tmp_path / FOLDER / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(ProjectError, match="Find objects"):
        file.load()
    file.write(ids, 70_000, None)
    assert file.load() is not None


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"node_type": "group"}'])
def test_a_garbled_description_is_told_of(
    tmp_path: Path, ids: NDArray[np.uint32], content: str
) -> None:
    file = ObjectsFile(tmp_path, SHAPE)
    file.write(ids, 70_000, None)
    (tmp_path / FOLDER / "zarr.json").write_text(content)
    with pytest.raises(ProjectError, match="mask and its corrections are not"):
        file.load()


def test_objects_of_another_shape(tmp_path: Path, ids: NDArray[np.uint32]) -> None:
    ObjectsFile(tmp_path, SHAPE).write(ids, 70_000, None)
    with pytest.raises(ProjectError, match=r"shape \(2, 520, 600\)"):
        ObjectsFile(tmp_path, SHAPE[1:]).load()


def test_what_was_not_written_to_its_end_is_nothing(
    tmp_path: Path, ids: NDArray[np.uint32], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ObjectsFile(tmp_path, SHAPE)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("napari_seg.corrections.objects._put", full)
    with pytest.raises(StorageError, match="No space left"):
        file.write(ids, 70_000, None)
    assert file.load() is None
