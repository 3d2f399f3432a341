"""Fine-tuning on partly labelled images, judged on held-out regions."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_seg.inference.device import pick_device
from napari_seg.models.base import SegmentationModel
from napari_seg.models.spec import ModelSpec
from napari_seg.options import option
from napari_seg.scoring.confusion import Scores
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.calibration import Calibration, calibrate
from napari_seg.training.distillation import Distillation
from napari_seg.training.examples import check_objects, prepare_examples
from napari_seg.training.guard import (
    Holdout,
    Verdict,
    Watch,
    compare,
    fresh_share,
    hold_out,
    known_pixels,
    region_names,
)
from napari_seg.training.head import fit_new_classes
from napari_seg.training.loop import (
    Budget,
    FurtherLoss,
    Step,
    TrainOptions,
    statistics_option,
    train,
)
from napari_seg.training.objects import OBJECTS_TAUGHT, ObjectTerm, number_examples
from napari_seg.training.rehearsal import drawn_replay
from napari_seg.training.sampling import (
    CropSampler,
    Example,
    MixedSampler,
    Origin,
    Sampler,
)

__all__ = [
    "FinetuneOptions",
    "FinetuneResult",
    "Replay",
    "default_options",
    "finetune",
    "for_volumes",
]

#: Images and labels, then ranges and origins if known; see :func:`finetune`.
Replay: TypeAlias = (
    tuple[Sequence[ArrayLike], Sequence[ArrayLike]]
    | tuple[Sequence[ArrayLike], Sequence[ArrayLike], Sequence[ArrayLike | None]]
    | tuple[
        Sequence[ArrayLike],
        Sequence[ArrayLike],
        Sequence[ArrayLike | None],
        Sequence[Origin | None],
    ]
)

#: How much more often than others a window is drawn that the model has not learned yet.
_FRESH = 2.0
#: Regions that are scored while training runs, and how often: enough for a curve, and
#: quick; a block takes about as long as a quarter of a step.
_WATCHED, _EVALUATIONS = 16, 8
_WATCHED_BLOCKS, _EVALUATIONS_OF_BLOCKS = 4, 5


@dataclass(frozen=True)
class FinetuneOptions(TrainOptions):
    """How a model is fine-tuned on corrections."""

    holdout: float = option(
        0.2,
        "Held out",
        "Share of the labelled regions that only the comparison of old and new sees.",
        minimum=0,
        maximum=0.9,
        step=0.05,
    )
    replay_share: float = option(
        0.5,
        "Replay",
        "Share of the crops that come from earlier images, so that less of them is "
        "forgotten.",
        minimum=0,
        maximum=0.9,
        step=0.1,
    )
    drawn_share: float = option(
        0.1,
        "Drawn replay",
        "Share of the other crops that come from drawn images, for the bundled nuclei "
        "models: no earlier images of those exist here.",
        minimum=0,
        maximum=0.9,
        step=0.1,
    )
    distillation: float = option(
        1.0,
        "Self-distillation",
        "How much the new model is held to what the old one says of earlier and drawn "
        "images, beside their labels.",
        minimum=0,
        maximum=10,
        step=0.1,
    )
    distillation_unknown: float = option(
        0.0,
        "… of unknown pixels",
        "The same for pixels of the new images that are not labelled; 0 leaves the "
        "model free there.",
        minimum=0,
        maximum=10,
        step=0.1,
    )
    norm_statistics: str = statistics_option("auto")
    augmentation: AugmentOptions = field(
        default_factory=lambda: AugmentOptions(scale=1.25, intensity=0.5, blur=0.1)
    )


#: Crops from which an object head learns, as a share of those of the classes.
_OBJECT_SHARE = 0.5
#: Crops of volumes: 8 of 128 pixels a side would be 17 million voxels.
_VOLUME_BATCH, _VOLUME_CROP = 2, 64
#: For a model that knows something already. With so few crops the usual rate made one
#: of mouse embryo nuclei worse in 15 steps (Dice 0.79 → 0.66 and 0.76, against 0.81 and
#: 0.77 at this one); in 40 it came to 0.82 twice, against 0.82 and 0.79.
_VOLUME_RATE = 1e-3


def default_options(spec: ModelSpec) -> FinetuneOptions:
    """Return the usual options for a model.

    Of volumes a batch has fewer crops, and the learning rate is lower, if the model was
    trained before.
    """
    options = FinetuneOptions()
    if spec.ndim == 2:
        return options
    options = for_volumes(options)
    return replace(options, learning_rate=_VOLUME_RATE) if spec.history else options


def for_volumes(options: FinetuneOptions) -> FinetuneOptions:
    """Return options with the usual batch and crop for volumes."""
    return replace(options, batch=_VOLUME_BATCH, crop=_VOLUME_CROP)


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned model and what the guard says of it.

    Attributes
    ----------
    model : SegmentationModel
        The new model, on the CPU, in eval mode; the given one is unchanged.
    verdict : Verdict
        Old against new on held-out regions of the given images.
    earlier : Verdict or None
        The same on held-out regions of the replayed images: what was forgotten.
    history : list of Step
        Every training step.
    calibration : Calibration or None
        What the confidence of the new model is divided by, and how far it can be
        believed then; None where too little was held out.
    seconds : float
        From the call to the verdict.
    stopped : bool
        Whether `should_stop` ended it; the model is then as it was learned so far.
    """

    model: SegmentationModel
    verdict: Verdict
    earlier: Verdict | None
    history: list[Step]
    calibration: Calibration | None
    seconds: float
    stopped: bool

    @property
    def before(self) -> Scores:
        """Scores of the given model on held-out regions."""
        return self.verdict.before

    @property
    def after(self) -> Scores:
        """Scores of the new model on the same regions."""
        return self.verdict.after

    @property
    def improved(self) -> bool:
        """Whether the new model is better beyond chance."""
        return self.verdict.improved

    @property
    def plateau(self) -> bool:
        """Whether training ended early, since the held-out Dice no longer rose."""
        return not self.stopped and self.history[-1].spent < 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, the weights aside."""
        return {
            **self.verdict.to_dict(),
            "earlier": self.earlier.to_dict() if self.earlier else None,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "steps": len(self.history),
            "seconds": self.seconds,
            "stopped": self.stopped,
            "plateau": self.plateau,
        }


def finetune(
    model: SegmentationModel,
    images: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    minutes: float | None = None,
    holdout: float = 0.2,
    seed: int = 0,
    *,
    steps: int | None = None,
    replay: Replay | None = None,
    ranges: Sequence[ArrayLike | None] | None = None,
    origins: Sequence[Origin | None] | None = None,
    objects: Sequence[ArrayLike | None] | None = None,
    device: str = "auto",
    options: FinetuneOptions | None = None,
    on_step: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FinetuneResult:
    """Fine-tune a copy of `model` on partly labelled images.

    Parameters
    ----------
    model : SegmentationModel
        The start; left unchanged.
    images : sequence of array
        (Y, X) or (Y, X, C) each, any real dtype; for a model of volumes (Z, Y, X) or
        (Z, Y, X, C).
    labels : sequence of array of int
        (Y, X) or (Z, Y, X) each: class ids, 255 where the class is unknown.
    minutes : float or None
        Time budget; one minute where neither this nor `steps` is given.
    holdout : float
        Share of the labelled regions that is held out for the verdict.
    seed : int
        Seed of sampling and augmentation.
    steps : int or None
        Budget in training steps.
    replay : tuple or None
        Images and labels of earlier work, and, if known, their `ranges` and `origins`:
        mixed in against forgetting.
    ranges : sequence of (array of shape (C, 2) or None), optional
        Intensities of each image that become 0 and 1, where `images` are windows of
        larger images; by default percentiles of each image.
    origins : sequence of (tuple of (str, int, int) or None), optional
        Name of the larger image, row and column of the window's corner: windows that
        touch there are one place to the verdict.
    objects : sequence of (array of int or None), optional
        Of each image the ids of its objects, (Y, X) and 0 for none, for models with an
        object head. Where they are None, those in the labels are cut at their waists;
        a head that has learned from given objects learns only if some are given again.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    options : FinetuneOptions or None
        Rates, sizes, augmentation; `holdout` above goes before theirs. None takes
        those of :func:`default_options`.
    on_step : callable or None
        Called after each step.
    should_stop : callable or None
        Asked after each step; True ends training with what was learned so far.

    Returns
    -------
    FinetuneResult
        New model, scores before and after on held-out regions, history.

    Raises
    ------
    NothingToLearnError
        If no pixel is labelled.
    LabelsError, ImageError, ChannelError
        If labels, objects, images and model do not fit each other.
    NotTrainableError
        If the model is a graph of another program.
    TrainingError
        If training diverged.
    """
    model.check_trainable()
    start = time.monotonic()
    options = replace(options or default_options(model.spec), holdout=holdout)
    has_head = model.spec.object_head
    told = has_head and any(each is not None for each in objects or ())
    teaches_objects = told or (has_head and not _knows_objects(model.spec))
    if teaches_objects:
        # It may have far to go when the classes, which are watched, have arrived.
        options = replace(options, patience=1.0)
    if minutes is None and steps is None:
        minutes = 1.0
    budget = Budget(steps, None if minutes is None else minutes * 60)
    chosen = pick_device(device)
    tuned = copy.deepcopy(model).to(chosen).eval()
    examples = prepare_examples(images, labels, model.spec, ranges, origins)
    old = prepare_examples(*replay[:2], model.spec, *replay[2:]) if replay else []
    trained = {name for run in model.spec.history for name in run.get("regions", ())}
    training, held_out = hold_out(examples, options.holdout, trained)
    replayed, earlier = hold_out(old, options.holdout, trained)
    training = [_favoured(example, trained) for example in training]
    drawn = drawn_replay(tuned) if options.drawn_share > 0 else []
    sampler = _sampler(training, (drawn, replayed), options, seed, tuned)
    watch = Watch(held_out.first(_WATCHED if model.ndim == 2 else _WATCHED_BLOCKS))
    # Held to its answers from before its last layer is fitted.
    ids = [*check_objects(objects, examples), *(None for _ in replayed)]
    further_losses: list[FurtherLoss] = [
        *_distillation(tuned, options, replayed=bool(drawn or old)),
    ]
    if teaches_objects:
        further_losses += _objects(tuned, [*training, *replayed], ids, options, seed)
    if model.spec.history:
        # Features of a new model are random: nothing to fit a layer to.
        fit_new_classes(tuned, sampler, options, seed)
    progress = train(
        tuned,
        sampler,
        options,
        budget,
        evaluate=watch if len(held_out) else None,
        evaluations=_EVALUATIONS if model.ndim == 2 else _EVALUATIONS_OF_BLOCKS,
        keep_best=watch.has_fallen,
        seed=seed,
        further_losses=further_losses,
    )
    # Dropout draws from the global state, which is handed back as it was.
    with torch.random.fork_rng([chosen] if chosen.type == "cuda" else []):
        torch.manual_seed(seed)
        history, stopped = _follow(progress, on_step, should_stop)
    # The start is scored at the end, too: the first step comes sooner.
    before = _confusions(copy.deepcopy(model).to(chosen), held_out, earlier)
    after = _confusions(tuned, held_out, earlier)
    verdict, forgotten = (
        compare(old_counts, new_counts, part.places)
        for old_counts, new_counts, part in zip(
            before, after, (held_out, earlier), strict=True
        )
    )
    calibration = calibrate(tuned, held_out)
    tuned = tuned.cpu()
    temperature = calibration.temperature if calibration else model.spec.temperature
    tuned.spec = replace(tuned.spec, temperature=temperature).with_history(
        {
            "parent": model.spec.name,
            "steps": len(history),
            "known_pixels": known_pixels(training),
            "regions": sorted({*region_names([*training, *replayed])} - trained),
            "dice_before": verdict.to_dict()["before"]["mean_dice"],
            "dice_after": verdict.to_dict()["after"]["mean_dice"],
            OBJECTS_TAUGHT: told,
        }
    )
    return FinetuneResult(
        model=tuned,
        verdict=verdict,
        earlier=forgotten if forgotten.regions else None,
        history=history,
        calibration=calibration,
        seconds=time.monotonic() - start,
        stopped=stopped,
    )


def _favoured(example: Example, trained: set[str]) -> Example:
    """Return an example that is drawn the more often the more of it is new."""
    weight = 1 + (_FRESH**2 - 1) * fresh_share(example, trained)
    return replace(example, weight=example.weight * weight)


def _follow(
    progress: Generator[Step, None, None],
    on_step: Callable[[Step], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[list[Step], bool]:
    """Run the training; return its steps, and whether it was stopped."""
    history = []
    for step in progress:
        history.append(step)
        if on_step is not None:
            on_step(step)
        if should_stop is not None and should_stop():
            progress.close()
            return history, True
    return history, False


def _sampler(
    training: list[Example],
    replays: tuple[list[Example], list[Example]],
    options: FinetuneOptions,
    seed: int,
    model: SegmentationModel,
) -> Sampler:
    """Return a sampler in which replayed images, `replays`, have their shares.

    What is being forgotten shows a higher loss, and is then seen more often.
    """
    device = next(model.parameters()).device
    crop = _crop(training, options.crop, model)
    sampler: Sampler = CropSampler(training, crop, seed, device)
    shares = options.drawn_share, options.replay_share
    for examples, share in zip(replays, shares, strict=True):
        if share > 0 and known_pixels(examples):
            seed += 1
            old = CropSampler(examples, crop, seed, device, prioritized=True)
            sampler = MixedSampler(sampler, old, share, seed)
    return sampler


def _crop(
    training: Sequence[Example], crop: int, model: SegmentationModel
) -> tuple[int, ...]:
    """Return the sides of a crop: of volumes about a cube, no deeper than they are."""
    if model.ndim == 2:
        return crop, crop
    stride = model.slice_stride
    wanted = round(crop / max(model.spec.anisotropy or 1.0, 1.0))
    deepest = max((example.labels.shape[0] for example in training), default=1)
    return -(-min(wanted, deepest) // stride) * stride, crop, crop


def _distillation(
    model: SegmentationModel, options: FinetuneOptions, *, replayed: bool
) -> list[Distillation]:
    weights = options.distillation * replayed, options.distillation_unknown
    return [Distillation(copy.deepcopy(model), *weights)] if any(weights) else []


def _knows_objects(spec: ModelSpec) -> bool:
    """Return whether a model has learned from objects that somebody has told apart.

    Masks cut at their waists have nothing to teach it: it would forget what it knows
    beyond that, and each step would take longer. While the classes learned from four
    windows for 60 steps, what an object head said stayed as good without (AP 0.843
    before, 0.841 after).
    """
    return any(run.get(OBJECTS_TAUGHT) for run in spec.history)


def _objects(
    model: SegmentationModel,
    examples: Sequence[Example],
    objects: Sequence[NDArray[np.integer] | None],
    options: FinetuneOptions,
    seed: int,
) -> list[ObjectTerm]:
    """Return the term from which an object head learns, if there are objects."""
    numbered = number_examples(examples, objects, seed)
    if not known_pixels(numbered):
        return []
    device = next(model.parameters()).device
    sampler = CropSampler(numbered, options.crop, seed, device)
    crops = max(round(_OBJECT_SHARE * options.batch), 1)
    return [ObjectTerm(model, sampler, crops, options.augmentation, seed)]


def _confusions(model: SegmentationModel, *parts: Holdout) -> list[np.ndarray]:
    model.eval()
    return [part.confusions(model) for part in parts]
