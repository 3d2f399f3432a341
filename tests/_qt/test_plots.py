"""Small curves, as a person sees them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from napari.utils.theme import get_theme
from qtpy.QtCore import QPointF
from qtpy.QtGui import QColor

from napari_seg._qt.plots import CurvePlot


@pytest.mark.parametrize("last", [0.95, math.nan])
def test_the_legend_covers_no_curve(qtbot, last):
    """Losses fall and held-out Dice rises: either may end at the top or the bottom."""
    plot = CurvePlot("seconds", bounded=False)
    qtbot.addWidget(plot)
    plot.resize(370, plot.height())
    plot.show()
    seconds = np.linspace(0, 240, 50)
    curves = {
        "loss": (seconds, 1.2 * np.exp(-seconds / 50) + 0.2),
        "held-out Dice": (seconds[10:], [0.9] * 39 + [last]),
    }
    plot.set_curves(curves)
    qtbot.waitUntil(lambda: set(plot._curves) == set(curves))
    qtbot.wait(100)
    item = plot._plot.getPlotItem()
    legend = item.legend.sceneBoundingRect()
    for curve in curves.values():
        for x, y in zip(*curve, strict=True):
            if math.isfinite(y):
                assert not legend.contains(item.vb.mapViewToScene(QPointF(x, y)))


def test_the_legend_follows_the_theme(qtbot):
    plot = CurvePlot("strokes", bounded=True)
    qtbot.addWidget(plot)
    plot.set_theme("dark")
    plot.show()
    plot.set_curves({"mean IoU": ([0, 1], [0.5, 1.0])})
    qtbot.waitUntil(lambda: set(plot._curves) == {"mean IoU"})
    ((_, label),) = plot._plot.getPlotItem().legend.items
    for theme in ("light", "dark"):
        plot.set_theme(theme)
        wanted = QColor(get_theme(theme).text.as_hex())
        document = label.item.document()
        found = {
            QColor(part.charFormat().foreground().color()).name()
            for part in _parts(document)
        }
        assert found == {wanted.name()}


def _parts(document):
    """Yield the pieces of the first line of a text."""
    at = document.begin().begin()
    while not at.atEnd():
        yield at.fragment()
        at += 1
