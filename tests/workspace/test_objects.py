"""Objects of the mask, without a window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk
from tifffile import TiffFile, imread

from napari_seg.objects.numbering import number_objects
from napari_seg.workspace import ImageSource, Workspace
from napari_seg.workspace.exports import EXPORTS, export
from tests.workspace.conftest import Heard


@pytest.fixture
def ready(workspace: Workspace, source: ImageSource) -> Workspace:
    """Return the workspace with a mask of three cells, two of which touch."""
    workspace.set_image(source)
    workspace.predict(None, everything=True)
    assert workspace.session is not None
    labels = workspace.session.mask.labels
    labels[:] = 0
    for place in ((30, 20), (30, 38), (70, 70)):
        labels[disk(place, 11)] = 1
    workspace.edited()
    return workspace


def test_found_and_measured(ready: Workspace, heard: Heard) -> None:
    tables: list[pd.DataFrame] = []
    ready.objects.measured.connect(tables.append)
    assert "Find objects" in ready.objects.measuring_obstacle
    ready.objects.measure()
    ready.objects.find("none")
    assert ready.objects.count == 2
    ready.objects.find("shape")
    assert ready.objects.count == 3
    ready.objects.measure()
    (table,) = tables
    assert list(table["id"]) == [1, 2, 3]
    assert set(table["class"]) == {"nucleus"}
    assert table["area_px"].sum() == np.count_nonzero(ready.objects.ids)
    # All that is painted here is another class than the model says, or the same.
    assert table["corrected_share"].between(0, 1).all()
    assert not heard.failures


def test_nothing_to_find_without_a_mask(workspace: Workspace) -> None:
    assert "no mask" in workspace.objects.obstacle
    workspace.objects.find("shape")
    assert workspace.objects.ids is None


def test_another_image_has_objects_of_its_own(
    ready: Workspace, source: ImageSource
) -> None:
    ready.objects.find("shape")
    ready.set_image(ImageSource("other", np.flip(source.data)))
    assert ready.objects.ids is None


@pytest.mark.parametrize("key", [k for k in EXPORTS if k.startswith(("mask-", "obj"))])
def test_every_format_is_on_offer(ready: Workspace, tmp_path: Path, key: str) -> None:
    ready.objects.find("shape")
    target = tmp_path / f"cells{EXPORTS[key].suffix}"
    assert export(ready, key, target)
    assert target.exists()


def test_objects_carry_their_class_and_the_pixel_size(
    workspace: Workspace, source: ImageSource, ready: Workspace, tmp_path: Path
) -> None:
    ready.objects.find("shape")
    assert export(ready, "objects-geojson", tmp_path / "cells.geojson")
    found: dict[str, Any] = json.loads((tmp_path / "cells.geojson").read_text())
    names = [each["properties"]["classification"]["name"] for each in found["features"]]
    assert names == ["nucleus"] * 3
    assert export(ready, "mask-ome-tiff", tmp_path / "cells.ome.tif")
    with TiffFile(tmp_path / "cells.ome.tif") as file:
        assert file.ome_metadata is not None
    assert ready.session is not None
    np.testing.assert_array_equal(
        imread(tmp_path / "cells.ome.tif"), ready.session.mask.labels
    )


def test_objects_that_were_not_found_are_no_file(
    ready: Workspace, heard: Heard, tmp_path: Path
) -> None:
    assert not export(ready, "objects-coco", tmp_path / "cells.json")
    assert "Find objects" in str(heard.failures[-1])
    assert not (tmp_path / "cells.json").exists()


def test_slices_of_one_cell_are_one_object() -> None:
    stack = np.zeros((2, 3, 60, 80), np.uint8)
    for z in (0, 1):
        stack[0, z][disk((30, 30 + z), 10)] = 1
    stack[0, 2][disk((30, 60), 10)] = 1
    stack[1, 0][disk((30, 30), 10)] = 1
    ids = number_objects(stack, "TZ")
    first, second = ids[0, 0, 30, 30], ids[0, 2, 30, 60]
    assert ids[0, 1, 30, 31] == first
    # Time steps have objects of their own.
    assert sorted(np.unique(ids)) == sorted({0, first, second, ids[1, 0, 30, 30]})
    assert ids.max() == 3
