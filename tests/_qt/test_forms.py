"""Forms say what the dataclass says, and hand back what was typed."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

import napari
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QCheckBox, QComboBox, QWidget

from napari_seg._qt.forms import OptionsForm
from napari_seg.cli.parser import build_parser
from napari_seg.inference.predict import PredictOptions
from napari_seg.options import Options, as_arguments, describe
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.finetune import FinetuneOptions
from tests._qt import hands
from tests._qt.person import Person

KINDS = [PredictOptions, AugmentOptions, FinetuneOptions]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def form(request: pytest.FixtureRequest, qapp: QApplication) -> OptionsForm:
    return OptionsForm(request.param)


def _native(form: OptionsForm, name: str) -> QWidget:
    return form._widgets[name].native


def _other(kind: type[Options], name: str) -> object:
    """Return an allowed value that is not the default."""
    described = describe(kind)[name]
    default = getattr(kind(), name)
    if described.choices is not None:
        return next(choice for choice in described.choices if choice != default)
    if isinstance(default, bool):
        return not default
    if default is None:
        return described.minimum + 2 * (described.step or 1)
    return described.minimum if default != described.minimum else described.maximum


@pytest.mark.smoke
def test_the_form_starts_with_the_defaults(form: OptionsForm) -> None:
    assert form.value() == form._kind()


def test_every_value_comes_back(form: OptionsForm) -> None:
    kind = form._kind
    for name in describe(kind):
        changed = replace(kind(), **{name: _other(kind, name)})
        form.setValue(changed)
        assert form.value() == changed, name
    form.setValue(kind())
    assert form.value() == kind()


def test_ranges_and_tooltips_stand_once(form: OptionsForm) -> None:
    for name, described in describe(form._kind).items():
        widget = form._widgets[name]
        native = widget.native
        assert widget.tooltip == described.tooltip
        assert described.label in widget.label
        assert described.unit in widget.label
        if described.choices is not None:
            assert isinstance(native, QComboBox)
            assert tuple(widget.choices) == described.choices
        elif isinstance(native, QAbstractSpinBox):
            automatic = getattr(form._kind(), name) is None
            lowest = widget.min + (described.step or 1) if automatic else widget.min
            assert lowest == (described.minimum or 0), name
            if described.maximum is not None:
                assert widget.max == described.maximum, name
            assert (native.specialValueText() == "automatic") == automatic
        else:
            assert isinstance(native, QCheckBox), name


def test_nested_options_have_a_form_of_their_own(qapp: QApplication) -> None:
    form = OptionsForm(FinetuneOptions)
    usual = FinetuneOptions().augmentation
    assert form.value().augmentation == usual != AugmentOptions()
    heard: list[FinetuneOptions] = []
    form.valueChanged.connect(heard.append)
    nested = form._nested["augmentation"]
    name = next(
        f.name
        for f in fields(AugmentOptions)
        if f.default is not MISSING and not isinstance(f.default, bool)
    )
    wanted = replace(usual, **{name: _other(AugmentOptions, name)})
    nested.setValue(wanted)
    assert heard[-1].augmentation == wanted


def test_typing_and_automatic(viewer: napari.Viewer) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8))
    person = Person(viewer)
    section = person.find(QWidget, "expert_predict")
    section.expand(animate=False)
    form = section.findChild(OptionsForm)
    assert "confidence" not in form._widgets, "the dock always needs it"
    tile = _native(form, "tile")
    assert tile.text() == "automatic"
    tile.setFocus()
    QTest.keyClick(tile, Qt.Key.Key_Up)
    assert person.workspace.predict_options == PredictOptions(tile=32)
    QTest.keyClick(tile, Qt.Key.Key_Down)
    assert person.workspace.predict_options == PredictOptions()
    box = form._widgets["crf"].native
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=box.rect().center())
    hands.settle()
    assert person.workspace.predict_options.crf == form.value().crf

    teach = person.find(QWidget, "expert_finetune").findChild(OptionsForm)
    options = replace(
        FinetuneOptions(),
        **{
            name: _other(FinetuneOptions, name)
            for name in ("holdout", "replay_share", "crop", "batch")
        },
    )
    teach.setValue(options)
    command = ["finetune", "-m", "m", "--project", ".", "-o", "o"]
    given = build_parser().parse_args([*command, *person.workspace.finetune_arguments])
    for name in describe(FinetuneOptions):
        wanted = getattr(options, name)
        assert getattr(given, name, None) in (wanted, None), name
    assert given.crop == options.crop
    assert given.holdout == options.holdout
    person.leave()


@pytest.mark.parametrize("kind", [FinetuneOptions, AugmentOptions])
def test_the_command_line_understands_every_option(kind: type[Options]) -> None:
    prefix = "augment_" if kind is AugmentOptions else ""
    for name in describe(kind):
        options = replace(kind(), **{name: _other(kind, name)})
        arguments = as_arguments(options, kind(), prefix)
        assert arguments, name
        given = build_parser().parse_args(
            ["finetune", "-m", "m", "--project", ".", "-o", "o", *arguments]
        )
        assert getattr(given, prefix + name) == getattr(options, name), name
