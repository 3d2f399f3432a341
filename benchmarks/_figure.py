"""Dice against the number of windows as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["Curves", "draw_curves"]

#: Dice of each draw, by the number of windows, by arm, by kind.
Curves = Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]

#: Okabe & Ito (2008), told apart by the colour-blind too.
_COLOURS = {
    "ours": "#0072B2",
    "plain": "#E69F00",
    "scratch": "#009E73",
    "forest": "#999999",
    "next": "#CC79A7",
    "strokes": "#D55E00",
    "everything": "#000000",
}
_COLUMNS = 4
#: Distance of the arms and of the first and last number from the edge, in octaves and
#: as a factor.
_APART, _MARGIN = 0.12, 1.4


def draw_curves(curves: Curves, path: Path) -> None:
    """Write a panel for each kind, with the mean of the draws and their range."""
    rows = math.ceil(len(curves) / _COLUMNS)
    with mpl.rc_context({"font.size": 8, "svg.fonttype": "none"}):
        figure = Figure((2.4 * _COLUMNS, 2.2 * rows + 0.4), layout="constrained")
        panels = figure.subplots(
            rows, _COLUMNS, sharex=True, sharey=True, squeeze=False
        ).ravel()
        for panel, (kind, arms) in zip(panels, curves.items(), strict=False):
            panel.set_title(kind.replace("_", " "), fontsize=8)
            shown = [arm for arm in _COLOURS if arm in arms]
            for index, arm in enumerate(shown):
                found, counts = arms[arm], sorted(arms[arm])
                means = [sum(found[n]) / len(found[n]) for n in counts]
                below = [m - min(found[n]) for m, n in zip(means, counts, strict=True)]
                above = [max(found[n]) - m for m, n in zip(means, counts, strict=True)]
                # Side by side, so that ranges do not hide each other.
                shift = 2 ** (_APART * (index - (len(shown) - 1) / 2))
                panel.errorbar(
                    [n * shift for n in counts],
                    means,
                    (below, above),
                    fmt="o-" if arm == "ours" else "s--",
                    markersize=3.5,
                    linewidth=1,
                    color=_COLOURS[arm],
                    label=arm,
                )
            panel.set_xscale("log", base=2)
            counts = sorted({n for found in arms.values() for n in found})
            panel.set_xticks(counts, list(map(str, counts)))
            panel.set_xlim(counts[0] / _MARGIN, counts[-1] * _MARGIN)
            panel.minorticks_off()
            panel.set_ylim(0, 1.04)
            panel.tick_params(labelbottom=True)
            panel.grid(alpha=0.25)
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        figure.supxlabel("accepted windows of 96 × 96 px")
        figure.supylabel("mean Dice on untouched images")
        found = [panel.get_legend_handles_labels() for panel in panels]
        handles = {
            label: handle
            for some, labels in found
            for handle, label in zip(some, labels, strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=len(handles),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
