"""Small curves, as a person sees them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from qtpy.QtCore import QPointF

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
