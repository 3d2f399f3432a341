"""What the columns of a table of objects mean, in the user's words."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Column", "describe_column"]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    meaning : str
        A sentence; empty for a column that is not known here.
    unit : str
        Such as "px" or "µm²"; empty for what has none.
    """

    meaning: str
    unit: str = ""


_UNITS = {"px": "px", "um": "µm", "um2": "µm²", "um3": "µm³", "vox": "voxels"}
_AXES = {"z": "slice", "y": "row", "x": "column"}

_MEANINGS = {
    "t": "Time step, from 0.",
    "id": "Number of the object in the mask of objects.",
    "class": "Class that most of the object's pixels have.",
    "area": "How much of the image the object covers.",
    "volume": "How much of the stack the object fills.",
    "perimeter": "Length of the outline.",
    "major_axis": "Length of the ellipse with the same spread: the longest extent.",
    "minor_axis": "Width of the ellipse with the same spread: the shortest extent.",
    "eccentricity": "How elongated the object is: 0 is a circle, 1 a line.",
    "solidity": "Share of the convex hull that the object fills: 1 has no dents; "
    "objects that have grown together often lie below 0.9.",
    "mean_confidence": "Mean confidence of the prediction in the object, 0 to 1.",
    "corrected_share": "Share of the object's pixels that you corrected, 0 to 1.",
    "touches_border": "Whether the object reaches the border of the image, and may "
    "be cut off there.",
}
_INTENSITIES = {
    "intensity_mean_": "Mean intensity in the object, in channel {}.",
    "intensity_min_": "Lowest intensity in the object, in channel {}.",
    "intensity_max_": "Highest intensity in the object, in channel {}.",
}


def describe_column(name: str) -> Column:
    """Return meaning and unit of a column of `measure_objects`."""
    for start, meaning in _INTENSITIES.items():
        if name.startswith(start):
            return Column(meaning.format(name.removeprefix(start)))
    if name.startswith("bbox_") and name[5:6] in _AXES and name[6:] in ("0", "1"):
        word = _AXES[name[5]]
        end = f"First {word} of" if name[6] == "0" else f"First {word} behind"
        return Column(f"{end} the object, counted from 0.", "px")
    base, _, suffix = name.rpartition("_")
    if suffix not in _UNITS:
        base, suffix = name, ""
    unit = _UNITS.get(suffix, "")
    if suffix and base in _AXES:
        return Column(f"Centre of the object along {base.upper()}, from 0.", unit)
    return Column(_MEANINGS.get(base, ""), unit)
