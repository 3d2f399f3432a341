"""PQ and AP in the score table under somebody's hands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox, QListWidget, QTableWidget, QWidget
from scipy.ndimage import center_of_mass
from skimage.morphology import dilation, disk

from napari_seg import score_objects
from napari_seg._qt.panels.countable import CountableMarks
from napari_seg.objects.connected import label_objects
from napari_seg.workspace import object_score
from tests._qt import hands
from tests._qt.person import Person

BRUSH = 27


@pytest.fixture
def person(viewer: napari.Viewer, field: NDArray[np.uint16]) -> Iterator[Person]:
    """Return somebody who has predicted nuclei with the bundled model."""
    viewer.add_image(field, name="plate")
    person = Person(viewer)
    person.predict()
    yield person
    person.leave()


def tick(person: Person) -> None:
    box = person.find(QCheckBox, "score_objects_check")
    person.dock._scroll.ensureWidgetVisible(box)
    hands.press_button(box)
    person.wait(lambda: not person.workspace.object_score.busy)
    hands.settle(0.1)


def table_of(person: Person) -> QTableWidget:
    table: QTableWidget = person.find(QTableWidget, "score_table")
    return table


def shown(person: Person) -> dict[str, tuple[str, str]]:
    """Return PQ and AP of each row."""
    hands.settle(0.1)
    table = table_of(person)
    titles = [table.horizontalHeaderItem(i).text() for i in range(table.columnCount())]
    columns = [titles.index(each) for each in ("PQ", "AP")]
    assert not any(table.isColumnHidden(each) for each in columns)
    return {
        table.item(row, 0).text(): tuple(table.item(row, c).text() for c in columns)
        for row in range(table.rowCount())
    }


def expected(person: Person) -> tuple[str, str]:
    """Return PQ and AP of nuclei, of masks labelled just now."""
    mask = person.session.mask
    masks = mask.reference, np.asarray(person.mask.data)
    scores = score_objects(
        *(label_objects(each % 255, "")[0] for each in masks),
        prediction_labels=masks[0],
        truth_labels=masks[1],
        n_classes=2,
    )
    return f"{scores.pq[1]:.3f}", f"{scores.ap[1]:.3f}"


def lonely_object(mask: NDArray[Any]) -> tuple[float, float]:
    """Return the centre of an object that a dab erases, and nothing else with it."""
    ids = label_objects(mask, "")[0]
    around = disk(BRUSH // 2)
    for number in np.unique(ids)[1:]:
        y, x = (round(each) for each in center_of_mass(ids == number))
        dab = np.zeros(ids.shape, bool)
        dab[y, x] = True
        dab = dilation(dab, around)
        inside = min(y, x, *(np.array(ids.shape) - (y, x))) > 20
        whole = not (ids == number)[~dilation(dab, disk(1)) | ~dab].any()
        if inside and whole and set(np.unique(ids[dab])) == {0, number}:
            return float(y), float(x)
    raise AssertionError("no object lies alone")


def erase(person: Person, place: tuple[float, float]) -> None:
    hands.click_row(person.find(QListWidget, "class_list"), 0)
    person.mask.brush_size = BRUSH
    hands.drag(person.viewer, [place, (place[0] + 1, place[1])])


def test_an_object_that_is_erased_costs_what_one_object_costs(person: Person) -> None:
    table = table_of(person)
    assert table.isColumnHidden(4), "nobody asked for objects"
    tick(person)
    count = int(label_objects(np.asarray(person.mask.data), "")[0].max())
    assert shown(person)["nucleus"] == shown(person)["mean"] == ("1.000", "1.000")
    assert shown(person)["background"] == ("–", "–")
    erase(person, lonely_object(np.asarray(person.mask.data)))
    assert label_objects(np.asarray(person.mask.data), "")[0].max() == count - 1
    assert shown(person)["nucleus"] == expected(person)
    assert shown(person)["nucleus"][1] == f"{(count - 1) / count:.3f}"
    assert "1 only the model has" in table.item(1, 4).toolTip()
    assert "SQ 1.000" in table.item(1, 4).toolTip()
    person.mask.undo()
    hands.settle(0.1)
    assert shown(person)["nucleus"] == ("1.000", "1.000")
    person.check_scores()
    # Less than half of one is no match any more.
    y, x = lonely_object(np.asarray(person.mask.data))
    erase(person, (y, x + BRUSH / 2 - 2))
    erase(person, (y + 3, x + 4))
    before = shown(person)["nucleus"]
    assert before == expected(person)
    # What was erased stays erased, and the model says the same again.
    person.predict()
    person.wait(lambda: person.workspace.object_score.scores is not None)
    assert shown(person)["nucleus"] == before == expected(person)
    tick(person)
    assert table.isColumnHidden(5)


def mark(person: Person, row: int) -> tuple[QWidget, QPoint]:
    """Return where the mark of a class is, and in what."""
    rows: QListWidget = person.find(QListWidget, "class_list")
    person.dock._scroll.ensureWidgetVisible(rows)
    hands.settle()
    box = rows.visualItemRect(rows.item(row))
    place = box.center()
    place.setX(box.right() - 8)
    return rows.viewport(), place


def click_mark(person: Person, row: int) -> None:
    where, place = mark(person, row)
    QTest.mouseClick(where, Qt.MouseButton.LeftButton, pos=place)
    hands.settle(0.1)


def double_click_mark(person: Person, row: int) -> None:
    where, place = mark(person, row)
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    at, screen = QPointF(place), QPointF(where.mapToGlobal(place))
    for kind, held in (
        (QEvent.Type.MouseButtonPress, left),
        (QEvent.Type.MouseButtonRelease, none),
        (QEvent.Type.MouseButtonDblClick, left),
        (QEvent.Type.MouseButtonRelease, none),
    ):
        modifiers = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, at, at, screen, left, held, modifiers)
        QApplication.sendEvent(where, event)
    hands.settle(0.1)


def test_a_class_without_objects_has_no_scores_of_objects(person: Person) -> None:
    person.workspace.add_class("debris")
    tick(person)
    person.mask.data[2:6, 2:6] = 2
    person.mask.refresh()
    assert shown(person)["debris"] == ("0.000", "0.000")
    click_mark(person, 2)
    assert not person.session.countable[2]
    # Two quick clicks are two clicks, and no wish for another name.
    double_click_mark(person, 2)
    assert not person.session.countable[2]
    assert shown(person)["debris"] == ("–", "–")
    assert "not countable" in table_of(person).item(2, 4).toolTip()
    assert shown(person)["mean"] == shown(person)["nucleus"]
    click_mark(person, 1)
    assert shown(person)["nucleus"] == shown(person)["mean"] == ("–", "–")
    click_mark(person, 0)
    assert not person.session.countable[0], "the background has no objects"
    click_mark(person, 1)
    assert shown(person)["nucleus"] == ("1.000", "1.000")
    marks = person.dock.findChild(CountableMarks)
    assert marks.menu(0) is None
    menu = marks.menu(1)
    (action,) = menu.actions()
    assert action.isChecked()
    action.trigger()
    assert not person.session.countable[1]
    menu.deleteLater()


def test_an_image_that_is_too_large_says_so(
    viewer: napari.Viewer,
    field: NDArray[np.uint16],
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewer.add_image(field, name="plate")
    person = Person(viewer, model_file)
    box = person.find(QCheckBox, "score_objects_check")
    assert not box.isEnabled()
    assert "no mask yet" in box.toolTip()
    person.predict()
    assert box.isEnabled()
    monkeypatch.setattr(object_score, "MOST_PIXELS", 100)
    person.workspace.changed.emit()
    assert not box.isEnabled()
    assert "up to 100 px" in box.toolTip()
    person.leave()
