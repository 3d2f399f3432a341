"""The training loop: one for training from scratch, fine-tuning and pretraining."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_seg.errors import InputError, TrainingError
from napari_seg.inference.device import is_out_of_memory, trains_in_bfloat16
from napari_seg.models.base import SegmentationModel
from napari_seg.models.layers import BatchNorm2d, Prior
from napari_seg.options import Options, option
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.augmentation import AugmentOptions, augment
from napari_seg.training.losses import LOSSES
from napari_seg.training.sampling import Sampler

__all__ = [
    "Budget",
    "FurtherLoss",
    "Loss",
    "Norms",
    "Step",
    "TrainOptions",
    "enough_memory",
    "train",
]

#: Maps logits (N, K, H, W) and targets (N, H, W), or of volumes, to a scalar.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

#: Maps images (N, C, H, W), logits (N, K, H, W), labels (N, H, W) and the number of
#: crops that are replayed, the first ones, to a scalar.
FurtherLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]

#: Weight of the auxiliary head's loss, as in torchvision's reference training.
_AUXILIARY_WEIGHT = 0.5

#: Devices for which PyTorch has AdamW in one piece. The small networks here have many
#: small parameters, each of which else costs a dozen operations of its own.
_FUSED = ("cpu", "cuda")

#: Crops of a batch from which on "auto" lets their statistics count. Those of images of
#: another kind leave a network as good as not normalised: it then learns slowly.
_ENOUGH_CROPS = 4

#: What the statistics of a batch count for in "auto", beside those of the start. By a
#: batch alone a network is worse on images that are unlike the few labelled ones.
_SHARE_OF_BATCH = 0.25

#: Share of the budget after which "auto" keeps the statistics of every layer: the
#: weights then settle for those that prediction uses (Wu & Johnson 2021, "Rethinking
#: Batch in BatchNorm", arXiv:2105.07576).
_STATISTICS_LEARNED = 0.75


def statistics_option(default: str) -> Any:
    """Declare the field `norm_statistics`, whose default depends on the start."""
    return option(
        default,
        "Normalisation statistics",
        "Mean and variance in batch normalisation. Trained: those of each batch, poor "
        "with few crops. Kept: as the model has them. Auto: between the two, where the "
        "model has some, and kept for the last quarter; with fewer than four crops "
        "kept throughout.",
        choices=("auto", "trained", "kept"),
    )


@dataclass(frozen=True)
class TrainOptions(Options):
    """How a network is trained."""

    loss: str = option(
        "ce_dice",
        "Loss",
        "What training makes small: cross entropy for each pixel, Dice for overlap.",
        choices=tuple(LOSSES),
    )
    class_weights: str = option(
        "none",
        "Class weights",
        "Balanced: in the entropy, the pixels of each class weigh as much together as "
        "those of any other, so that thin or rare classes are not passed over. Dice "
        "counts classes alike anyway.",
        choices=("none", "balanced"),
    )
    learning_rate: float = option(
        3e-3,
        "Learning rate",
        "Size of the steps; larger learns faster and is less stable.",
        minimum=1e-6,
        maximum=1e-1,
        step=1e-4,
    )
    encoder_rate: float = option(
        1.0,
        "Encoder rate",
        "Learning rate of the encoder as a share of that of the decoder; at 0 the "
        "encoder stays as it is.",
        minimum=0,
        maximum=1,
        step=0.1,
    )
    weight_decay: float = option(
        1e-4,
        "Weight decay",
        "Pull of the weights towards zero.",
        minimum=0,
        maximum=1,
        step=1e-4,
    )
    batch: int = option(
        8,
        "Batch",
        "Crops in one training step; left at 8, a model of volumes takes 2.",
        minimum=1,
        maximum=256,
        unit="crops",
    )
    crop: int = option(
        128,
        "Crop",
        "Height and width of a crop; of a volume it is as deep as that, by the "
        "model's anisotropy, and 64 where it is left at 128.",
        minimum=32,
        maximum=1024,
        step=32,
        unit="px",
    )
    norm_statistics: str = statistics_option("trained")
    average: float = option(
        0.99,
        "Weight averaging",
        "Memory of the moving average of the weights that becomes the result.",
        minimum=0,
        maximum=0.9999,
        step=0.01,
    )
    patience: float = option(
        0.5,
        "Patience",
        "Training ends early when the Dice of held-out regions has not risen for this "
        "share of the minutes; with 1 it never does.",
        minimum=0.1,
        maximum=1,
        step=0.1,
    )
    precision: str = option(
        "auto",
        "Precision",
        "Numbers that convolutions compute with: bfloat16 is faster where the "
        "processor knows it, which auto asks.",
        choices=("auto", "float32", "bfloat16"),
    )
    augmentation: AugmentOptions = field(default_factory=AugmentOptions)


@dataclass(frozen=True)
class Budget:
    """When training ends: after some steps, some seconds, or whichever is first."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.steps, self.seconds) if limit is not None]
        if not limits or any(not limit > 0 for limit in limits):
            raise InputError(
                "Training needs a budget above zero: minutes, or a number of steps."
            )

    def spent(self, steps: int, seconds: float) -> float:
        """Return the share of the budget that is used up, 0 to 1."""
        by_steps = steps / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(max(by_steps, by_time), 1.0)


@dataclass(frozen=True)
class Step:
    """What one training step reports.

    Attributes
    ----------
    step : int
        Steps done, from 1.
    loss : float
        Training loss of this step's batch.
    spent : float
        Share of the budget that is used up, 0 to 1.
    seconds : float
        Seconds since the start.
    holdout : float or None
        Result of `evaluate`, where it was called after this step.
    """

    step: int
    loss: float
    spent: float
    seconds: float
    holdout: float | None = None

    @property
    def seconds_left(self) -> float:
        """Estimate of the seconds until the budget is used up."""
        return self.seconds * (1 - self.spent) / max(self.spent, 1e-6)


def train(
    model: SegmentationModel,
    sampler: Sampler,
    options: TrainOptions,
    budget: Budget,
    *,
    evaluate: Callable[[SegmentationModel], float] | None = None,
    evaluations: int = 8,
    keep_best: Callable[[], bool] = lambda: True,
    seed: int = 0,
    loss: Loss | None = None,
    further_losses: Sequence[FurtherLoss] = (),
) -> Generator[Step, None, None]:
    """Train `model` in place, one yield for each step.

    At its end, and also when the generator is closed before (cancel), `model` holds
    the weight average that scored best if `keep_best` says so, or else the last one,
    and is in eval mode. Where the score has not risen for the share of a budget in
    seconds that `options.patience` says, the learning rate falls to zero within
    another tenth of it, and training ends.

    Parameters
    ----------
    model : SegmentationModel
        On the device where training runs.
    sampler : Sampler
        Batches, on the same device.
    options : TrainOptions
        Rates, sizes, loss and augmentation.
    budget : Budget
        Steps or seconds.
    evaluate : callable or None
        Maps the model (averaged weights, eval mode) to a score, higher is better.
    evaluations : int
        How often `evaluate` is called, spread evenly over the budget.
    keep_best : callable
        Asked at the end, where something was evaluated, whether the average that
        scored best is to be kept rather than the last one.
    seed : int
        Seed of the augmentation.
    loss : callable, optional
        Maps logits and targets to a scalar; by default what `options` names.
    further_losses : sequence of callable
        Each maps images as the network takes them, logits, labels and the number of
        replayed crops to a scalar that is added.

    Yields
    ------
    Step
        Loss and progress.

    Raises
    ------
    TrainingError
        If the loss or its gradient is no longer finite, or memory runs out; `model`
        then holds what it would after a cancel.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    half = options.precision == "bfloat16" or (
        options.precision == "auto" and trains_in_bfloat16(device)
    )
    loss_function = loss or _loss(options)
    # Before anything refers to its tensors, which this replaces.
    model.to(memory_format=model.memory_format)  # type: ignore[call-overload]
    optimizer = _optimizer(model, options)
    norms = Norms(model, options)
    average = _Average(model, options.average)
    schedule = _Schedule()
    best, risen, spent = math.nan, 0.0, 0.0
    start, step, evaluated = time.monotonic(), 0, 0
    try:
        with enough_memory(device, options):
            # What the last step reported decides, so that the last one is evaluated.
            while spent < schedule.end:
                _set_rate(optimizer, schedule.factor(spent))
                norms.set_mode(spent)
                images, labels = augment(
                    *sampler.batch(options.batch), options.augmentation, generator
                )
                # After augmentation, which works on the scale 0 to 1.
                images = model.standardize(images)
                images = images.contiguous(memory_format=model.memory_format)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    logits, auxiliary = model.forward_with_auxiliary(images)
                error = loss_function(logits.float(), labels)
                for further_loss in further_losses:
                    with torch.autocast(device.type, torch.bfloat16, enabled=half):
                        further = further_loss(images, logits, labels, sampler.replayed)
                    error = error + further
                if replayed := sampler.replayed:
                    answers = logits.detach()[:replayed].float()
                    sampler.learn_from(_of_each(answers, labels[:replayed]))
                if auxiliary is not None:
                    error = error + _AUXILIARY_WEIGHT * loss_function(
                        auxiliary.float(), labels
                    )
                optimizer.zero_grad(set_to_none=True)
                error.backward()
                size = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                step += 1
                value = error.item()
                # Before the weights have moved: what is finite so far stays so.
                if not (math.isfinite(value) and bool(size.isfinite())):
                    raise TrainingError(
                        f"Training diverged at step {step}: the loss is {value:g}, its "
                        f"gradient {float(size):g}. A lower learning rate helps; the "
                        "model from before is unchanged."
                    )
                optimizer.step()
                average.update(step)
                seconds = time.monotonic() - start
                spent = budget.spent(step, seconds)
                holdout = None
                if evaluate is not None and (
                    spent >= schedule.end or spent * evaluations > evaluated + 1
                ):
                    evaluated = int(spent * evaluations)
                    with average.applied():
                        holdout = evaluate(model)
                    if not best >= holdout:
                        best, risen = holdout, spent
                        average.keep()
                    if budget.seconds is not None and spent - risen >= options.patience:
                        schedule.cool_down(spent)
                yield Step(step, value, spent, seconds, holdout)
    finally:
        norms.release()
        average.finish(best=keep_best())
        model.eval()


@contextmanager
def enough_memory(device: torch.device, options: TrainOptions) -> Iterator[None]:
    """Say what helps where memory runs out inside.

    Raises
    ------
    TrainingError
        Instead of PyTorch's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"There is too little memory on {device} for {options.batch} crops of "
            f"{options.crop} px: try fewer or smaller ones. The model from before is "
            "unchanged."
        ) from error


def _loss(options: TrainOptions) -> Loss:
    loss = LOSSES[options.loss]
    if options.class_weights == "none":
        return loss
    return partial(loss, class_weights=options.class_weights)


def _of_each(logits: Tensor, labels: Tensor) -> list[float]:
    """Return the mean cross entropy of the known pixels of each crop, NaN for none."""
    entropy = F.cross_entropy(
        logits, labels.long(), ignore_index=UNKNOWN, reduction="none"
    )
    of_crop = tuple(range(1, labels.ndim))
    known = (labels != UNKNOWN).sum(dim=of_crop)
    return [float(each) for each in (entropy.sum(dim=of_crop) / known).tolist()]


def _optimizer(model: SegmentationModel, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with a rate of its own for the encoder.

    Biases and normalisation parameters are not decayed.
    """
    encoder = {id(parameter) for parameter in model.encoder_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        share = options.encoder_rate if id(parameter) in encoder else 1.0
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": options.learning_rate * share,
                "weight_decay": decay,
            }
            for (share, decay), parameters in groups.items()
        ],
        lr=options.learning_rate,
        fused=next(model.parameters()).device.type in _FUSED,
    )


class _Schedule:
    """Linear warm-up over 5 % of the budget, then a half cosine to zero.

    Attributes
    ----------
    end : float
        Share of the budget at which training ends: 1, or earlier after `cool_down`.
    """

    _WARM_UP = 0.05
    #: Weights of a high rate are worse than what the same training settles to.
    _COOL_DOWN = 0.1

    def __init__(self) -> None:
        self.end = 1.0
        self._cooling_from = 1.0

    def cool_down(self, spent: float) -> None:
        """End soon, with the rate falling to zero until then."""
        if spent < self._cooling_from:
            self._cooling_from = spent
            self.end = min(spent + self._COOL_DOWN, 1.0)

    def factor(self, spent: float) -> float:
        """Return what the peak rate is multiplied by, 0 to 1."""
        if spent < self._WARM_UP:
            return 0.1 + 0.9 * spent / self._WARM_UP
        progress = (spent - self._WARM_UP) / (1 - self._WARM_UP)
        factor = 0.5 * (1 + math.cos(math.pi * progress))
        if spent > self._cooling_from:
            factor *= (self.end - spent) / (self.end - self._cooling_from)
        return max(factor, 0.0)


def _set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class Norms:
    """Switches a model to training, but for the statistics that shall stay.

    Parameters
    ----------
    model : SegmentationModel
        As training finds it.
    options : TrainOptions
        Of which `norm_statistics`, `batch` and `encoder_rate` matter: an encoder that
        does not learn keeps its statistics, too.
    """

    def __init__(self, model: SegmentationModel, options: TrainOptions) -> None:
        self._model = model
        self._layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        self._choice = options.norm_statistics
        self._late: bool | None = None
        encoder = {id(parameter) for parameter in model.encoder_parameters()}
        few = self._choice == "auto" and options.batch < _ENOUGH_CROPS
        self._kept = [
            layer
            for layer in self._layers
            if (few and _has_learned(layer))
            or (options.encoder_rate == 0 and id(layer.weight) in encoder)
        ]
        self._blended = [
            layer
            for layer in self._layers
            if self._choice == "auto"
            and isinstance(layer, BatchNorm2d)
            and _has_learned(layer)
        ]
        for layer in self._blended:
            layer.prior = _prior(layer)

    def release(self) -> None:
        """Let no layer hold on to statistics of before any longer."""
        for layer in self._blended:
            layer.prior = None

    def set_mode(self, spent: float) -> None:
        """Set the mode of all layers; `spent` is the share of the budget, 0 to 1."""
        late = self._choice == "auto" and spent >= _STATISTICS_LEARNED
        if self._model.training and late is self._late:
            # An evaluation in between hands back a model in eval mode.
            return
        self._late = late
        self._model.train()
        for layer in self._layers if self._choice == "kept" or late else self._kept:
            layer.eval()


def _prior(layer: BatchNorm2d) -> Prior:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, variance = layer.running_mean.clone(), layer.running_var.clone()
    return Prior(mean, variance, _SHARE_OF_BATCH)


def _has_learned(layer: nn.BatchNorm2d) -> bool:
    """Tell whether a layer's statistics are others than those it was made with.

    Not by its count of batches, which published files may lack.
    """
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        return False
    return bool((mean != 0).any() or (variance != 1).any())


class _Average:
    """Exponential moving average of weights and statistics (Polyak averaging)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._mean = self._snapshot()
        self._kept: dict[str, Tensor] | None = None
        # The tensors of the model themselves: whatever is loaded is copied into them.
        state = model.state_dict()
        floats = [key for key, value in state.items() if value.is_floating_point()]
        self._averaged = [[each[key] for key in floats] for each in (self._mean, state)]
        self._counted = [(self._mean[k], state[k]) for k in state.keys() - set(floats)]

    def _snapshot(self) -> dict[str, Tensor]:
        state = self._model.state_dict()
        return {key: value.detach().clone() for key, value in state.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the model; young averages forget faster."""
        decay = min(self._decay, (1 + step) / (10 + step))
        # All in one call: the many small ones would cost more than the arithmetic.
        get_ema_multi_avg_fn(decay)(*self._averaged, step)
        for mean, value in self._counted:
            mean.copy_(value)

    def applied(self) -> _Swap:
        """Return a context in which the model has the averaged weights."""
        return _Swap(self._model, self._mean, self._snapshot())

    def keep(self) -> None:
        """Remember the average as it is now as the best one."""
        self._kept = {key: value.clone() for key, value in self._mean.items()}

    def finish(self, *, best: bool) -> None:
        """Give the model the best average, if there is one, or the last."""
        kept = self._kept if best else None
        self._model.load_state_dict(self._mean if kept is None else kept)


@dataclass
class _Swap:
    model: nn.Module
    inside: dict[str, Tensor]
    outside: dict[str, Tensor]

    def __enter__(self) -> None:
        self.model.load_state_dict(self.inside)
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.load_state_dict(self.outside)
