"""Files of tables."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from napari_seg.errors import InputError, StorageError
from napari_seg.objects.columns import describe_column
from napari_seg.objects.measure import measure_objects
from napari_seg.objects.tables import write_table


@pytest.fixture
def table():
    ids = np.zeros((20, 20), np.uint32)
    ids[2:9, 3:8], ids[15, 15] = 1, 2**32 - 1
    names = ("background", "Zellkern, groß")
    image = np.where(ids == 1, 0.1, np.nan)
    return measure_objects(ids, ids > 0, image, classes=names, pixel_size=0.65)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
def test_what_is_written_comes_back(table, tmp_path, suffix):
    path = write_table(table, tmp_path / f"objects{suffix}")
    read = pd.read_parquet if suffix == ".parquet" else pd.read_csv
    pd.testing.assert_frame_equal(read(path), table, check_dtype=False)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [path.name]


def test_a_table_that_fails_leaves_the_old_one(table, tmp_path, monkeypatch):
    path = write_table(table, tmp_path / "objects.csv")
    before = path.read_bytes()

    def full(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(StorageError, match=r"No space left.*elsewhere"):
        write_table(table, path)
    assert path.read_bytes() == before
    assert [each for each in tmp_path.iterdir() if each.is_file()] == [path]


def test_places_and_formats_that_do_not_work(table, tmp_path, monkeypatch):
    with pytest.raises(StorageError, match=r"no folder .*nowhere.*elsewhere"):
        write_table(table, tmp_path / "nowhere" / "objects.csv")
    with pytest.raises(InputError, match=r"objects\.csv or objects\.parquet"):
        write_table(table, tmp_path / "objects.xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"napari-seg\[parquet\]"):
        write_table(table, tmp_path / "objects.parquet")


@pytest.mark.parametrize("shape", [(9, 9), (3, 9, 9), (2, 3, 9, 9)])
def test_every_column_has_a_meaning(shape):
    ids = np.ones(shape, np.uint8)
    found = measure_objects(
        ids, ids, ids, pixel_size=0.5, confidence=ids, corrected=ids
    )
    for name in found:
        column = describe_column(name)
        assert column.meaning.endswith("."), name
        if name.endswith(("_um", "_um2", "_um3")):
            assert column.unit.startswith("µm"), name
    assert describe_column("area_px").unit == "px"
    assert "channel DAPI" in describe_column("intensity_max_DAPI").meaning
    assert describe_column("own").meaning == ""
