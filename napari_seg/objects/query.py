"""Expressions such as ``area_px > 200 and class == "nucleus"``, read safely.

Nothing is run: Python's grammar is read into a tree, and only comparisons, arithmetic,
``and``, ``or``, ``not``, column names, numbers and words in it are worked out here.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from napari_seg.errors import InputError

__all__ = ["matching_rows"]

_LONGEST = 500
#: A word in quotes, a name in backticks, a number, a plain name.
_TOKENS = re.compile(
    r"""("[^"]*"|'[^']*')|`([^`]*)`|((?<![\w.])\d[\w.]*)|([^\W\d]\w*)""", re.VERBOSE
)
_WORDS = {"and", "or", "not", "in", "True", "False"}
_SINGLE_EQUALS = re.compile(r"(?<![=!<>])=(?!=)")
_PLACEHOLDER = "column_{}_"

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_GRAMMAR = (
    "compare columns with numbers or words, such as area_px > 200 and "
    'class == "nucleus"'
)


def matching_rows(frame: pd.DataFrame, expression: str) -> np.ndarray[Any, Any]:
    """Return for each row whether an expression is true there.

    Parameters
    ----------
    frame : DataFrame
        Columns of numbers, of words and of bool.
    expression : str
        Such as ``area_px > 200 and class == "nucleus"``; empty is true everywhere.
        Names with spaces stand in backticks.  NaN fulfils no comparison but ``!=``.

    Returns
    -------
    ndarray of bool, shape (rows,)

    Raises
    ------
    InputError
        If it cannot be read, names an unknown column, or is not true or false.
    """
    if not expression.strip():
        return np.ones(len(frame), bool)
    if len(expression) > _LONGEST:
        raise InputError(f"The filter has more than {_LONGEST} characters; shorten it.")
    names: dict[str, str] = {}
    try:
        tree = _parsed(_with_placeholders(expression, frame, names))
        with np.errstate(all="ignore"):
            return _truth(_Reader(frame, names).read(tree), len(frame))
    except InputError:
        raise
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
        equals = " Equality is written ==." if _SINGLE_EQUALS.search(expression) else ""
        raise InputError(f"This cannot be read; {_GRAMMAR}.{equals}") from error


def _parsed(expression: str) -> ast.expr:
    with warnings.catch_warnings():
        # Such as those on "1or 2".
        warnings.simplefilter("ignore")
        return ast.parse(expression.strip(), mode="eval").body


def _with_placeholders(
    expression: str, frame: pd.DataFrame, names: dict[str, str]
) -> str:
    """Put plain names in the place of those that Python would not take."""

    def placed(match: re.Match[str]) -> str:
        word, quoted, number, name = match.groups()
        if word or number or (name in _WORDS and name not in frame):
            return match[0]
        placeholder = _PLACEHOLDER.format(len(names))
        names[placeholder] = quoted if name is None else name
        return placeholder

    return _TOKENS.sub(placed, expression)


class _Reader:
    """Works a tree out, column by column."""

    def __init__(self, frame: pd.DataFrame, names: dict[str, str]) -> None:
        self._frame = frame
        self._names = names

    def read(self, node: ast.expr) -> Any:
        """Return an array over the rows, or one value for all."""
        if isinstance(node, ast.BoolOp):
            return self._joined(node)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self.read(node.left), self.read(node.right)
            return _ARITHMETIC[type(node.op)](_number(left), _number(right))
        if isinstance(node, ast.Name):
            return self._column(self._names.get(node.id, node.id))
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bool)):
            return node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        raise InputError(f"This cannot be used in a filter; {_GRAMMAR}.")

    def _joined(self, node: ast.BoolOp) -> Any:
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        rows = len(self._frame)
        return join.reduce([_truth(self.read(part), rows) for part in node.values])

    def _unary(self, node: ast.UnaryOp) -> Any:
        value = self.read(node.operand)
        if isinstance(node.op, ast.Not):
            return ~_truth(value, len(self._frame))
        if isinstance(node.op, ast.USub):
            return -_number(value)
        raise InputError(f"This cannot be used in a filter; {_GRAMMAR}.")

    def _compared(self, node: ast.Compare) -> Any:
        values = [self.read(part) for part in (node.left, *node.comparators)]
        found = [
            _compare(op, left, right)
            for op, left, right in zip(node.ops, values, values[1:], strict=False)
        ]
        return np.logical_and.reduce(found)

    def _column(self, name: str) -> Any:
        if name not in self._frame:
            near = get_close_matches(name, map(str, self._frame.columns), n=1)
            hint = f" Do you mean {near[0]}?" if near else ""
            raise InputError(
                f'There is no column {name}.{hint} Words stand in quotes: "{name}".'
            )
        column = self._frame[name]
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        return column.to_numpy() if numeric else column.to_numpy(object)


def _compare(op: ast.cmpop, left: Any, right: Any) -> Any:
    if type(op) not in _COMPARISONS:
        raise InputError(f"This cannot be used in a filter; {_GRAMMAR}.")
    if _is_words(left) != _is_words(right):
        raise InputError(
            "A number is compared with a word; numbers stand without quotes, words in "
            'quotes, such as class == "nucleus".'
        )
    return _COMPARISONS[type(op)](left, right)


def _is_words(value: Any) -> bool:
    return isinstance(value, str) or getattr(value, "dtype", bool) == np.dtype(object)


def _number(value: Any) -> Any:
    if _is_words(value):
        raise InputError("Words cannot be reckoned with; use columns of numbers.")
    return np.asarray(value, np.float64)


def _truth(value: Any, rows: int) -> np.ndarray[Any, Any]:
    found = np.asarray(value)
    if found.dtype != bool:
        raise InputError(f"This is neither true nor false; {_GRAMMAR}.")
    return np.broadcast_to(found, rows)
