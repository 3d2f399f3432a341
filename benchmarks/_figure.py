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
            for arm, colour in _COLOURS.items():
                if found := arms.get(arm):
                    counts = sorted(found)
                    low, high = ([f(found[n]) for n in counts] for f in (min, max))
                    means = [sum(found[n]) / len(found[n]) for n in counts]
                    line = "-" if arm == "ours" else "--"
                    panel.plot(counts, means, line, color=colour, label=arm)
                    panel.fill_between(counts, low, high, color=colour, alpha=0.12)
            panel.set_xscale("log", base=2)
            panel.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
            panel.set_ylim(0, 1)
            panel.grid(alpha=0.25)
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        figure.supxlabel("accepted windows of 96 × 96 px")
        figure.supylabel("mean Dice on untouched images")
        lines = {
            line.get_label(): line for panel in panels for line in panel.get_lines()
        }
        figure.legend(
            lines.values(), lines.keys(), loc="outside upper center", ncols=len(lines)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
