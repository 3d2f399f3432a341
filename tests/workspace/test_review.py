"""Reviewing by view, object, polygon and plane; labels that no class has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_seg.corrections.ledger import ACCEPTED, Ledger
from napari_seg.errors import InputError
from napari_seg.workspace import ImageSource, View, Workspace
from napari_seg.workspace.areas import find_object, polygon_areas
from napari_seg.workspace.foreign import ForeignLabel, ForeignLabels
from napari_seg.workspace.tasks import run_inline
from tests.workspace.conftest import SIDE, Heard


@pytest.fixture
def ledger(workspace: Workspace, source: ImageSource) -> Ledger:
    """Return the ledger of a flat mask with two objects that touch by a corner."""
    return _begin(workspace, source)


def _begin(workspace: Workspace, source: ImageSource) -> Ledger:
    workspace.set_image(source)
    assert workspace.begin()
    assert workspace.session is not None
    labels = workspace.session.mask.labels
    labels[..., 10:20, 10:20] = 1
    labels[..., 20:30, 20:30] = 1
    labels[..., 60:70, 60:70] = 1
    workspace.edited()
    return workspace.session.mask


def _accepted(ledger: Ledger) -> NDArray[np.bool_]:
    return ledger.state() & ACCEPTED > 0


# By object --------------------------------------------------------------------


def test_an_object_is_what_touches_by_sides_and_corners(
    workspace: Workspace, ledger: Ledger
) -> None:
    assert workspace.review.object_at((), (12.4, 14.6))
    expected = np.zeros(ledger.shape, bool)
    expected[10:20, 10:20] = expected[20:30, 20:30] = True
    np.testing.assert_array_equal(_accepted(ledger), expected)
    assert workspace.review.object_at((), (65, 65))
    assert workspace.review.object_at((), (25, 25), back=True)
    np.testing.assert_array_equal(_accepted(ledger), (ledger.labels == 1) & ~expected)


def test_one_plane_of_a_stack(workspace: Workspace, image: NDArray[np.uint16]) -> None:
    ledger = _begin(workspace, ImageSource("stack", np.stack([image] * 3)))
    assert workspace.review.object_at((1,), (12, 12))
    assert workspace.review.polygon((2,), [(50, 50), (50, 80), (80, 80)])
    accepted = _accepted(ledger)
    assert [bool(plane.any()) for plane in accepted] == [False, True, True]
    assert accepted[1].sum() == 200
    assert workspace.review.plane_obstacle() == ""
    assert workspace.review.plane((0,))
    assert _accepted(ledger)[0].all()
    assert workspace.review.plane((2,), back=True)
    assert not _accepted(ledger)[2].any()


@pytest.mark.parametrize(
    ("point", "words"),
    [((0, 0), "background"), ((-1, 5), "outside"), ((5, SIDE + 3), "outside")],
)
def test_what_is_no_object_is_refused(
    workspace: Workspace,
    ledger: Ledger,
    heard: Heard,
    point: tuple[int, int],
    words: str,
) -> None:
    assert not workspace.review.object_at((), point)
    assert words in heard.told[-1]
    assert "click" in heard.told[-1]
    assert not _accepted(ledger).any()
    assert not heard.failures


def test_a_label_that_no_class_has_is_refused(
    workspace: Workspace, ledger: Ledger, heard: Heard
) -> None:
    ledger.labels[60:70, 60:70] = 7
    assert not workspace.review.object_at((), (65, 65))
    assert "class" in heard.told[-1]
    assert not _accepted(ledger).any()


def test_waiting_edits_belong_to_the_object(
    workspace: Workspace, ledger: Ledger
) -> None:
    def settle() -> None:
        ledger.labels[30:35, 20:30] = 1
        workspace.edited((slice(30, 35), slice(20, 30)))

    workspace.settling.connect(settle)
    assert workspace.review.object_at((), (12, 12))
    workspace.settling.disconnect(settle)
    assert _accepted(ledger)[34, 20]


@pytest.mark.parametrize("seed", range(4))
def test_objects_are_those_of_scipy(seed: int) -> None:
    noise = np.random.default_rng(seed).random((400, 700))
    plane = (ndimage.gaussian_filter(noise, 5) > 0.499).astype(np.uint8)
    labels, n = ndimage.label(plane, np.ones((3, 3)))
    assert n > 3
    for number in range(1, n + 1):
        inside = np.argwhere(labels == number)
        found = find_object(plane, tuple(inside[len(inside) // 2]))
        assert found is not None
        box, mask = found
        whole = np.zeros(plane.shape, bool)
        whole[box] = mask
        np.testing.assert_array_equal(whole, labels == number)


def test_a_small_object_in_a_large_plane_is_found_without_reading_it() -> None:
    class Watched(np.ndarray):
        read = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            part = super().__getitem__(key)
            Watched.read += np.size(part)
            return np.asarray(part)

    plane = np.zeros((8192, 8192), np.uint8)
    plane[4000:4040, 4000:4300] = 1
    assert find_object(plane.view(Watched), (4010, 4290)) is not None
    assert Watched.read < 1 << 20


# By polygon -------------------------------------------------------------------


@pytest.mark.parametrize(
    "vertices",
    [
        [(5.2, 7.1), (5.1, 60.5), (70.3, 90.4), (40.6, 30.2)],
        [(-20.5, -20), (-20.5, 300), (50.5, 300), (90.3, -20)],
        [(10.5, 10.1), (60.5, 60.3), (10.2, 60.7), (60.7, 10.4)],
    ],
    ids=["odd", "beyond the image", "crossing itself"],
)
def test_a_polygon_accepts_its_inside(
    workspace: Workspace, ledger: Ledger, vertices: list[tuple[float, float]]
) -> None:
    assert workspace.review.polygon((), vertices)
    expected = polygon2mask(ledger.shape, vertices)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(_accepted(ledger), expected)
    assert workspace.review.polygon((), vertices, back=True)
    assert not _accepted(ledger).any()


def test_large_polygons_are_done_in_bands() -> None:
    vertices = [(99.37, 201.2), (103.1, 2911.7), (2907.3, 2503.9), (2001.6, 97.4)]
    whole = np.zeros((3000, 3000), bool)
    areas = polygon_areas(vertices, whole.shape)
    assert len(areas) > 1
    for box, mask in areas:
        whole[box] = mask
    np.testing.assert_array_equal(whole, polygon2mask(whole.shape, vertices))


def test_polygons_side_by_side_share_no_pixel() -> None:
    corners = [(0, 0), (0, 30), (40, 30), (40, 0)]
    middle = (20, 10)
    counts = np.zeros((41, 31), int)
    for first, second in itertools.pairwise([*corners, corners[0]]):
        for box, mask in polygon_areas([first, second, middle], counts.shape):
            counts[box] += mask
    assert counts.max() == 1
    assert counts.sum() == 40 * 30


@pytest.mark.parametrize(
    "vertices", [[(5, 5), (9, 9)], [(-9, -9), (-9, -5), (-5, -5)], []]
)
def test_polygons_without_pixels_are_refused(
    workspace: Workspace,
    ledger: Ledger,
    heard: Heard,
    vertices: list[tuple[float, float]],
) -> None:
    assert not workspace.review.polygon((), vertices)
    assert "three corners" in heard.told[-1]
    assert not _accepted(ledger).any()


# Everything, and what is told -------------------------------------------------


def test_everything_and_back(
    workspace: Workspace, ledger: Ledger, heard: Heard
) -> None:
    assert workspace.review.everything()
    assert ledger.reviewed_fraction == 1
    assert "everything" in workspace.review.plane_obstacle()
    assert workspace.review.everything(back=True)
    assert ledger.accepted_pixels == 0
    assert ledger.corrected_pixels == (ledger.labels == 1).sum()
    assert not heard.failures


def test_the_changed_box_is_told_and_nothing_is_recorded_twice(
    workspace: Workspace, ledger: Ledger
) -> None:
    boxes = []
    workspace.review.changed.connect(boxes.append)
    session = workspace.session
    assert session is not None
    assert workspace.review.object_at((), (65, 65))
    assert boxes == [(slice(60, 70), slice(60, 70))]
    assert session.flush(10)
    assert workspace.review.object_at((), (65, 65))
    assert session.pending == 0
    assert len(boxes) == 1


@pytest.fixture
def large(workspace: Workspace) -> Ledger:
    """Return the ledger of a mask that is not accepted at once."""
    workspace.set_image(ImageSource("large", np.zeros((2400, 2400), np.uint8)))
    workspace.review.at_once = False
    assert workspace.begin()
    assert workspace.session is not None
    return workspace.session.mask


def test_a_large_part_is_accepted_in_steps(workspace: Workspace, large: Ledger) -> None:
    waiting, reviewed = [], []
    workspace.review.waiting.connect(lambda: waiting.append(1))
    workspace.reviewed.connect(lambda: reviewed.append(large.reviewed_fraction))
    assert workspace.review.everything()
    assert large.reviewed_fraction == 0
    assert waiting
    seen = []
    while workspace.review.step():
        seen.append(large.reviewed_fraction)
    assert len(seen) > 4
    assert seen == sorted(seen)
    assert reviewed == [1]
    assert not workspace.review.step()


def test_what_waits_is_done_before_anything_else(
    workspace: Workspace, large: Ledger, again: Workspace
) -> None:
    workspace.review.everything()
    workspace.review.step()
    workspace.review.view(View((), slice(0, 9), slice(0, 9)), back=True)
    assert large.accepted_pixels == large.labels.size - 81
    workspace.review.everything(back=True)
    workspace.review.step()
    data = workspace.source.data if workspace.source else None
    workspace.close()
    again.set_image(ImageSource("large", data))
    assert again.begin()
    assert again.session is not None
    assert again.session.mask.accepted_pixels == 0


def test_without_a_mask_nothing_is_taken_back(workspace: Workspace) -> None:
    assert not workspace.review.everything()
    assert not workspace.review.everything(back=True)
    assert not workspace.review.object_at((), (5, 5))
    assert not workspace.review.polygon((), [(0, 0), (0, 9), (9, 9)])
    assert workspace.review.plane_obstacle() == ""


@pytest.fixture
def again(user_home: Path, model_file: Path) -> Iterator[Workspace]:
    workspace = Workspace(run_inline)
    workspace.open_model(model_file)
    yield workspace
    workspace.close()


def test_what_was_accepted_is_there_again(
    workspace: Workspace, ledger: Ledger, source: ImageSource, again: Workspace
) -> None:
    workspace.review.object_at((), (12, 12))
    workspace.review.polygon((), [(50, 50), (50, 80), (80, 80)])
    workspace.review.view(View((), slice(0, 5), slice(0, 9)))
    accepted = _accepted(ledger)
    workspace.close()
    again.set_image(ImageSource("plate", source.data.copy()))
    assert again.begin()
    assert again.session is not None
    np.testing.assert_array_equal(_accepted(again.session.mask), accepted)


# Labels that no class has -----------------------------------------------------


def _paint(workspace: Workspace, label: int, *where: slice) -> None:
    assert workspace.session is not None
    workspace.session.mask.labels[where] = label
    workspace.edited(where)


def test_a_label_without_a_class_is_neither_scored_nor_learned_from(
    workspace: Workspace, ledger: Ledger
) -> None:
    foreign = ForeignLabels(workspace)
    assert foreign.first() is None
    before = ledger.scores().pixels
    _paint(workspace, 7, slice(0, 5), slice(0, 8))
    _paint(workspace, 3, slice(40, 42), slice(0, 8))
    assert foreign.first() == ForeignLabel(3, 16, ("class 2",))
    assert ledger.scores().pixels <= before
    assert not np.isin(ledger.truth(), (3, 7)).any()


def test_a_mistake_gets_back_what_the_model_said(
    workspace: Workspace, ledger: Ledger, heard: Heard, source: ImageSource
) -> None:
    ledger.predicted(None, np.ones(ledger.shape, np.uint8))
    labels = ledger.labels.copy()
    _paint(workspace, 3, slice(0, 50), slice(0, 50))
    _paint(workspace, 0, slice(80, 90), slice(0, 50))
    labels[80:90, :50] = 0
    labels[:50, :50] = 1
    ForeignLabels(workspace).take_back(3)
    np.testing.assert_array_equal(ledger.labels, labels)
    assert heard.boxes[-1] == (slice(0, 50), slice(0, 50))
    assert ForeignLabels(workspace).first() is None
    session = workspace.session
    assert session is not None
    assert session.flush(10)
    workspace.close()
    workspace.set_image(source)
    assert workspace.begin()
    assert workspace.session is not None
    saved = workspace.session.mask.labels
    np.testing.assert_array_equal(saved[:50, :50], labels[:50, :50])


def test_where_no_model_has_spoken_a_mistake_becomes_background(
    workspace: Workspace, ledger: Ledger
) -> None:
    assert (ledger.reference == 255).all()
    _paint(workspace, 9, slice(0, 50), slice(0, 50))
    ForeignLabels(workspace).take_back(9)
    assert not ledger.labels[:50, :50].any()


@pytest.mark.parametrize("name", ["", "  ", "nucleus", "class 2"])
def test_a_bad_name_adds_no_class(
    workspace: Workspace, ledger: Ledger, heard: Heard, name: str
) -> None:
    _paint(workspace, 3, slice(0, 5), slice(0, 8))
    assert not ForeignLabels(workspace).adopt(3, name)
    assert [type(error) for error in heard.failures] == [InputError]
    assert ledger.n_classes == 2
    assert ForeignLabels(workspace).adopt(3, " rim ")
    assert workspace.session is not None
    assert workspace.session.classes == ["background", "nucleus", "class 2", "rim"]
    assert (ledger.truth() == 3).sum() == 40
