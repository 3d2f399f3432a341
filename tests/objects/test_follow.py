"""Objects keep their numbers while somebody edits the mask."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.draw import disk, line
from skimage.measure import label

from napari_seg.objects.connected import label_objects
from napari_seg.objects.follow import Renumbered, follow, is_object, reconcile
from napari_seg.objects.numbering import number_objects
from napari_seg.scoring.regions import changed_box

SIDE = 24


def edit(
    ids: NDArray[np.uint32],
    labels: NDArray[np.uint8],
    new: NDArray[np.uint8],
    last: int,
    leading: str = "",
) -> Renumbered:
    """Make the mask `new`, and follow."""
    whole = tuple(slice(0, n) for n in labels.shape)
    box = changed_box(labels != new, whole) or tuple(slice(0, 0) for _ in labels.shape)
    before = labels[box].copy()
    labels[:] = new
    return follow(ids, labels, box, before, last, leading)


Dab = tuple[tuple[int, int], tuple[int, int], int]
_dab = st.tuples(
    st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([0, 0, 1, 1, 2, 255]),
)


def painted(labels: NDArray[np.uint8], dabs: list[Dab]) -> NDArray[np.uint8]:
    new = labels.copy()
    for (y, x), (height, width), value in dabs:
        new[..., y : y + height, x : x + width] = value
    return new


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_dab, max_size=6),
    st.lists(st.lists(_dab, min_size=1, max_size=2), max_size=5),
)
def test_invariants(first: list[Dab], strokes: list[list[Dab]]) -> None:
    labels = painted(np.zeros((SIDE, SIDE), np.uint8), first)
    ids, last = label_objects(np.where(labels == 255, 0, labels), "")
    ever = set(range(last + 1))
    for stroke in strokes:
        new = painted(labels, stroke)
        before, changed = ids.copy(), labels != new
        done = edit(ids, labels, new, last)
        np.testing.assert_array_equal(ids > 0, is_object(labels))
        touched = set(before[changed].tolist())
        for number in set(before.ravel().tolist()) - touched - {0}:
            assert (ids[before == number] == number).all(), "nobody touched it"
        given_now = set(ids.ravel().tolist()) - set(before.ravel().tolist())
        assert not given_now & ever, "a number was given twice"
        assert done.last == max(last, *given_now, 0)
        last, ever = done.last, ever | given_now
        parts = label(ids, connectivity=2)
        assert len(np.unique(parts)) == len(np.unique(ids)), "a number for two parts"
        for number in np.unique(ids[ids > 0]):
            assert len(np.unique(labels[ids == number])) == 1
        # What is told of the change takes it back.
        ids_back = ids.copy()
        ids_back.reshape(-1)[done.where] = done.before
        np.testing.assert_array_equal(ids_back, before)


def test_only_what_is_near_is_looked_at() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[10:20, 10:20] = labels[40:50, 40:50] = 1
    ids, last = label_objects(labels, "")
    ids[40:50, 40:50] = 0
    new = labels.copy()
    new[15:25, 15:25] = 1
    edit(ids, labels, new, last)
    assert ids[22, 22] == ids[12, 12] == 1
    assert not ids[40:50, 40:50].any(), "it lies far from the edit"


def two_nuclei() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    labels = np.zeros((60, 80), np.uint8)
    for centre in ((30, 20), (30, 40)):
        labels[disk(centre, 11)] = 1
    ids = number_objects(labels, "")
    assert ids.max() == 2
    return labels, ids


def test_paint_between_two_goes_to_the_nearer() -> None:
    labels = np.zeros((20, 60), np.uint8)
    labels[5:15, 5:15] = labels[5:15, 45:55] = 1
    ids, last = label_objects(labels, "")
    new = labels.copy()
    new[9:12, 15:45] = 1
    edit(ids, labels, new, last)
    assert (ids[9:12, 15:30] == 1).all()
    assert (ids[9:12, 30:45] == 2).all()


def test_the_larger_part_of_a_cut_keeps_the_number() -> None:
    labels, ids = two_nuclei()
    new = labels.copy()
    new[:, 15:17] = 0
    done = edit(ids, labels, new, 2)
    assert done.last == 3
    assert set(np.unique(ids[:, :15])) == {0, 3}
    assert ids[30, 25] == 1
    assert ids[30, 45] == 2, "its border is another object's, not a cut"


def test_an_object_of_several_parts_stays_one() -> None:
    labels = np.zeros((20, 60), np.uint8)
    labels[5:15, 5:15] = labels[5:15, 45:55] = 1
    # Merged by a person, though they do not touch.
    ids = np.where(labels > 0, 1, 0).astype(np.uint32)
    new = labels.copy()
    new[5:7] = 0
    edit(ids, labels, new, 1)
    assert set(np.unique(ids)) == {0, 1}
    new = labels.copy()
    new[:, 8] = 0
    edit(ids, labels, new, 1)
    assert ids[10, 50] == ids[10, 12] == 1
    assert ids[10, 6] == 2


def test_an_object_of_another_class_is_still_that_object() -> None:
    labels, ids = two_nuclei()
    new = np.where(ids == 1, 2, labels).astype(np.uint8)
    before = ids.copy()
    assert edit(ids, labels, new, 2).last == 2
    np.testing.assert_array_equal(ids, before)


def test_slices_go_on_with_each_other() -> None:
    labels = np.zeros((3, 40, 60), np.uint8)
    for z in (0, 2):
        labels[z][disk((20, 20), 9)] = 1
        labels[z][disk((20, 45), 6)] = 1
    ids = number_objects(labels, "Z")
    last = int(ids.max())
    first = ids[0, 20, 20]
    new = labels.copy()
    new[1][disk((20, 22), 7)] = 1
    new[1][5:8, 50:55] = 1
    done = edit(ids, labels, new, last, "Z")
    assert ids[1, 20, 22] == first
    assert ids[1, 6, 52] == done.last == last + 1
    # Of two parts over one object only one goes on with it.
    new = labels.copy()
    new[1, :, 20] = 0
    edit(ids, labels, new, last + 1, "Z")
    assert ids[1, 20, 25] == first
    assert ids[1, 20, 17] == ids[2, 20, 17] != first
    new[1, 26:] = 0
    new[1, 23] = 0
    edit(ids, labels, new, last + 1, "Z")
    assert last + 2 in ids[1, 20:30, 20:30]


def test_time_steps_have_objects_of_their_own() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 5:15, 5:15] = 1
    ids, last = label_objects(labels, "T")
    new = labels.copy()
    new[1, 5:15, 5:15] = 1
    edit(ids, labels, new, last, "T")
    assert ids[1, 10, 10] == 2


def test_a_cut_through_a_long_object_is_found_far_from_it() -> None:
    labels = np.zeros((300, 300), np.uint8)
    labels[20:40, 20:280] = labels[260:280, 20:280] = 1
    labels[20:280, 20:40] = 1
    ids, last = label_objects(labels, "")
    ring = labels.copy()
    ring[20:280, 260:280] = 1
    edit(ids, labels, ring, last)
    assert set(np.unique(ids)) == {0, 1}
    # A ring that is cut once is still one object.
    new = labels.copy()
    new[150:153] = np.where(np.arange(300) < 100, 0, new[150:153])
    edit(ids, labels, new, last)
    assert set(np.unique(ids)) == {0, 1}
    new = labels.copy()
    rows, columns = line(140, 255, 140, 285)
    new[rows, columns] = 0
    edit(ids, labels, new, last)
    assert set(np.unique(ids)) == {0, 1, 2}


def test_a_mask_that_was_edited_elsewhere() -> None:
    labels, ids = two_nuclei()
    labels[20:40, 20] = 0
    labels[2:8, 60:70] = 1
    labels[50, 70:73] = 1
    done = reconcile(ids, labels, 2)
    assert set(np.unique(ids[2:8, 60:70])) == {done.last}
    assert not ids[50, 70:73].any(), "specks have no number"
    assert not ids[20:40, 20].any()
    assert not len(reconcile(ids, labels, done.last).where)
