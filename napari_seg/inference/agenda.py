"""What is left to compute, in the order in which somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from napari_seg.inference.axes import Box
from napari_seg.inference.tiling import Tile, nearness

__all__ = ["Agenda", "Batch", "Index", "Look"]

#: Position of a plane along the axes that are looped over.
Index: TypeAlias = tuple[int, ...]
#: Tiles that are computed at once, each with its plane.
Batch: TypeAlias = list[tuple[Index, Tile]]
#: Tells the plane and the rows and columns that are on the screen now, if any are.
Look: TypeAlias = Callable[[], tuple[Index, Box] | None]


class Agenda:
    """The tiles of all planes that have not been computed.

    Without a look they come plane by plane, as given. With one, the plane that is on
    the screen comes first and then its neighbours, and of a plane the tiles that are
    on the screen, from their centre outwards; whoever moves on changes the order.

    Parameters
    ----------
    indices : iterable of tuple of int
        The planes.
    tiles : sequence of Tile
        Tiles of each plane.
    look : callable or None
        Asked before each tile.
    """

    def __init__(
        self, indices: Iterable[Index], tiles: Sequence[Tile], look: Look | None = None
    ) -> None:
        # Planes that were not begun share one tuple.
        whole = tuple(tiles)
        self._left: dict[Index, Sequence[Tile]] = {i: whole for i in indices if whole}
        self._look = look
        self._seen: tuple[Index, Box] | None = None
        self._index: Index | None = None
        self._queue: list[Tile] = []

    def __bool__(self) -> bool:
        return bool(self._left)

    def next(self) -> tuple[Index, Tile]:
        """Take the next plane and tile off the agenda, which must not be empty."""
        seen = None if self._look is None else self._look()
        if self._index not in self._left or seen not in (None, self._seen):
            self._seen = seen or self._seen
            self._turn_to(self._nearest_plane())
        assert self._index is not None
        tile = self._queue.pop()
        if not self._queue:
            del self._left[self._index]
        return self._index, tile

    def take(self, most: int) -> Batch:
        """Take up to `most` tiles whose reads have one shape, at least one."""
        batch = [self.next()]
        shape = _read_shape(batch[0][1])
        while self and len(batch) < most:
            index, tile = self.next()
            if _read_shape(tile) != shape:
                self.give_back([(index, tile)])
                break
            batch.append((index, tile))
        return batch

    def give_back(self, batch: Batch) -> None:
        """Compute these next: what was taken, or parts of it."""
        for index, tile in reversed(batch):
            if self._index != index or index not in self._left:
                self._turn_to(index)
            self._queue.append(tile)

    def _nearest_plane(self) -> Index:
        if self._seen is None:
            return next(iter(self._left))
        here = self._seen[0]
        return min(
            self._left,
            key=lambda i: sum(abs(a - b) for a, b in zip(i, here, strict=True)),
        )

    def _turn_to(self, index: Index) -> None:
        tiles = list(self._left.get(index, ()))
        if self._seen is not None:
            box = self._seen[1]
            tiles.sort(key=lambda tile: nearness(tile.core, box))
        # The next one last, where a list gives it up fastest.
        tiles.reverse()
        self._index, self._queue = index, tiles
        self._left[index] = self._queue


def _read_shape(tile: Tile) -> tuple[int, ...]:
    return tuple(span.stop - span.start for span in tile.read)
