"""The table of objects under somebody's hands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from napari.utils.theme import get_theme
from qtpy.QtCore import QCoreApplication, QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLineEdit, QPushButton, QTableView

from napari_seg._qt.panels.measurements import MeasurementsPanel
from napari_seg._qt.plots import HistogramPlot
from napari_seg._qt.table_model import TableModel
from napari_seg.objects.measure import measure_objects
from napari_seg.synthetic import synthetic_nuclei

LEFT = Qt.MouseButton.LeftButton
SHOWN = Qt.ItemDataRole.DisplayRole
HINT = Qt.ItemDataRole.ToolTipRole


@pytest.fixture(scope="module")
def objects() -> pd.DataFrame:
    sample = synthetic_nuclei((256, 256), n=30, seed=2)
    names = ("background", "nucleus")
    return measure_objects(
        sample.instances, sample.mask, sample.image, classes=names, pixel_size=0.5
    )


@pytest.fixture
def panel(
    no_widget_left: None, objects: pd.DataFrame, qapp: QApplication
) -> Iterator[MeasurementsPanel]:
    panel = MeasurementsPanel()
    panel.resize(320, 620)
    panel.setTable(objects)
    panel.show()
    QTest.qWaitForWindowExposed(panel)
    yield panel
    panel.close()
    panel.deleteLater()
    QCoreApplication.sendPostedEvents(panel, 0)
    # pytest holds the panel to the end, and with it the menus of its plot.
    vars(panel).clear()


def table_of(panel: MeasurementsPanel) -> QTableView:
    return panel.findChild(QTableView, "measurements_table")


def column(panel: MeasurementsPanel, name: str) -> list[str]:
    model = table_of(panel).model()
    names = [model.headerData(i, Qt.Orientation.Horizontal, SHOWN) for i in range(30)]
    at = names.index(name)
    return [model.index(row, at).data() for row in range(model.rowCount())]


def click_header(panel: MeasurementsPanel, name: str) -> None:
    table = table_of(panel)
    header = table.horizontalHeader()
    at = list(panel.shownTable()).index(name)
    table.scrollTo(table.model().index(0, at))
    x = header.sectionViewportPosition(at) + 10
    QTest.mouseClick(header.viewport(), LEFT, pos=QPoint(x, header.height() // 2))


def click_row(panel: MeasurementsPanel, row: int) -> None:
    table = table_of(panel)
    index = table.model().index(row, 0)
    table.scrollTo(index)
    QTest.mouseClick(table.viewport(), LEFT, pos=table.visualRect(index).center())


def type_filter(panel: MeasurementsPanel, text: str) -> None:
    line = panel.findChild(QLineEdit, "measurements_filter")
    line.selectAll()
    QTest.keyClicks(line, text) if text else line.clear()
    QTest.keyClick(line, Qt.Key.Key_Return)


@pytest.mark.smoke
def test_a_click_on_a_header_sorts(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    assert column(panel, "id") == [str(number) for number in objects["id"]]
    click_header(panel, "area_px")
    once = [int(text) for text in column(panel, "area_px")]
    click_header(panel, "area_px")
    twice = [int(text) for text in column(panel, "area_px")]
    upwards = sorted(objects["area_px"])
    assert [once, twice] in (
        [upwards, upwards[::-1]],
        [upwards[::-1], upwards],
    )
    click_header(panel, "solidity")
    values = panel.shownTable()["solidity"].to_numpy()
    assert (np.diff(values) >= 0).all() or (np.diff(values) <= 0).all()


def test_a_filter_shows_what_fulfils_it(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    wanted = objects[objects["area_px"] > objects["area_px"].median()]
    type_filter(
        panel, f'area_px > {objects["area_px"].median()} and class == "nucleus"'
    )
    assert column(panel, "id") == [str(number) for number in wanted["id"]]
    assert panel.facts.text().startswith(
        f"{len(objects)} objects, {len(wanted)} shown, mean area "
    )
    assert not panel.problem.isVisible()
    pd.testing.assert_frame_equal(panel.shownTable(), wanted.reset_index(drop=True))
    assert len(panel.plot.values()) == len(wanted)
    type_filter(panel, "")
    assert len(panel.shownTable()) == len(objects)
    assert "shown" not in panel.facts.text()


def test_a_wrong_filter_is_told_and_changes_nothing(panel: MeasurementsPanel) -> None:
    type_filter(panel, "area_px > 100")
    before = panel.shownTable()
    type_filter(panel, "area > <b>100")
    assert panel.problem.isVisible()
    assert "cannot be read" in panel.problem.text()
    pd.testing.assert_frame_equal(panel.shownTable(), before)
    type_filter(panel, "area > 100")
    assert "Do you mean area_px?" in panel.problem.text()
    type_filter(panel, "area_px > 100")
    assert not panel.problem.isVisible()


def test_measured_again_under_a_wrong_filter(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    panel.setStale()
    assert panel.facts.text().startswith("Changed since: press Measure.")
    type_filter(panel, "area_px >")
    panel.setTable(objects.head(5))
    assert panel.facts.text().startswith("5 objects")


def test_nothing_is_saved_that_the_filter_does_not_say(
    panel: MeasurementsPanel,
) -> None:
    panel.show_gates("")
    assert panel.save.isEnabled()
    panel.filter.setText("area_px >")
    panel.filter.returnPressed.emit()
    assert not panel.save.isEnabled()
    assert "mend it first" in panel.save.toolTip()
    panel.filter.setText("")
    panel.filter.returnPressed.emit()
    assert panel.save.isEnabled()


def test_typing_is_enough(panel: MeasurementsPanel, qtbot) -> None:
    QTest.keyClicks(panel.filter, "id <= 3")
    qtbot.waitUntil(lambda: len(panel.shownTable()) == 3)


def test_a_row_that_is_picked_tells_its_object(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    heard: list[int] = []
    panel.objectChosen.connect(heard.append)
    panel.selectObject(int(objects["id"].iloc[4]))
    assert heard == [], "a program has chosen it"
    click_row(panel, 2)
    click_row(panel, 2)
    table = table_of(panel)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Up, Qt.Key.Key_Right):
        QTest.keyClick(table, key)
    ids = objects["id"].tolist()
    assert heard == [ids[i] for i in (2, 2, 3, 3, 2)]
    assert panel.chosenRow()["area_px"] == objects["area_px"].iloc[2]


def test_the_chosen_object_stays_chosen(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    """Through sorting, filtering and measuring anew; and it is scrolled to."""
    number = int(objects["id"].iloc[-1])
    table = table_of(panel)

    def marked() -> str | None:
        index = table.currentIndex()
        if not index.isValid():
            return None
        assert table.viewport().rect().contains(table.visualRect(index).center())
        return table.model().index(index.row(), 0).data()

    panel.selectObject(number)
    assert marked() == str(number)
    click_header(panel, "area_px")
    table.horizontalScrollBar().setValue(0)
    assert marked() == str(number)
    type_filter(panel, f"id != {number}")
    assert marked() is None
    type_filter(panel, "")
    assert marked() == str(number)
    fewer = objects.iloc[5:].copy()
    panel.setTable(fewer)
    assert marked() == str(number)
    panel.setTable(fewer[fewer["id"] != number])
    assert marked() is None
    assert panel.chosenRow() is None
    panel.selectObject(999)
    assert marked() is None


def test_objects_of_a_movie_and_large_ids(panel: MeasurementsPanel) -> None:
    ids = np.zeros((2, 8, 8), np.uint32)
    ids[:, 2:5, 2:5] = 2**32 - 1
    heard: list[int] = []
    panel.objectChosen.connect(heard.append)
    panel.setTable(measure_objects(ids, axes="TYX"))
    click_row(panel, 1)
    assert heard == [2**32 - 1]
    assert panel.chosenRow()["t"] == 1
    panel.setTable(measure_objects(ids[:, np.newaxis]))
    assert panel.chosenRow()["t"] == 1
    assert panel.facts.text() == "2 objects, mean volume 9 voxels"


def test_buttons_ask_and_say_why_they_cannot_work(
    panel: MeasurementsPanel, objects: pd.DataFrame, qtbot
) -> None:
    measure = panel.findChild(QPushButton, "measure_button")
    save = panel.findChild(QPushButton, "measurements_save_button")
    for button, signal in (
        (measure, panel.measureRequested),
        (save, panel.saveRequested),
    ):
        with qtbot.waitSignal(signal):
            QTest.mouseClick(button, LEFT)
    type_filter(panel, "area_px < 0")
    assert (save.isEnabled(), save.toolTip()) == (False, "No object is shown.")
    panel.setTable(pd.DataFrame())
    assert (save.isEnabled(), save.toolTip()) == (False, "Measure first.")
    assert panel.facts.text() == "Nothing is measured yet."
    assert not panel.problem.isVisible(), "no column is known, and none is wrong"
    panel.show_gates(measure="Predict first.")
    assert (measure.isEnabled(), measure.toolTip()) == (False, "Predict first.")
    panel.setTable(objects)
    type_filter(panel, "")
    assert save.isEnabled()


def test_every_header_explains_itself(
    panel: MeasurementsPanel, objects: pd.DataFrame
) -> None:
    model = table_of(panel).model()
    for at, name in enumerate(objects):
        hint = model.headerData(at, Qt.Orientation.Horizontal, HINT)
        assert "The column" not in hint, name
        assert hint.endswith("Click to sort.")
    at = list(objects).index("area_um2")
    assert "In µm²." in model.headerData(at, Qt.Orientation.Horizontal, HINT)
    for child in (*panel.findChildren(QPushButton), panel.filter, panel.column):
        assert child.accessibleName()
        assert child.toolTip()
    assert table_of(panel).accessibleName()
    assert panel.plot.accessibleName()


def test_numbers_stand_below_each_other(qapp: QApplication) -> None:
    model = TableModel()
    model.set_table(
        pd.DataFrame(
            {
                "id": [1, 2],
                "area_um2": [12.5, 345.678],
                "solidity": [0.5, np.nan],
                "intensity_mean_0": [12345.678, 3.0],
                "intensity_mean_1": [1e-5, 2.3456e-6],
                "touches_border": [True, False],
                "class": ["a", "b"],
            }
        )
    )
    rows = [[model.index(r, c).data() for c in range(7)] for r in range(2)]
    assert rows == [
        ["1", "12.5", "0.5000", "12346", "0.00001000", "yes", "a"],
        ["2", "345.7", "–", "3", "0.00000235", "no", "b"],
    ]
    role = Qt.ItemDataRole.TextAlignmentRole
    right = Qt.AlignmentFlag.AlignRight
    aligned = [bool(model.index(0, c).data(role) & right) for c in range(7)]
    assert aligned == [True] * 5 + [False] * 2


def test_what_is_no_number_comes_last(qapp: QApplication) -> None:
    model = TableModel()
    model.set_table(pd.DataFrame({"id": [1, 2, 3], "solidity": [np.nan, 0.9, 0.5]}))
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        model.sort(1, order)
        assert list(model.rows())[-1] == 0
    model.sort(-1)
    assert list(model.rows()) == [0, 1, 2]


def test_a_large_table_asks_only_for_what_it_shows(panel, monkeypatch) -> None:
    """Of 100 000 rows with 20 columns, a screenful becomes text."""
    asked = []
    data = TableModel.data
    monkeypatch.setattr(
        TableModel,
        "data",
        lambda self, index, role=SHOWN: (
            asked.append(index.row()),
            data(self, index, role),
        )[1],
    )
    rng = np.random.default_rng(0)
    columns = {f"own_{i}": rng.random(100_000) for i in range(20)}
    panel.setTable(pd.DataFrame({"id": np.arange(100_000), **columns}))
    click_header(panel, "own_1")
    type_filter(panel, "own_2 > 0.5")
    panel.selectObject(int(panel.shownTable()["id"].iloc[40_000]))
    QApplication.processEvents()
    assert len(set(asked)) < 400


def test_the_histogram_follows_column_and_theme(
    panel: MeasurementsPanel, objects: pd.DataFrame, qtbot
) -> None:
    combo = panel.findChild(QComboBox, "measurements_column")
    plot = panel.findChild(HistogramPlot, "measurements_plot")
    names = [combo.itemText(i) for i in range(combo.count())]
    assert names[0] == "area_px"
    assert not {"id", "class", "bbox_y0", "touches_border"} & set(names)
    combo.setFocus()
    QTest.keyClick(combo, Qt.Key.Key_End)
    assert combo.currentText() == names[-1]
    np.testing.assert_array_equal(plot.values(), objects[names[-1]])
    qtbot.waitUntil(lambda: sum(plot._bars.opts["height"]) == len(objects))
    for theme in ("light", "dark"):
        panel.set_theme(theme)
        wanted = QColor(get_theme(theme).background.as_hex())
        assert plot._plot.backgroundBrush().color() == wanted
        text = QColor(get_theme(theme).text.as_hex())
        assert plot._plot.getAxis("left").textPen().color() == text
    # The same choice again after measuring anew.
    panel.setTable(objects.drop(columns="area_px"))
    assert combo.currentText() == names[-1]


@pytest.mark.parametrize(
    "values",
    [[], [np.nan, np.inf], [3], [2, 2, 4], [0.0] * 5, [-1e300, 1e300], [True, False]],
)
def test_a_histogram_of_anything(qtbot, values) -> None:
    plot = HistogramPlot()
    qtbot.addWidget(plot)
    plot.show()
    plot.set_values(np.array(values), "something")
    qtbot.waitUntil(lambda: not plot._timer.isActive())
    finite = np.isfinite(np.array(values, float))
    assert sum(plot._bars.opts["height"]) == finite.sum()


def test_it_fits_into_a_narrow_dock(panel: MeasurementsPanel) -> None:
    type_filter(panel, "a_rather_long_column_that_is_not_there > 1000")
    QApplication.processEvents()
    assert panel.minimumSizeHint().width() <= 320
    assert panel.width() == 320
