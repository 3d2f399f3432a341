"""Confidence that can be believed: its error, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_seg import adapt_model, create_model, load_model, predict, save_model
from napari_seg.errors import InputError
from napari_seg.training.calibration import (
    calibrate,
    calibration_error,
    fit_temperature,
)
from napari_seg.training.finetune import finetune
from napari_seg.training.guard import hold_out
from napari_seg.training.sampling import Example

UNKNOWN = 255


def drawn(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits whose softmax is the chance of each class, and drawn classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(classes, count, generator=generator)
    chances = logits.softmax(dim=0).T
    return logits, torch.multinomial(chances, 1, generator=generator)[:, 0]


class TestError:
    def test_by_hand(self):
        # Two bins: 0.7 against 1 of 2, and 0.95 against 2 of 2.
        confidence, correct = [0.7, 0.7, 0.95, 0.95], [True, False, True, True]
        expected = (2 * 0.2 + 2 * 0.05) / 4
        assert calibration_error(confidence, correct) == pytest.approx(expected)
        assert np.isnan(calibration_error([], []))

    @given(
        arrays(np.float32, 40, elements=st.floats(0, 1, width=32)),
        arrays(np.bool_, 40),
        st.permutations(range(40)),
    )
    def test_lies_between_0_and_1_in_any_order(self, confidence, correct, order):
        error = calibration_error(confidence, correct)
        assert 0 <= error <= 1
        assert calibration_error(confidence[order], correct[order]) == pytest.approx(
            error
        )
        # One bin cannot tell more than the difference of the means.
        mean = abs(float(confidence.mean()) - float(correct.mean()))
        assert error >= mean - 1e-5
        assert calibration_error(confidence, correct, 1) == pytest.approx(
            mean, abs=1e-5
        )


@pytest.mark.parametrize("factor", [0.5, 1, 3])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor, classes):
    logits, targets = drawn(20_000, classes, seed=classes)
    temperature = fit_temperature(factor * logits, targets)
    assert temperature == pytest.approx(factor, rel=0.05)


class Sure(torch.nn.Module):
    """Stands in for a model: its logits are the image, times something."""

    strides, halos, least = (1, 1), (0, 0), (32, 32)

    def __init__(self, model, factor):
        super().__init__()
        self.spec, self.factor = model.spec, factor
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def standardize(self, x):
        return x

    def forward(self, x):
        return self.factor * x


def regions(seed=0):
    """Return an example whose image holds the logits of its classes."""
    logits, targets = drawn(160 * 160, 2, seed)
    labels = targets.reshape(160, 160).numpy().astype(np.uint8)
    labels[:40] = UNKNOWN
    return Example(logits.reshape(2, 160, 160).numpy(), labels)


def test_a_model_that_is_too_sure_is_mended():
    model = create_model("unet", in_channels=2, width=2, depth=1)
    _, held_out = hold_out([regions()], 0.5)
    found = calibrate(Sure(model, 4.0), held_out)
    assert found.temperature == pytest.approx(4, rel=0.1)
    assert found.error_before > 0.08
    assert found.error_after < found.error_before / 3


def test_too_few_regions_say_nothing():
    model = create_model("unet", in_channels=2, width=2, depth=1)
    example = regions()
    example.labels[:, 32:] = UNKNOWN
    example.labels[96:] = UNKNOWN
    _, held_out = hold_out([example], 0.5)
    assert calibrate(Sure(model, 4.0), held_out) is None


class TestInTheModel:
    def test_fine_tuning_fits_it_and_the_file_keeps_it(self, tmp_path):
        rng = np.random.default_rng(0)
        image = rng.random((128, 128)).astype(np.float32)
        labels = (image > 0.5).astype(np.uint8)
        model = create_model("unet", width=2, depth=1)
        result = finetune(model, [image], [labels], steps=3, holdout=0.5)
        assert result.calibration is not None
        temperature = result.calibration.temperature
        assert result.model.spec.temperature == temperature
        assert result.to_dict()["calibration"]["temperature"] == temperature
        again = load_model(save_model(result.model, tmp_path / "m"))
        assert again.spec.temperature == temperature
        assert adapt_model(again, in_channels=2).spec.temperature == temperature
        # Nothing held out: the one from before is as good as any.
        kept = finetune(again, [image], [labels], steps=1, holdout=0)
        assert kept.calibration is None
        assert kept.model.spec.temperature == temperature

    def test_confidence_follows_it_and_classes_do_not(self):
        torch.manual_seed(0)
        image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
        model = create_model("unet", width=4, depth=1).eval()
        plain = predict(model, image, confidence=True)
        model.spec = type(model.spec)(**{**vars(model.spec), "temperature": 3.0})
        cool = predict(model, image, confidence=True)
        np.testing.assert_array_equal(plain.labels, cool.labels)
        # Of two classes the odds become their cube root.
        odds = plain.confidence / (1 - plain.confidence)
        np.testing.assert_allclose(
            cool.confidence, odds ** (1 / 3) / (1 + odds ** (1 / 3)), atol=1e-5
        )

    @pytest.mark.parametrize("wrong", [0, -1, float("nan")])
    def test_a_wrong_one_is_refused(self, wrong):
        model = create_model("unet", width=2, depth=1)
        with pytest.raises(InputError, match="temperature"):
            type(model.spec)(**{**vars(model.spec), "temperature": wrong})
