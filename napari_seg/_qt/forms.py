"""Forms made from configuration dataclasses, through magicgui.

Ranges, choices, defaults and tooltips stand once, at the fields of the dataclass
(:func:`napari_seg.options.option`); a form is a view of one such value.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Generic, TypeVar

from magicgui.widgets import Container, Widget, create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_seg.options import Option, Options, describe

__all__ = ["OptionsForm"]

T = TypeVar("T", bound=Options)

_AUTOMATIC = "automatic"


class OptionsForm(QWidget, Generic[T]):
    """A form for one frozen dataclass of options.

    Parameters
    ----------
    kind : type
        The dataclass; its defaults fill the form.
    hidden : set of str
        Fields that are set elsewhere and keep their defaults here.
    """

    valueChanged = Signal(object)

    def __init__(
        self,
        kind: type[T],
        hidden: frozenset[str] = frozenset(),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._kind = kind
        self._widgets: dict[str, Widget] = {}
        self._nested: dict[str, OptionsForm[Any]] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for name, described in describe(kind).items():
            if name not in hidden:
                default = _default(kind, name)
                self._widgets[name] = _create(name, described, default)
        self._container: Container[Widget] = Container(labels=True)
        # Labels get one width only when widgets come after it was made.
        self._container.extend(self._widgets.values())
        self._container.margins = (0, 0, 0, 0)
        self._container.changed.connect(lambda *_: self._changed())
        layout.addWidget(self._container.native)
        for name, nested in _nested_options(kind).items():
            form: OptionsForm[Any] = OptionsForm(type(nested))
            form.setValue(nested)
            form.valueChanged.connect(lambda *_: self._changed())
            self._nested[name] = form
            layout.addWidget(form)

    def value(self) -> T:
        """Return the options as they stand in the form."""
        values = {name: _read(widget) for name, widget in self._widgets.items()}
        parts = {name: form.value() for name, form in self._nested.items()}
        return self._kind(**values, **parts)

    def setValue(self, value: T) -> None:
        """Show `value`."""
        for name, widget in self._widgets.items():
            _write(widget, getattr(value, name))
        for name, form in self._nested.items():
            form.setValue(getattr(value, name))

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())


def _default(kind: type[Options], name: str) -> Any:
    field = next(f for f in fields(kind) if f.name == name)
    return field.default


def _nested_options(kind: type[Options]) -> dict[str, Options]:
    """Return the default of each field that holds options of its own."""
    made = {
        field.name: field.default_factory()
        for field in fields(kind)
        if field.default_factory is not MISSING
    }
    return {name: part for name, part in made.items() if isinstance(part, Options)}


def _create(name: str, described: Option, default: Any) -> Any:
    options: dict[str, Any] = {"tooltip": described.tooltip}
    label = described.label + (f" ({described.unit})" if described.unit else "")
    if described.choices is not None:
        options["choices"] = described.choices
        return create_widget(default, name=name, label=label, options=options)
    if isinstance(default, bool):
        return create_widget(default, name=name, label=label, options=options)
    return _number(name, label, described, default, options)


def _number(
    name: str, label: str, described: Option, default: Any, options: dict[str, Any]
) -> Any:
    """Return a spin box; where None is allowed, its lowest value reads "automatic"."""
    automatic = default is None
    whole = automatic or isinstance(default, int)
    low = described.minimum if described.minimum is not None else 0
    step = described.step or (1 if whole else 0.1)
    options["min"] = low - step if automatic else low
    options["max"] = described.maximum if described.maximum is not None else 100_000
    options["step"] = step
    if whole:
        options = {key: _as_int(value) for key, value in options.items()}
    widget: Any = create_widget(
        options["min"] if automatic else default,
        # The box for large integers knows no words for its lowest value.
        annotation=int if whole and not automatic else float,
        name=name,
        label=label,
        options=options,
    )
    if automatic:
        widget.native.setDecimals(0)
        widget.native.setSpecialValueText(_AUTOMATIC)
    elif not whole:
        # Every number that the option names must survive being shown.
        widget.native.setDecimals(
            max(_decimals(n) for n in (step, low, options["max"], default))
        )
        widget.native.setRange(low, options["max"])
        widget.value = default
    return widget


def _as_int(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def _decimals(number: float) -> int:
    return max(len(f"{number:.8f}".rstrip("0").partition(".")[2]), 1)


def _read(widget: Any) -> Any:
    native = widget.native
    if getattr(native, "specialValueText", str)() == _AUTOMATIC:
        return None if widget.value == widget.min else round(widget.value)
    return widget.value


def _write(widget: Any, value: Any) -> None:
    widget.value = widget.min if value is None else value
