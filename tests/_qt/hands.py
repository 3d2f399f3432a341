"""What a person's hands do: draw on the canvas, press keys, click, choose.

Everything goes through Qt's own events, so a test sees what a user would see, on
every binding that qtpy knows.  Positions on the canvas are data coordinates of the
layer that is worked on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import napari
import numpy as np
from napari.layers import Layer
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QListWidget,
    QWidget,
)

__all__ = [
    "choose",
    "click",
    "click_row",
    "double_click",
    "drag",
    "draw_polygon",
    "move",
    "move_pressed",
    "press",
    "press_button",
    "press_key",
    "release",
    "settle",
    "wait_until",
]

Point = Sequence[float]
Text = str | Callable[[], str]

LEFT = Qt.MouseButton.LeftButton
RIGHT = Qt.MouseButton.RightButton
NO_BUTTON = Qt.MouseButton.NoButton
NO_MODIFIER = Qt.KeyboardModifier.NoModifier
CTRL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
ALT = Qt.KeyboardModifier.AltModifier

_PACE = 0.018
"""Seconds between two moves: vispy drops those within 10 ms, napari holds them 5 ms."""


def settle(seconds: float = 0.03) -> None:
    """Let Qt work through what is waiting, timers included."""
    end = time.perf_counter() + seconds
    while True:
        QApplication.processEvents()
        if time.perf_counter() >= end:
            return
        time.sleep(0.001)


def wait_until(
    condition: Callable[[], object], timeout: float = 10.0, what: Text = ""
) -> None:
    """Let Qt work until `condition` holds.

    Parameters
    ----------
    condition : callable
        Asked after every turn of the event loop.
    timeout : float
        Seconds.
    what : str or callable
        What is waited for, as the failure shall call it, or what tells that then.

    Raises
    ------
    AssertionError
        If it does not hold in time.
    """
    end = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() >= end:
            name = what() if callable(what) else what
            name = name or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{name} did not hold within {timeout:g} s")
        settle(0.005)


def running() -> list[threading.Thread]:
    """Return the threads, but for those that zarr and Python keep for the next time."""
    dummy = threading._DummyThread
    return [
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, dummy)
        and not thread.name.startswith(("asyncio_", "zarr_"))
    ]


# On the canvas ----------------------------------------------------------------


def click(
    viewer: napari.Viewer,
    point: Point,
    modifiers: Qt.KeyboardModifier = NO_MODIFIER,
    *,
    button: Qt.MouseButton = LEFT,
    layer: Layer | None = None,
) -> None:
    """Click on the canvas at `point`, (Y, X) or all axes of the layer."""
    drag(viewer, [point], modifiers, button=button, layer=layer)


def double_click(
    viewer: napari.Viewer, point: Point, *, layer: Layer | None = None
) -> None:
    """Click twice, in the order of events that Qt sends for it."""
    at = _on_canvas(viewer, point, layer)
    click(viewer, point, layer=layer)
    _send(viewer, QEvent.Type.MouseButtonDblClick, at, LEFT, LEFT)
    _send(viewer, QEvent.Type.MouseButtonRelease, at, LEFT, NO_BUTTON)
    settle()


def move(viewer: napari.Viewer, point: Point, *, layer: Layer | None = None) -> None:
    """Move the mouse to `point`, no button pressed."""
    _send(viewer, QEvent.Type.MouseMove, _on_canvas(viewer, point, layer))
    settle(_PACE)


def drag(
    viewer: napari.Viewer,
    points: Sequence[Point],
    modifiers: Qt.KeyboardModifier = NO_MODIFIER,
    *,
    button: Qt.MouseButton = LEFT,
    layer: Layer | None = None,
    between: Callable[[], object] | None = None,
) -> None:
    """Press at the first point, move through the others, release at the last.

    Parameters
    ----------
    viewer : napari.Viewer
        It must be shown.
    points : sequence of (Y, X)
        Data coordinates: those of the displayed axes, or of all axes of the layer.
    modifiers : Qt.KeyboardModifier
        Keys held meanwhile.
    button : Qt.MouseButton
        By default the left one.
    layer : Layer, optional
        Whose coordinates the points are; by default the active layer's.
    between : callable, optional
        Called after every event while the button is down: what happens during the
        stroke, like a tile of a prediction that arrives.
    """
    path = [_on_canvas(viewer, point, layer) for point in points]
    _send(viewer, QEvent.Type.MouseMove, path[0], modifiers=modifiers)
    settle(_PACE)
    _send(viewer, QEvent.Type.MouseButtonPress, path[0], button, button, modifiers)
    for _, at in pairwise(path):
        if between is not None:
            between()
        settle(_PACE)
        _send(viewer, QEvent.Type.MouseMove, at, NO_BUTTON, button, modifiers)
    settle(_PACE)
    if between is not None:
        between()
    end, up = path[-1], QEvent.Type.MouseButtonRelease
    _send(viewer, up, end, button, NO_BUTTON, modifiers)
    settle()


def press(viewer: napari.Viewer, point: Point) -> None:
    """Put the brush down: move to `point` and press the left button."""
    at = _on_canvas(viewer, point, None)
    _send(viewer, QEvent.Type.MouseMove, at)
    settle(_PACE)
    _send(viewer, QEvent.Type.MouseButtonPress, at, LEFT, LEFT)


def move_pressed(viewer: napari.Viewer, point: Point) -> None:
    """Move with the left button held; returns when the event was handled."""
    at = _on_canvas(viewer, point, None)
    _send(viewer, QEvent.Type.MouseMove, at, NO_BUTTON, LEFT)


def release(viewer: napari.Viewer, point: Point) -> None:
    """Lift the brush."""
    at = _on_canvas(viewer, point, None)
    _send(viewer, QEvent.Type.MouseButtonRelease, at, LEFT, NO_BUTTON)
    settle()


def draw_polygon(
    viewer: napari.Viewer, points: Sequence[Point], *, layer: Layer | None = None
) -> None:
    """Draw a polygon with napari's polygon tool, which must be chosen."""
    for point in points:
        move(viewer, point, layer=layer)
        click(viewer, point, layer=layer)
    # A click at the place of the last one would count as its double click.
    time.sleep(0.3)
    move(viewer, points[0], layer=layer)
    double_click(viewer, points[0], layer=layer)


def press_key(
    viewer: napari.Viewer,
    key: str | Qt.Key,
    modifiers: Qt.KeyboardModifier = NO_MODIFIER,
) -> None:
    """Press and release `key` with the canvas in focus."""
    canvas = _canvas(viewer)
    canvas.setFocus()
    QTest.keyClick(canvas, key, modifiers)
    settle()


# On the dock ------------------------------------------------------------------


def press_button(button: QAbstractButton) -> None:
    """Click on a button, which must be on the screen and enabled.

    Raises
    ------
    AssertionError
        If a person could not click on it.
    """
    _must_be_usable(button, button.text())
    QTest.mouseClick(button, LEFT, NO_MODIFIER, button.rect().center())
    settle()


def click_row(
    rows: QListWidget, row: int, modifiers: Qt.KeyboardModifier = NO_MODIFIER
) -> None:
    """Click on a row of a list, which must be on the screen."""
    _must_be_usable(rows, rows.objectName())
    centre = rows.visualItemRect(rows.item(row)).center()
    QTest.mouseClick(rows.viewport(), LEFT, modifiers, centre)
    settle()


def choose(combo: QComboBox, entry: str | int) -> None:
    """Go to an entry with the arrow keys.

    Parameters
    ----------
    combo : QComboBox
        It must be on the screen and enabled.
    entry : str or int
        The text of the entry, or its position.

    Raises
    ------
    AssertionError
        If there is no such entry, or a person could not choose it.
    """
    texts = [combo.itemText(i) for i in range(combo.count())]
    wanted = texts.index(entry) if entry in texts else entry
    assert wanted in range(len(texts)), f"{entry!r} is none of {texts}"
    _must_be_usable(combo, combo.objectName() or type(combo).__name__)
    combo.setFocus()
    for _ in texts:
        if combo.currentIndex() == wanted:
            break
        up = combo.currentIndex() > int(wanted)
        QTest.keyClick(combo, Qt.Key.Key_Up if up else Qt.Key.Key_Down)
    settle()
    assert combo.currentIndex() == wanted, f"{entry!r} cannot be chosen"


def _must_be_usable(widget: QWidget, name: str) -> None:
    # A widget just added to a window appears with the next turn of the event loop.
    settle()
    assert widget.isVisible(), f"{name!r} is not on the screen"
    assert widget.isEnabled(), f"{name!r} is disabled: {widget.toolTip()}"


# From data to screen ----------------------------------------------------------


def _canvas(viewer: napari.Viewer) -> QWidget:
    # napari has no public way to its canvas, and a person's mouse needs one.
    return viewer.window._qt_viewer.canvas.native


def _on_canvas(
    viewer: napari.Viewer, point: Point, layer: Layer | None = None
) -> QPointF:
    """Return where `point` lies on the canvas, in its pixels."""
    settle(0)
    layer = layer or viewer.layers.selection.active
    assert layer is not None, "no layer is active, and none was given"
    world = _world(viewer, layer, point)
    shown = world[list(viewer.dims.displayed)]
    view = viewer.window._qt_viewer.canvas.view
    mapped = (view.transform * view.scene.transform).map([*shown[::-1]])
    x, y = (float(v) for v in mapped[:2] / mapped[3])
    at = QPointF(round(x), round(y))
    inside = _canvas(viewer).rect().contains(at.toPoint())
    assert inside, f"{tuple(point)} lies outside of the canvas, at {x:.0f}, {y:.0f}"
    return at


def _world(
    viewer: napari.Viewer, layer: Layer, point: ArrayLike
) -> NDArray[np.float64]:
    """Return the world coordinates of `point`; axes not given are where sliders are."""
    given = np.asarray(point, float)
    world = np.asarray(viewer.dims.point, float)
    here = np.asarray(layer.world_to_data(world[-layer.ndim :]), float)
    if given.size == layer.ndim:
        here = given
    else:
        offset = viewer.dims.ndim - layer.ndim
        here[[axis - offset for axis in viewer.dims.displayed]] = given
    world[-layer.ndim :] = layer.data_to_world(here)
    return world


def _send(
    viewer: napari.Viewer,
    kind: QEvent.Type,
    at: QPointF,
    button: Qt.MouseButton = NO_BUTTON,
    buttons: Qt.MouseButton = NO_BUTTON,
    modifiers: Qt.KeyboardModifier = NO_MODIFIER,
) -> None:
    # QTest moves the real pointer, and then no button counts as pressed.
    canvas = _canvas(viewer)
    screen = QPointF(canvas.mapToGlobal(at.toPoint()))
    event = QMouseEvent(kind, at, at, screen, button, buttons, modifiers)
    QApplication.sendEvent(canvas, event)
