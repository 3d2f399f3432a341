"""Objects as ROIs of ImageJ: a zip of .roi files, or one of these.

A ROI along the borders of pixels covers the same pixels in ImageJ.  Objects with
holes or of several parts are composite ROIs, whose inside follows the even-odd rule.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_seg.errors import InputError
from napari_seg.exchange import jsonfile
from napari_seg.exchange.borders import Outline
from napari_seg.exchange.exchanged import Exchanged, Hints, Kind
from napari_seg.exchange.filling import as_ring
from napari_seg.exchange.objects import (
    Found,
    number_in,
    objects_in,
    polygons_area,
    put_together,
)

__all__ = ["read", "write"]

_MOST_ENTRIES = 2**20
_ENTRY_BYTES = 2**26
_MOST_BYTES = 2**30
# ImageJ keeps corners in 16 bits unless it is told of numbers with a fraction.
_MOST_WHOLE = 2**15
_MOVE, _LINE, _CLOSE = 0, 1, 4


def _roifile() -> Any:
    if find_spec("roifile") is None:
        raise InputError(
            'ROIs of ImageJ need roifile: pip install "napari-seg[exchange]".'
        )
    import roifile

    return roifile


def write(path: Path, content: Exchanged, kind: Kind | None = None) -> list[Path]:
    """Write the objects of an image, named by number and class ("12 nucleus").

    Parameters
    ----------
    path : Path
        File to write, a zip.
    content : Exchanged
        What to write.
    kind : str, optional
        The format holds objects, with their classes.
    """
    if path.suffix.lower() == ".roi":
        raise InputError(
            f"{path.name} would hold a single object; write all into a .zip."
        )
    library, names, axes = _roifile(), content.names(), content.axes[:-2]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for plane, outline, class_id, _ in objects_in(content):
            roi = _roi(library, outline)
            what = "" if class_id is None else f" {names[class_id]}"
            roi.name = f"{outline.number}{what}"
            _place(roi, dict(zip(axes, plane, strict=True)))
            where = "".join(f"-{index + 1:04d}" for index in plane)
            # ImageJ shows the name of the entry; slashes would be folders.
            entry = re.sub(r"[\\/:]", "_", roi.name) + where
            archive.writestr(f"{entry}.roi", roi.tobytes())
    return jsonfile.save_bytes(path, file.getbuffer())


def _roi(library: Any, outline: Outline) -> Any:
    rings = [ring for rings in outline.polygons for ring in rings]
    corners = np.concatenate(rings)
    wide = corners.max() >= _MOST_WHOLE
    if len(rings) == 1:
        roi = library.ImagejRoi.frompoints(corners.astype(float) if wide else corners)
        roi.roitype = library.ROI_TYPE.POLYGON
        return roi
    path = np.concatenate([_path(ring) for ring in rings])
    roi = library.ImagejRoi()
    roi.roitype = library.ROI_TYPE.RECT
    roi.shape_roi_size = len(path)
    roi.multi_coordinates = path
    (roi.left, roi.top), (roi.right, roi.bottom) = (
        np.minimum(corner, 2**16 - 1).tolist()
        for corner in (corners.min(axis=0), corners.max(axis=0))
    )
    return roi


def _path(ring: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a ring as steps of a path."""
    steps = np.full((len(ring), 3), _LINE, np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.ravel(), np.float32(_CLOSE))


def _place(roi: Any, plane: dict[str, int]) -> None:
    """Say in which plane of a stack a ROI is; ImageJ counts from 1."""
    if len(plane) == 1:
        roi.position = next(iter(plane.values())) + 1
    elif plane:
        roi.c_position = 1
        roi.z_position, roi.t_position = plane["Z"] + 1, plane["T"] + 1


def read(path: Path, hints: Hints) -> Exchanged:
    """Read ROIs; all need to be areas.

    Parameters
    ----------
    path : Path
        The file.
    hints : Hints
        What is known beside it; the shape is needed.

    Raises
    ------
    InputError
        If it is damaged, or does not fit the image.
    """
    library = _roifile()
    leading = len(hints.shape or ()) - 2
    if zipfile.is_zipfile(path):
        entries = _entries(path)
    elif path.stat().st_size <= _ENTRY_BYTES:
        entries = [(path.stem, path.read_bytes())]
    else:
        entries = [("", b"")]
    found = [_found(library, name, data, leading) for name, data in entries]
    if any(each.number is None for each in found):
        # Numbers in some of the names only are no numbers of objects.
        found = [Found(each.area, None, None, each.plane) for each in found]
    return put_together(found, hints)


def _entries(path: Path) -> list[tuple[str, bytes]]:
    """Return names and content of the ROIs in a zip; nothing is unpacked to disk."""
    with zipfile.ZipFile(path) as archive:
        entries = [
            entry for entry in archive.infolist() if entry.filename.endswith(".roi")
        ]
        size = sum(entry.file_size for entry in entries)
        largest = max((entry.file_size for entry in entries), default=0)
        many = len(entries) > _MOST_ENTRIES
        if many or size > _MOST_BYTES or largest > _ENTRY_BYTES:
            raise InputError(
                f"The zip claims {len(entries):,} ROIs of {size / 2**20:,.0f} MB; up "
                f"to {_MOST_ENTRIES:,} of 1 GB in all, 64 MB each, can be read."
            )
        # Without any entry it is of an image without objects.
        if not entries and archive.namelist():
            raise InputError("There is no .roi in the zip; save ROIs in ImageJ.")
        found = []
        for entry in entries:
            with archive.open(entry) as file:
                # No more than what it claims, whatever is in there.
                found.append((Path(entry.filename).stem, file.read(entry.file_size)))
        return found


def _found(library: Any, entry: str, data: bytes, leading: int) -> Found:
    try:
        _check_sizes(data)
        roi = library.ImagejRoi.frombytes(data)
        rings = _rings(library, roi, entry)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The ROI {entry!r} is damaged ({error}); save the ROIs anew."
        ) from error
    number, _, name = (roi.name or entry).partition(" ")
    area = polygons_area([rings], f"The ROI {entry!r}")
    return Found(area, number_in(number), name or None, _plane(roi, leading))


def _check_sizes(data: bytes) -> None:
    """Refuse a ROI that claims more corners than it has bytes for."""
    if len(data) < 64 or data[:4] != b"Iout":
        raise InputError("An entry is no ROI of ImageJ; save the ROIs anew.")
    count, more, shape = (
        *struct.unpack(">H", data[16:18]),
        *struct.unpack(">i", data[18:22]),
        *struct.unpack(">i", data[36:40]),
    )
    if count == 0 and data[6] in (0, 7, 8):
        count = more
    if shape < 0 or 4 * max(count, shape) > len(data):
        raise InputError(
            "A ROI claims more corners than the file has; save the ROIs anew."
        )


def _rings(library: Any, roi: Any, entry: str) -> list[NDArray[np.float64]]:
    kinds = library.ROI_TYPE
    areas = (kinds.POLYGON, kinds.RECT, kinds.OVAL, kinds.FREEHAND, kinds.TRACED)
    if roi.roitype not in areas or roi.subtype != library.ROI_SUBTYPE.UNDEFINED:
        raise InputError(
            f"The ROI {entry!r} is a {roi.roitype.name.lower()}, not a plain area; "
            "rectangles, ovals, polygons, freehand and composite ROIs can be read."
        )
    return [as_ring(ring) for ring in roi.coordinates(multi=True) if len(ring) > 2]


def _plane(roi: Any, leading: int) -> tuple[int, ...]:
    if leading == 1 and max(roi.position, roi.z_position, roi.t_position) > 0:
        return (max(roi.position, roi.z_position, roi.t_position) - 1,)
    if leading == 2 and max(roi.z_position, roi.t_position) > 0:
        return (max(roi.t_position, 1) - 1, max(roi.z_position, 1) - 1)
    return ()
