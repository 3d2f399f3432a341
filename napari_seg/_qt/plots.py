"""Small curves and histograms in the colours of napari's theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_seg._qt.palette import OKABE_ITO

__all__ = ["CurvePlot", "HistogramPlot"]

#: Milliseconds between two drawings: ten times a second is as fast as eyes follow.
_INTERVAL = 100
_HEIGHT = 136
#: Room for the legend above curves that may end anywhere, as a share of their range.
_HEADROOM = 0.4
_MOST_BINS = 40

Curve = tuple[Sequence[float], Sequence[float]]


class _WholeNumbers(pg.AxisItem):
    """An axis of things that are counted."""

    def tickSpacing(self, low: float, high: float, size: float) -> Any:
        spacings = super().tickSpacing(low, high, size)
        return [each for each in spacings if each[0] >= 1] or [(1, 0)]


class _Plot(QWidget):
    """A small plot that cannot be moved, redrawn at most ten times a second."""

    def __init__(
        self, axes: Mapping[str, pg.AxisItem], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._plot = pg.PlotWidget(axisItems=dict(axes))
        self._plot.setMenuEnabled(False)
        self._plot.setMouseEnabled(False, False)
        self._plot.hideButtons()
        # Else an empty plot counts in thousandths.
        self._plot.getAxis("bottom").enableAutoSIPrefix(False)
        # Half a tick label stands above the highest tick.
        self._plot.getPlotItem().setContentsMargins(0, 8, 8, 2)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL)
        self._timer.timeout.connect(self._draw)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_theme(self, name: str) -> None:
        """Take the colours of one of napari's themes."""
        theme = get_theme(name)
        self._plot.setBackground(theme.background.as_hex())
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(theme.text.as_hex())
            axis.setTextPen(theme.text.as_hex())

    def _draw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self) -> None:
        raise NotImplementedError


class CurvePlot(_Plot):
    """Named curves over a common x axis, redrawn at most ten times a second.

    Parameters
    ----------
    x_label : str
        What the x axis shows.
    bounded : bool
        Whether y runs from 0 to 1; otherwise it fits the data.
    counted : bool
        Whether x counts something, so that its ticks are whole numbers.
    """

    def __init__(
        self,
        x_label: str,
        *,
        bounded: bool,
        counted: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__({"bottom": _WholeNumbers("bottom")} if counted else {}, parent)
        self._plot.setLabel("bottom", x_label)
        # Scores lie high: below them. Others may end anywhere: above them all.
        corner = (4, -4) if bounded else (-4, 4)
        self._plot.addLegend(offset=corner, labelTextSize="8pt", colCount=2)
        if bounded:
            self._plot.setYRange(0, 1, padding=0.02)
        self._bounded = bounded
        self._curves: dict[str, pg.PlotDataItem] = {}
        self._pending: dict[str, Curve] | None = None

    def curves(self) -> dict[str, Curve]:
        """Return what is shown, or about to be."""
        if self._pending is not None:
            return self._pending
        return {name: item.getData() for name, item in self._curves.items()}

    def set_curves(self, curves: Mapping[str, Curve]) -> None:
        """Show these curves, points (x, y) each, soon."""
        self._pending = dict(curves)
        self._draw_soon()

    def set_theme(self, name: str) -> None:
        """Take the colours of one of napari's themes."""
        super().set_theme(name)
        text = get_theme(name).text.as_hex()
        legend: Any = self._plot.getPlotItem().legend
        legend.setLabelTextColor(text)
        for _, label in legend.items:
            # pyqtgraph draws those that are there only when they get their text.
            label.setText(label.text, color=text)

    def _draw(self) -> None:
        curves, self._pending = self._pending or {}, None
        for name in set(self._curves) - set(curves):
            self._plot.removeItem(self._curves.pop(name))
        for name, (x, y) in curves.items():
            if name not in self._curves:
                color = OKABE_ITO[(len(self._curves) + 1) % len(OKABE_ITO)]
                pen = pg.mkPen(color, width=2)
                self._curves[name] = self._plot.plot(pen=pen, name=name)
            self._curves[name].setData(list(x), list(y))
        values = [v for _, y in curves.values() for v in y if math.isfinite(v)]
        if values and not self._bounded:
            low, high = min(values), max(values)
            self._plot.setYRange(low, high + _HEADROOM * (high - low))


class HistogramPlot(_Plot):
    """How often which values occur, redrawn at most ten times a second."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({"left": _WholeNumbers("left")}, parent)
        for side in ("left", "bottom"):
            # The finest ticks are a fence here.
            self._plot.getAxis(side).setStyle(maxTickLevel=1)
        self._values: NDArray[Any] = np.zeros(0)
        self._bars = pg.BarGraphItem(x0=[], x1=[], height=[], brush=OKABE_ITO[1])
        self._plot.addItem(self._bars)

    def values(self) -> NDArray[Any]:
        """Return what is shown, or about to be."""
        return self._values

    def set_values(self, values: NDArray[Any], label: str) -> None:
        """Show these values soon, shape (N,); NaN and infinity are left out."""
        # NumPy warns of histograms of bool.
        self._values = values.astype(np.uint8) if values.dtype == bool else values
        self._plot.setLabel("bottom", label)
        self._draw_soon()

    def set_theme(self, name: str) -> None:
        """Take the colours of one of napari's themes."""
        super().set_theme(name)
        # A seam between bars in the colour of the ground.
        self._bars.setOpts(pen=get_theme(name).background.as_hex())

    def _draw(self) -> None:
        values = self._values[np.isfinite(self._values)]
        counts, edges = np.histogram(values, _bins(values))
        self._bars.setOpts(x0=edges[:-1], x1=edges[1:], height=counts)
        self._plot.setXRange(edges[0], edges[-1], padding=0.02)
        self._plot.setYRange(0, max(int(counts.max()), 1), padding=0.02)


def _bins(values: NDArray[Any]) -> Any:
    """Return a number of bins, or the edges of one for each whole number."""
    if len(values) and np.issubdtype(values.dtype, np.integer):
        low, high = int(values.min()), int(values.max())
        if high - low < _MOST_BINS:
            return np.arange(low, high + 2) - 0.5
    return min(max(math.isqrt(len(values)), 5), _MOST_BINS)
