"""Filters: what they select, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_seg.errors import InputError
from napari_seg.objects.query import matching_rows

FRAME = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "class": ["nucleus", "cell wall", "nucleus", "unknown"],
        "area_px": [100, 250, 300, 50],
        "solidity": [0.9, 0.5, np.nan, 1.0],
        "intensity_mean_DAPI 405": [1.5, 2.5, 3.5, 4.5],
        "touches_border": [True, False, False, True],
    }
)


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ('area_px > 200 and class == "nucleus"', [3]),
        ("area_px>200 or class=='unknown'", [2, 3, 4]),
        ("100 <= area_px < 300", [1, 2]),
        ("not touches_border", [2, 3]),
        ("touches_border == True and area_px != 50", [1]),
        ("not (area_px > 200 or touches_border) or id == 1", [1]),
        ("area_px / 100 - 1 > 1.5e0", [3]),
        ("-id < -2", [3, 4]),
        ("solidity > 0", [1, 2, 4]),
        ("solidity == solidity", [1, 2, 4]),
        ("area_px / 0 > 1", [1, 2, 3, 4]),
        ("`intensity_mean_DAPI 405` > 3", [3, 4]),
        ('class == "cell wall"', [2]),
        ('class < "d"', [2]),
        ("  id == 1", [1]),
    ],
)
def test_rows_that_an_expression_selects(expression, ids):
    found = matching_rows(FRAME, expression)
    assert found.dtype == bool
    assert list(FRAME["id"][found]) == ids


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("area_px >", "cannot be read"),
        ("area_px = 3", "written =="),
        ("area > 3", "no column area. Do you mean area_px"),
        ("class == nucleus", 'quotes: "nucleus"'),
        ("class > 3", "number is compared with a word"),
        ("class + 1 > 2", "Words cannot"),
        ("area_px", "neither true nor false"),
        ("3", "neither true nor false"),
        ("1or 2", "neither true nor false"),
        ("id in (1, 2)", "cannot be used"),
        ("id is 1", "is"),
        ("~touches_border", "cannot be used"),
        ("2 ** 9 > id", "cannot be used"),
        ("area_px.max() > 3", "cannot be"),
        ("__import__('os').system('true')", "no column|cannot be"),
        ("[id for id in ()]", "cannot be"),
        ("lambda: 1", "cannot be"),
        ("(id := 3) > 2", "cannot be"),
        ("f'{id}' == class", "cannot be"),
        ("id[0] > 1", "cannot be used"),
        ("@", "cannot be read"),
        ("id > 1\x00", "cannot be read"),
        ("-" * 400 + "id > 1", "cannot be read|^$"),
        ("(" * 300 + "id > 1" + ")" * 100, "cannot be read"),
        ("id > 1 and " * 60 + "id > 1", "shorten"),
    ],
)
def test_what_is_no_filter_is_refused(expression, words):
    if expression.startswith("---"):
        assert list(FRAME["id"][matching_rows(FRAME, expression)]) == [2, 3, 4]
        return
    with pytest.raises(InputError, match=words):
        matching_rows(FRAME, expression)


def test_a_table_without_rows():
    assert matching_rows(
        FRAME.iloc[:0], "area_px > 3 and not touches_border"
    ).shape == (0,)
