"""What the channels of a package's output mean, and logits of classes made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_seg.zoo.forms import Form, Unfit
from napari_seg.zoo.steps import Affine, Binarize, Clip, Named, steps_of

__all__ = ["Answer", "answer_of"]

#: Smallest probability that has a logarithm to compute with.
_LEAST = 1e-7
#: How far a sum of probabilities may be from 1.
_CLOSE = 1e-2
#: Words for what is told about instances, or about no classes at all.
_NO_CLASSES = (
    "flow",
    "affinit",
    "distance",
    "embedding",
    "gradient",
    "instance",
    "ray",
)
_BACKGROUND = "background"


@dataclass(frozen=True)
class Answer:
    """How the channels of an output become logits of classes.

    Attributes
    ----------
    classes : tuple of str
        Their names, the background first.
    order : tuple of int
        Which channels are the classes, or the classes beside the background.
    separate : bool
        Each channel says by itself whether its class is there, and none of them is the
        background; else the channels exclude each other.
    probability : bool
        Whether channels are probabilities, and not logits.
    gain, offset : float
        What channels are multiplied by, and what is added, before that.
    threshold : float
        Probability, or logit, above which a class of its own channel is there.
    """

    classes: tuple[str, ...]
    order: tuple[int, ...]
    separate: bool
    probability: bool
    gain: float = 1.0
    offset: float = 0.0
    threshold: float = 0.0

    def logits(self, raw: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of channels (N, C, H, W)."""
        x = raw[:, list(self.order)] * self.gain + self.offset
        if not self.separate:
            return x.clamp(min=_LEAST).log() if self.probability else x
        threshold = self.threshold
        if self.probability:
            x = x.clamp(_LEAST, 1 - _LEAST).logit()
            threshold = math.log(threshold / (1 - threshold))
        return torch.cat([torch.zeros_like(x[:, :1]), x - threshold], dim=1)


def answer_of(
    tensor: Mapping[str, Any],
    form: Form,
    tags: Sequence[str],
    example: NDArray[Any] | None,
) -> Answer:
    """Return what an output means.

    Parameters
    ----------
    tensor : mapping
        Its description.
    form : Form
        Its layout.
    tags : sequence of str
        Of the package.
    example : ndarray or None
        The package's own test output, with the channels on axis 0: what nobody says
        can be seen there.

    Raises
    ------
    Unfit
        If these are no classes.
    """
    _check_words(tensor, form)
    steps = steps_of(tensor.get("postprocessing") or (), str(tensor.get("axes")))
    gain, offset, threshold, ends = 1.0, 0.0, None, ""
    for step in steps:
        if isinstance(step, Affine) and len(step.gain) == 1 and step.gain[0] > 0:
            if ends or len(step.offset) > 1:
                raise Unfit("changes its answer in a way that is not known here")
            gain, offset = gain * step.gain[0], offset * step.gain[0] + step.offset[0]
        elif isinstance(step, Named) and not ends:
            ends = step.name
        elif isinstance(step, Binarize) and len(step.threshold) == 1:
            threshold = step.threshold[0]
        elif not isinstance(step, Clip):
            raise Unfit("changes its answer in a way that is not known here")
    separate, probability = _kind(ends, threshold, form, tags, example)
    names, order = _named(form, separate)
    if ends == "sigmoid" and threshold is not None:
        threshold = _logit(threshold)
    usual = 0.5 if probability else 0.0
    return Answer(
        classes=names,
        order=order,
        separate=separate,
        probability=probability,
        gain=gain,
        offset=offset,
        threshold=usual if threshold is None else threshold,
    )


def _check_words(tensor: Mapping[str, Any], form: Form) -> None:
    """Refuse what tells of objects, distances or directions."""
    data = tensor.get("data") or {}
    parts = data if isinstance(data, list) else [data]
    kinds = {str(part.get("type", "float32")) for part in parts}
    kinds |= {str(tensor.get("data_type", "float32"))}
    if any("int" in kind for kind in kinds):
        raise Unfit("gives finished labels or numbered objects, and no probabilities")
    name = str(tensor.get("id", tensor.get("name", "")))
    said = " ".join([name, *form.names]).lower()
    found = [word for word in _NO_CLASSES if word in said]
    if found:
        raise Unfit(f"gives {found[0]}s or the like, and no classes")


def _kind(
    ends: str,
    threshold: float | None,
    form: Form,
    tags: Sequence[str],
    example: NDArray[Any] | None,
) -> tuple[bool, bool]:
    """Return whether channels stand by themselves, and whether as probabilities."""
    if ends == "softmax" and form.channels > 1:
        return False, False
    if ends == "sigmoid":
        return True, False
    if threshold is not None:
        return True, 0 < threshold < 1
    if example is None:
        raise Unfit("does not say what its output means, and has no test output")
    low, high = float(np.min(example)), float(np.max(example))
    if low >= -_CLOSE and high <= 1 + _CLOSE:
        exclusive = form.channels > 1 and np.allclose(example.sum(0), 1, atol=_CLOSE)
        return not exclusive, True
    if form.channels > 1 and any("segmentation" in tag.lower() for tag in tags):
        return False, False
    raise Unfit("gives an output that is no probability of classes")


def _named(form: Form, separate: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of all classes, the background first, and their channels."""
    numbers, names = tuple(range(form.channels)), form.names
    plain = len(set(names)) < form.channels or any(not n.strip() for n in names)
    if separate:
        if plain or _BACKGROUND in names:
            names = tuple(f"class {i + 1}" for i in numbers)
        if form.channels == 1 and (plain or names[0].startswith("channel")):
            names = ("foreground",)
        return (_BACKGROUND, *names), numbers
    if plain:
        return (_BACKGROUND, *(f"class {i}" for i in numbers[1:])), numbers
    # The background comes first here, whichever channel it has.
    first = [i for i in numbers if names[i].lower() == _BACKGROUND][:1] or [0]
    order = (*first, *(i for i in numbers if i not in first))
    return tuple(names[i] for i in order), order


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        raise Unfit(f"has the threshold {probability:g} for a probability")
    return math.log(probability / (1 - probability))
