"""The format of the journal: one checksummed record per change.

A record is, in little-endian order::

    4 bytes   magic "NSJ1"
    uint32    length of the header
    uint32    length of the payload
    uint32    CRC-32 of header and payload
    header    JSON: kind, time (s since 1970), seq, stroke, changed (pixels), region
              [[start, stop], ...], arrays (names), shape, dtype, sizes (bytes of each
              zlib stream)
    payload   two zlib streams, the box before and after the change; each holds
              the arrays one after the other in C order

Values are absolute, so replaying a record twice does no harm.  Reading skips what is
damaged and finds the next whole record.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.corrections.change import Change, Kind, Pixels
from napari_seg.scoring.regions import Box, relative, split

__all__ = [
    "Record",
    "StoredRecord",
    "arrays_of",
    "encode",
    "parts",
    "read_after",
    "read_records",
    "stored_records",
]

_LOG = logging.getLogger(__name__)
_MAGIC = b"NSJ1"
_PREFIX = struct.Struct("<4sIII")
_LIMIT = 1 << 22
"""Pixels in one record; a larger change becomes several."""


@dataclass(frozen=True, eq=False)
class Record:
    """A change, and when it happened.

    Attributes
    ----------
    change : Change
        What happened.
    time : float
        Seconds since 1970.
    seq : int
        Running number within one run of the program.
    stroke : int
        Running number of the stroke that the change is a part of, within one run of
        the program.
    """

    change: Change
    time: float
    seq: int
    stroke: int = 0


@dataclass(frozen=True, eq=False)
class StoredRecord:
    """A whole record as it lies in a file: read only as far as one asks.

    Attributes
    ----------
    data : memoryview
        Its bytes.
    end : int
        Where in the file it ends.
    """

    data: memoryview
    end: int

    @cached_property
    def _header(self) -> dict[str, Any]:
        length = _PREFIX.unpack_from(self.data)[1]
        header: dict[str, Any] = json.loads(bytes(self.data[_PREFIX.size :][:length]))
        return header

    @property
    def kind(self) -> Kind:
        """Who or what did it."""
        kind: Kind = self._header["kind"]
        return kind

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return float(self._header["time"])

    @property
    def seq(self) -> int:
        """Running number within one run of the program."""
        return int(self._header["seq"])

    @property
    def stroke(self) -> int:
        """Running number of the stroke within one run of the program."""
        return int(self._header["stroke"])

    @property
    def region(self) -> Box:
        """The box that holds all changes."""
        return tuple(slice(start, stop) for start, stop in self._header["region"])

    @property
    def changed(self) -> int:
        """Number of pixels that got another label or flag."""
        return int(self._header["changed"])

    def before(self) -> Pixels:
        """Decode the box before the change."""
        return self._pixels(0)

    def after(self) -> Pixels:
        """Decode the box after the change."""
        return self._pixels(1)

    def record(self) -> Record:
        """Decode everything."""
        change = Change(self.kind, self.region, self.before(), self.after())
        return Record(change, self.time, self.seq, self.stroke)

    def _pixels(self, stage: int) -> Pixels:
        header = self._header
        payload = self.data[_PREFIX.size + _PREFIX.unpack_from(self.data)[1] :]
        start = sum(header["sizes"][:stage])
        stream = payload[start : start + header["sizes"][stage]]
        raw = np.frombuffer(zlib.decompress(stream), np.uint8)
        arrays = raw.reshape(len(header["arrays"]), *header["shape"])
        return Pixels(**dict(zip(header["arrays"], arrays, strict=True)))


def parts(change: Change) -> Iterator[Change]:
    """Cut a change into ones that a record can hold."""
    for box in split(change.region, _LIMIT):
        if box == change.region:
            yield change
        else:
            inside = relative(box, change.region)
            before, after = (
                Pixels(**{name: array[inside] for name, array in arrays_of(pixels)})
                for pixels in (change.before, change.after)
            )
            yield Change(change.kind, box, before, after)


def arrays_of(pixels: Pixels) -> list[tuple[str, NDArray[np.uint8]]]:
    """Return the arrays that `pixels` has, with their names."""
    named = [("labels", pixels.labels), ("state", pixels.state)]
    if pixels.reference is not None:
        named.append(("reference", pixels.reference))
    return named


def encode(record: Record) -> bytes:
    """Return the bytes of a record."""
    change = record.change
    # Level 1: masks compress well at any level, and the next stroke waits.
    streams = [
        zlib.compress(b"".join(array.tobytes() for _, array in arrays_of(pixels)), 1)
        for pixels in (change.before, change.after)
    ]
    header = {
        "kind": change.kind,
        "time": record.time,
        "seq": record.seq,
        "stroke": record.stroke,
        "changed": _changed(change.before, change.after),
        "region": [[s.start, s.stop] for s in change.region],
        "arrays": [name for name, _ in arrays_of(change.after)],
        "shape": change.labels.shape,
        "dtype": "uint8",
        "sizes": [len(stream) for stream in streams],
    }
    text, payload = json.dumps(header).encode(), b"".join(streams)
    checksum = zlib.crc32(payload, zlib.crc32(text))
    return _PREFIX.pack(_MAGIC, len(text), len(payload), checksum) + text + payload


def _changed(before: Pixels, after: Pixels) -> int:
    changed = (before.labels != after.labels) | (before.state != after.state)
    return int(np.count_nonzero(changed))


def read_records(path: Path) -> Iterator[Record]:
    """Yield the whole records of a journal file, in the order of writing.

    A torn last record, as a crash leaves it, is passed over; so is any other
    damage, which is logged as a warning.
    """
    return (stored.record() for stored in stored_records(path))


def read_after(path: Path) -> Iterator[tuple[Box, Pixels]]:
    """Yield only the box of each record and its pixels after the change."""
    return ((stored.region, stored.after()) for stored in stored_records(path))


def stored_records(path: Path) -> Iterator[StoredRecord]:
    """Yield what :func:`read_records` does, not decoded yet."""
    data = memoryview(path.read_bytes())
    position = 0
    while position < len(data):
        end = _whole_record(data, position)
        if end is not None:
            yield StoredRecord(data[position:end], end)
            position = end
            continue
        following = _next_record(data, position + 1)
        if following is not None:
            _LOG.warning(
                "%s is damaged from byte %d to %d; what is whole was read.",
                path,
                position,
                following,
            )
        position = len(data) if following is None else following


def _whole_record(data: memoryview, start: int) -> int | None:
    """Return where the record that starts at `start` ends, None if it is not whole."""
    if len(data) - start < _PREFIX.size:
        return None
    magic, header, payload, checksum = _PREFIX.unpack_from(data, start)
    end: int = start + _PREFIX.size + header + payload
    if magic != _MAGIC or end > len(data):
        return None
    return end if zlib.crc32(data[start + _PREFIX.size : end]) == checksum else None


def _next_record(data: memoryview, start: int) -> int | None:
    content = data.obj
    assert isinstance(content, bytes)
    found = content.find(_MAGIC, start)
    while found >= 0:
        if _whole_record(data, found) is not None:
            return found
        found = content.find(_MAGIC, found + 1)
    return None
