from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_seg.inference.agenda import Agenda
from napari_seg.inference.tiling import Tile, meets, plan_tiles

PLANES = [(t, z) for t in range(2) for z in range(3)]
TILES = plan_tiles((100, 130), 32, halo=16, stride=16)


def _halves(tile: Tile) -> list[Tile]:
    rows, columns = tile.core
    middle = (rows.start + rows.stop) // 2
    parts = slice(rows.start, middle), slice(middle, rows.stop)
    return [Tile((part, columns), tile.read) for part in parts]


def test_without_a_look_all_comes_as_given() -> None:
    agenda = Agenda(PLANES, TILES)
    taken = []
    while agenda:
        taken.append(agenda.next())
    assert taken == list(product(PLANES, TILES))


def test_the_shown_plane_first_then_its_neighbours() -> None:
    everywhere = slice(0, 100), slice(0, 130)
    agenda = Agenda([(z,) for z in range(5)], TILES, lambda: ((3,), everywhere))
    planes = []
    while agenda:
        (z,), _ = agenda.next()
        planes.append(z)
    assert list(dict.fromkeys(planes)) == [3, 2, 4, 1, 0]


def test_whoever_moves_on_is_followed() -> None:
    here = [((0, 0), (slice(0, 30), slice(0, 30)))]
    agenda = Agenda(PLANES, TILES, lambda: here[0])
    index, tile = agenda.next()
    assert (index, tile.core[0].start, tile.core[1].start) == ((0, 0), 0, 0)

    here[0] = ((1, 2), (slice(96, 100), slice(128, 130)))
    index, tile = agenda.next()
    assert (index, tile.core[0].stop, tile.core[1].stop) == ((1, 2), 100, 130)
    # What is on the screen is not there yet where somebody looks away for a moment.
    here[0] = None
    assert agenda.next()[0] == (1, 2)


looks = st.lists(
    st.none()
    | st.tuples(
        st.sampled_from(PLANES),
        st.tuples(st.integers(0, 99), st.integers(0, 129)),
    ),
    min_size=1,
    max_size=20,
)


@given(looks, st.integers(0, 2**32 - 1))
def test_each_tile_once_wherever_one_looks(views: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown = [None]
    agenda = Agenda(PLANES, TILES, lambda: shown[0])
    left = {index: list(TILES) for index in PLANES}
    while agenda:
        view = views[int(rng.integers(len(views)))]
        if view is not None:
            (top, along) = view[1]
            shown[0] = view[0], (slice(top, top + 9), slice(along, along + 9))
        index, tile = agenda.next()
        left[index].remove(tile)
        if shown[0] is not None and left[shown[0][0]]:
            assert index == shown[0][0]
        if rng.random() < 0.1:
            parts = _halves(tile) if rng.random() < 0.5 else [tile]
            agenda.give_back([(index, part) for part in parts])
            left[index] += parts
            assert agenda.next() == (index, parts[0])
            left[index].remove(parts[0])
    assert not any(left.values())


def test_visible_tiles_come_first_and_the_others_outwards() -> None:
    view = (slice(900, 1300), slice(300, 700))
    agenda = Agenda([()], plan_tiles((2048, 2048), 256, 32, 16), lambda: ((), view))
    cores = []
    while agenda:
        cores.append(agenda.next()[1].core)

    visible = [meets(core, view) for core in cores]
    assert visible == sorted(visible, reverse=True)
    assert sum(visible) == 6
    assert cores[0] == (slice(1024, 1280), slice(256, 512))
    assert cores[-1] == (slice(0, 256), slice(1792, 2048))


@given(st.integers(1, 9))
def test_batches_have_reads_of_one_shape(most: int) -> None:
    agenda = Agenda(PLANES, TILES)
    taken = []
    while agenda:
        batch = agenda.take(most)
        shapes = {
            tuple(span.stop - span.start for span in tile.read) for _, tile in batch
        }
        assert len(shapes) == 1
        assert 1 <= len(batch) <= most
        taken += batch
    assert taken == list(product(PLANES, TILES))
