"""What the model has predicted already."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_seg.workspace.coverage import Coverage
from napari_seg.workspace.source import View

SHAPE = (300, 500)


def view(rows: slice, columns: slice, index: tuple[int, ...] = ()) -> View:
    return View(index, rows, columns)


def predict(coverage: Coverage, asked: View, pixels: int | None = None) -> None:
    """Predict a view, or so many pixels of it."""
    rows, columns = asked.box
    whole = (rows.stop - rows.start) * (columns.stop - columns.start)
    coverage.begin(asked, 1)
    coverage.add(whole if pixels is None else pixels)
    coverage.end()


@st.composite
def views(draw: st.DrawFn) -> View:
    ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in SHAPE]
    rows, columns = (
        slice(a, max(b, a + 1)) if a < n else slice(n - 1, n)
        for (a, b), n in zip(ends, SHAPE, strict=True)
    )
    return view(rows, columns)


@given(st.lists(views(), max_size=6), views())
def test_what_is_predicted_piece_by_piece_is_complete(
    earlier: list[View], wanted: View
) -> None:
    coverage, seen = Coverage(SHAPE), np.zeros(SHAPE, bool)
    for each in earlier:
        predict(coverage, each)
        seen[each.box] = True
    missing = coverage.missing(wanted)
    if missing is None:
        assert seen[wanted.box].all()
        return
    # It holds every pixel of the view that has never been predicted …
    seen[missing.box] = True
    assert seen[wanted.box].all()
    # … and once it is there, nothing is missing.
    predict(coverage, missing)
    assert coverage.missing(wanted) is None


def test_a_cancelled_prediction_does_not_count() -> None:
    coverage, wanted = Coverage(SHAPE), view(slice(0, 128), slice(0, 128))
    predict(coverage, wanted, pixels=128 * 127)
    assert coverage.missing(wanted) == wanted


@pytest.mark.parametrize("done", [True, False])
def test_everything(done: bool) -> None:
    coverage = Coverage(SHAPE)
    coverage.begin(None, 3)
    coverage.add(3 * 300 * 500 - (not done))
    coverage.end()
    wanted = view(slice(0, 300), slice(0, 500), (2,))
    assert coverage.missing(wanted) == (None if done else wanted)


def test_planes_are_apart() -> None:
    coverage, wanted = Coverage(SHAPE), view(slice(0, 64), slice(0, 64), (1,))
    predict(coverage, wanted)
    assert coverage.missing(wanted) is None
    assert coverage.missing(view(*wanted.box, (2,))) is not None
