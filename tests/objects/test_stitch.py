"""Objects of slices become objects of the volume, and of one slice never one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from napari_seg.errors import InputError, LabelsError
from napari_seg.objects.stitch import stitch_iter, stitch_slices


def stack(*rows: str) -> np.ndarray:
    """Return slices of one row each: a digit is an id, anything else no object."""
    return np.array([[[int(c) if c.isdigit() else 0 for c in row]] for row in rows])


def as_rows(ids: np.ndarray) -> list[str]:
    return ["".join(str(i) if i else "." for i in each[0]) for each in ids]


def test_an_object_keeps_its_id_from_slice_to_slice():
    found = stitch_slices(stack("77...33..", ".55..33..", "..2..4444"))
    assert as_rows(found) == ["22...11..", ".22..11..", "..2..1111"]
    assert found.dtype == np.uint32


def test_ids_count_from_one_in_order_of_first_slices():
    found = stitch_slices(stack(".........", "99..1....", "99..1.555"))
    assert as_rows(found) == [".........", "22..1....", "22..1.333"]


def test_two_of_one_slice_stay_two_where_one_lies_above_both():
    found = stitch_slices(stack("11111111", "22222.33"))
    assert as_rows(found) == ["11111111", "11111.22"]
    found = stitch_slices(stack("22222.33", "11111111"))
    assert as_rows(found) == ["11111.22", "11111111"]


def test_what_begins_small_belongs_to_what_it_lies_in():
    small = stack("...1....", "22222222", "....3...")
    assert as_rows(stitch_slices(small)) == ["...1....", "11111111", "....1..."]
    apart = stitch_slices(small, inside=None)
    assert as_rows(apart) == ["...1....", "22222222", "....3..."]


def test_touching_by_a_corner_is_not_enough():
    assert as_rows(stitch_slices(stack("1111....", "...22222"))) == [
        "1111....",
        "...22222",
    ]


def test_a_gap_is_bridged_if_wanted_and_stays_empty():
    missing = stack("11..222", "....222", "33..222")
    assert as_rows(stitch_slices(missing))[2] == "33..222"
    assert as_rows(stitch_slices(missing, gap=1)) == ["11..222", "....222", "11..222"]
    # Of two slices it is no more.
    longer = stack("11", "..", "..", "33")
    assert as_rows(stitch_slices(longer, gap=1))[3] == "22"
    # And what went on has not ended.
    split = stack("111111", "11....", "2..333")
    assert as_rows(stitch_slices(split, gap=1))[2] == "1..222"


def random_slices(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blobs = rng.random((5, 12, 12))
    return np.stack([label(each > 0.55, connectivity=1) for each in blobs])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), gap=st.sampled_from([0, 1]))
def test_each_slice_keeps_its_objects(seed, gap):
    """The same pixels, one id for each, and none twice; whatever ids they had."""
    ids = random_slices(seed)
    found = stitch_slices(ids, iou=0.1, inside=0.4, gap=gap)
    for before, after in zip(ids, found, strict=True):
        pairs = set(zip(before.ravel().tolist(), after.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(before)) == len(np.unique(after))
        assert ((before == 0) == (after == 0)).all()
    names = np.unique(found[found > 0])
    assert names.tolist() == list(range(1, len(names) + 1))
    # Of the ids within a slice nothing but their order counts.
    renamed = np.where(ids > 0, 2**31 + 7 * ids.astype(np.int64), 0)
    again = stitch_slices(renamed, iou=0.1, inside=0.4, gap=gap)
    assert (again == found).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_comes_later_changes_nothing(seed):
    ids = random_slices(seed)
    whole, part = stitch_slices(ids, gap=1), stitch_slices(ids[:3], gap=1)
    assert (whole[:3] == part).all()


def test_slices_are_read_and_written_one_by_one():
    class Lazy:
        shape = (100, 4, 4)
        read: list[int]

        def __init__(self) -> None:
            self.read = []

        def __getitem__(self, z: int) -> np.ndarray:
            self.read.append(z)
            return np.full((4, 4), z + 1)

    class Out:
        def __init__(self) -> None:
            self.written: list[tuple[int, int]] = []

        def __setitem__(self, z: int, each: np.ndarray) -> None:
            self.written.append((z, len(lazy.read)))
            assert (each == 1).all()

    lazy, out = Lazy(), Out()
    assert stitch_slices(lazy, out=out) is out
    assert out.written == [(z, z + 1) for z in range(100)]


def test_real_nuclei_are_found_again(shared_data):
    import tifffile

    truth = tifffile.imread(shared_data / "embryo_nuclei_3d" / "instances" / "000.tif")
    rng = np.random.default_rng(0)
    names = [np.append(0, rng.permutation(truth.max()) + 1) for _ in truth]
    apart = np.stack([name[each] for name, each in zip(names, truth, strict=True)])
    found = stitch_slices(apart)
    pairs = set(zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(truth)) == len(np.unique(found)) == 9


@pytest.mark.parametrize(
    ("ids", "options", "error", "message"),
    [
        (np.zeros((4, 4), int), {}, LabelsError, r"one stack \(Z, Y, X\)"),
        (np.zeros((2, 4, 4)), {}, LabelsError, "dtype float64"),
        (np.full((2, 4, 4), -1), {}, LabelsError, "start at 0"),
        (np.zeros((2, 4, 4), int), {"iou": 0}, InputError, "iou is 0"),
        (np.zeros((2, 4, 4), int), {"inside": 1.5}, InputError, "inside is 1.5"),
        (np.zeros((2, 4, 4), int), {"gap": 2}, InputError, "0 or 1 slices"),
    ],
)
def test_what_cannot_be_stitched_is_refused(ids, options, error, message):
    with pytest.raises(error, match=message):
        stitch_slices(ids, **options)


def test_slices_of_other_sizes_are_refused():
    slices = [np.zeros((4, 4), int), np.zeros((4, 5), int)]
    with pytest.raises(LabelsError, match="one size"):
        list(stitch_iter(slices))
