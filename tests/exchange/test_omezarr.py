"""OME-Zarr: what versions 0.4 and 0.5 of the specification require of labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_seg.errors import InputError, StorageError
from napari_seg.exchange import Exchanged, omezarr, read, write
from tests.exchange.conftest import blocks, calibrated

VERSIONS = {"ome-zarr": (2, "0.4"), "ome-zarr-0.5": (3, "0.5")}


def attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group, as the file has them."""
    if (folder / ".zattrs").exists():
        assert json.loads((folder / ".zgroup").read_text()) == {"zarr_format": 2}
        return json.loads((folder / ".zattrs").read_text())
    told = json.loads((folder / "zarr.json").read_text())
    assert (told["zarr_format"], told["node_type"]) == (3, "group")
    return told["attributes"]


def said(folder: Path, version: str) -> dict[str, Any]:
    """Return what OME-Zarr says of a group, from where that version has it."""
    found = attributes(folder)
    if version == "0.5":
        assert found["ome"]["version"] == "0.5"
        return found["ome"]
    assert "ome" not in found
    return found


def check_multiscales(folder: Path, version: str) -> list[tuple[int, ...]]:
    """Check what the specification says of multiscales; return the levels' shapes."""
    (scale,) = said(folder, version)["multiscales"]
    if version == "0.4":
        assert scale["version"] == "0.4"
    names = [axis["name"] for axis in scale["axes"]]
    kinds = [axis["type"] for axis in scale["axes"]]
    assert len(set(names)) == len(names)
    # Time comes first, space last, and of space there are two or three axes.
    assert kinds == sorted(kinds, key=["time", "channel", "space"].index)
    assert kinds.count("space") in (2, 3)
    shapes, steps = [], []
    for level in scale["datasets"]:
        array = zarr.open_array(folder / level["path"], mode="r")
        (change,) = level["coordinateTransformations"]
        assert change["type"] == "scale"
        assert len(change["scale"]) == array.ndim == len(names)
        assert array.dtype.kind in "ui"
        if version == "0.5":
            assert list(array.metadata.dimension_names) == names
        else:
            told = json.loads((folder / level["path"] / ".zarray").read_text())
            assert told["dimension_separator"] == "/"
        shapes.append(array.shape)
        steps.append(change["scale"])
    # From the largest to the smallest, each scale after how many pixels there are.
    assert shapes == sorted(shapes, reverse=True)
    for shape, step in zip(shapes, steps, strict=True):
        whole = np.multiply(shape, step)
        np.testing.assert_allclose(whole, np.multiply(shapes[0], steps[0]))
    return shapes


def check_label(folder: Path, version: str, values: np.ndarray) -> dict[str, Any]:
    """Check what the specification says of a label image."""
    label = said(folder, version)["image-label"]
    if version == "0.4":
        assert label["version"] == "0.4"
    assert (folder / label["source"]["image"]).resolve() == folder.parents[1].resolve()
    for key in ("colors", "properties"):
        marked = [each["label-value"] for each in label.get(key, ())]
        assert all(type(each) is int for each in marked)
        assert len(set(marked)) == len(marked)
    for each in label.get("colors", ()):
        assert len(each["rgba"]) == 4
        assert all(type(part) is int and 0 <= part <= 255 for part in each["rgba"])
    np.testing.assert_array_equal(zarr.open_array(folder / "0", mode="r")[...], values)
    return label


@pytest.mark.parametrize("key", VERSIONS)
@pytest.mark.parametrize("shape", [(700, 1100), (2, 40, 600), (2, 3, 20, 30)])
def test_what_the_specification_requires(tmp_path, key, shape):
    content = blocks(shape)
    number, version = VERSIONS[key]
    folder = tmp_path / "a.zarr"
    written = write(folder, content, format=key)
    assert written == [folder / "labels" / name for name in ("classes", "objects")]
    assert zarr.open_group(folder, mode="r").metadata.zarr_format == number
    assert said(folder / "labels", version)["labels"] == ["classes", "objects"]
    shapes = check_multiscales(folder, version)
    for path, values in zip(written, (content.labels, content.ids), strict=True):
        assert check_multiscales(path, version) == shapes
        label = check_label(path, version, values)
        names = {each["label-value"]: each["class"] for each in label["properties"]}
        if path.name == "classes":
            assert names == dict(enumerate(content.classes))
            assert label["colors"][0]["rgba"][3] == 0
        else:
            assert names == {
                n: content.classes[c]
                for n, c in zip((1, 2, 3, 4, 60000), (1, 2, 1, 2, 1), strict=True)
            }
    assert shapes[0] == shape
    assert max(shapes[-1][-2:]) <= 512
    assert len(shapes) == (3 if shape == (700, 1100) else 2 if shape[-1] == 600 else 1)


def test_smaller_levels_hold_ids_that_are_there(tmp_path):
    content = Exchanged(None, np.arange(600 * 700, dtype=np.uint32).reshape(600, 700))
    write(tmp_path / "a.zarr", content)
    group = zarr.open_group(tmp_path / "a.zarr" / "labels" / "objects", mode="r")
    smaller = group["1"][...]
    assert smaller.shape == (300, 350)
    rows, columns = np.divmod(smaller.astype(int), 700)
    assert (abs(rows - np.arange(300)[:, None] * 2 - 0.5) <= 1).all()
    assert (abs(columns - np.arange(350) * 2 - 0.5) <= 1).all()


def make_image(folder: Path, version: int, consolidated: bool = False) -> None:
    """Make an image of two channels and three levels, and one more folder."""
    root = zarr.open_group(folder, mode="w", zarr_format=version)
    scale = {
        "name": "cells",
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        "datasets": [],
    }
    shape = (90, 70)
    for level in range(3):
        sides = tuple(-(-n // 2**level) for n in shape)
        array = root.create_array(f"s{level}", shape=(2, *sides), dtype="uint16")
        array[...] = level + 1
        changes = [{"type": "scale", "scale": [1, 0.5 * 2**level, 0.5 * 2**level]}]
        if level:
            changes += [{"type": "translation", "translation": [0, level, level]}]
        entry = {"path": f"s{level}", "coordinateTransformations": changes}
        scale["datasets"].append(entry)
    if version == 3:
        root.attrs["ome"] = {"version": "0.5", "multiscales": [scale]}
    else:
        root.attrs["multiscales"] = [{"version": "0.4", **scale}]
    if consolidated:
        zarr.consolidate_metadata(folder)


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "labels" not in path.parts
    }


@pytest.mark.parametrize("version", [2, 3])
def test_labels_of_an_image_leave_it_as_it_is(tmp_path, version):
    folder = tmp_path / "a.zarr"
    make_image(folder, version)
    before = files(folder)
    content = blocks((90, 70))
    write(folder / "labels" / "mine", content, kind="objects")
    write(folder, content)
    write(folder, content, kind="classes")
    assert files(folder) == before
    told = {2: "0.4", 3: "0.5"}[version]
    assert said(folder / "labels", told)["labels"] == ["mine", "classes", "objects"]
    assert sorted(
        path.name for path in (folder / "labels").iterdir() if path.is_dir()
    ) == [
        "classes",
        "mine",
        "objects",
    ]
    label = folder / "labels" / "mine"
    check_label(label, told, content.ids)
    (scale,) = said(label, told)["multiscales"]
    # As many levels as the image has, of the same sides and in the same places.
    assert [zarr.open_array(label / str(n), mode="r").shape for n in range(3)] == [
        (90, 70),
        (45, 35),
        (23, 18),
    ]
    assert scale["datasets"][2]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, 2.0]},
        {"type": "translation", "translation": [2, 2]},
    ]
    assert [axis["name"] for axis in scale["axes"]] == ["y", "x"]
    back = read(label)
    np.testing.assert_array_equal(back.ids, content.ids)
    np.testing.assert_array_equal(back.labels, content.labels)
    assert back.pixel_size == 0.5
    with pytest.raises(InputError, match=r"several labels \(mine, classes, objects\)"):
        read(folder)
    with pytest.raises(InputError, match=r"has the shape \(90, 70\)"):
        write(folder, blocks((70, 90)))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_a_summary_of_metadata_tells_of_the_labels(tmp_path, version):
    make_image(tmp_path / "a.zarr", version, consolidated=True)
    write(tmp_path / "a.zarr", blocks((90, 70)))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r", use_consolidated=True)
    assert group["labels/objects/0"].shape == (90, 70)


def test_a_failed_write_keeps_the_old_labels(tmp_path, monkeypatch):
    folder = tmp_path / "a.zarr"
    make_image(folder, 2)
    write(folder, blocks((90, 70)), kind="classes")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(omezarr, "_nearest", fail)
    with pytest.raises(StorageError, match="No space left"):
        write(folder, blocks((90, 70), seed=1))
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "b.zarr", blocks((90, 70)))
    back = read(folder)
    np.testing.assert_array_equal(back.labels, blocks((90, 70)).labels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [
        ".zattrs",
        ".zgroup",
        "classes",
    ]


def test_a_mask_of_predict_can_be_read(tmp_path):
    from napari_seg.cli.omezarr import create_mask

    content = blocks((90, 70))
    with create_mask(
        tmp_path / "a_mask.zarr",
        tmp_path / "a.zarr",
        (90, 70),
        np.uint8,
        calibrated(2),
        3,
        (64, 64),
    ) as array:
        array[...] = content.labels
    check_multiscales(tmp_path / "a_mask.zarr", "0.5")
    back = read(tmp_path / "a_mask.zarr")
    np.testing.assert_array_equal(back.labels, content.labels)
    assert back.pixel_size == 0.5


def test_what_is_there_and_no_image_is_left_alone(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    zarr.open_array(tmp_path / "b.zarr", mode="w", shape=(8, 9), dtype="u1")
    zarr.open_group(tmp_path / "c.zarr", mode="w")
    (tmp_path / "d.zarr").write_text("a file")
    before = files(tmp_path)
    for name in "abcd":
        with pytest.raises(InputError, match="no image"):
            write(tmp_path / f"{name}.zarr", blocks((8, 9)))
    assert files(tmp_path) == before


def test_an_image_is_no_mask(tmp_path):
    make_image(tmp_path / "a.zarr", 2)
    with pytest.raises(InputError, match="2 channels, no mask"):
        read(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(InputError, match=r"b\.zarr"):
        read(tmp_path / "b.zarr")
    with pytest.raises(InputError, match="no folder"):
        read(tmp_path / "c.zarr")


class Lazy:
    """A mask that is not in memory; it knows how many pixels were asked for at once."""

    def __init__(self, values):
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.most = 0

    def __getitem__(self, box):
        part = self._values[box]
        self.most = max(self.most, part.size)
        return part.copy()


@pytest.mark.parametrize("name", ["classes", "objects"])
def test_a_mask_is_never_read_as_a_whole(tmp_path, monkeypatch, name):
    monkeypatch.setattr(omezarr, "_AT_ONCE", 1 << 18)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 1500, 1201), np.uint8)
    lazy = Lazy(labels if name == "classes" else labels.astype(np.uint32))
    parts = {"labels": lazy} if name == "classes" else {"ids": lazy}
    write(tmp_path / "lazy.zarr", Exchanged(**parts))
    assert lazy.most <= 1 << 18
    group = zarr.open_group(str(tmp_path / "lazy.zarr"), mode="r")["labels"][name]
    np.testing.assert_array_equal(group["0"][:], labels)
    half = group["1"][:]
    assert half.shape == (2, 750, 601)
    # The pixel in the middle of those that become one.
    rows, columns = (
        (2 * np.arange(n) + 1) * whole // (2 * n)
        for n, whole in ((750, 1500), (601, 1201))
    )
    np.testing.assert_array_equal(half, labels[:, rows][:, :, columns])
