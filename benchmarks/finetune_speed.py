"""How fast fine-tuning is: its steps beside those of a bare loop, and its start.

The bare loop knows one batch and does what no training can do without: forward pass,
loss, backward pass, AdamW, with the same network, tensors and precision.  Ours also
draws crops, changes them, clips the gradient and averages the weights.  Both take turns
in one process.  The start is that of the child process as the dock runs it, from its
command to its first step.

    python -m benchmarks --only finetune_speed
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import tifffile
import torch

from benchmarks._report import Row, row
from napari_seg.inference.device import pick_device, trains_in_bfloat16
from napari_seg.models.base import SegmentationModel
from napari_seg.models.checkpoint import load_model
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.training.child import step_from_json
from napari_seg.training.examples import prepare_examples
from napari_seg.training.finetune import FinetuneOptions
from napari_seg.training.loop import Budget, train
from napari_seg.training.losses import LOSSES
from napari_seg.training.sampling import CropSampler

__all__ = ["MODELS", "run", "steps"]

MODELS = ("nuclei", "nuclei-fast")
ROUNDS, STEPS, STARTS = 5, 12, 5
SHARE, START_SECONDS = 0.9, 5.0


def run() -> list[Row]:
    """Return a row for each model, and one for the start."""
    return [*(steps(name) for name in MODELS), _start()]


def _sampler(model: SegmentationModel, options: FinetuneOptions) -> CropSampler:
    fields = [synthetic_nuclei((512, 512), 120, seed=seed) for seed in range(2)]
    examples = prepare_examples(
        [field.image for field in fields], [field.mask for field in fields], model.spec
    )
    return CropSampler(examples, options.crop, device=next(model.parameters()).device)


def steps(name: str) -> Row:
    """Return a row on the steps of a bundled model, on the best device here."""
    device = pick_device("auto")
    options = FinetuneOptions()
    ours, bare = [], []
    for _ in range(ROUNDS):
        model = load_model(name).to(device)
        sampler = _sampler(model, options)
        ours.append(_rate_of_ours(model, sampler, options))
        bare.append(_rate_of_bare(load_model(name).to(device), sampler, options))
    shares = [mine / other for mine, other in zip(ours, bare, strict=True)]
    share = statistics.median(shares)
    half = "bfloat16" if trains_in_bfloat16(device) else "float32"
    return row(
        f"Steps a second, {name}, as a share of a bare loop's",
        f"{share:.2f}",
        f"at least {SHARE}",
        share >= SHARE,
        f"{statistics.median(ours):.2f} and {statistics.median(bare):.2f} steps/s, "
        f"{options.batch} crops of {options.crop}², {half}; {ROUNDS} rounds of {STEPS} "
        f"steps, {min(shares):.2f} to {max(shares):.2f}",
    )


def _rate_of_ours(
    model: SegmentationModel, sampler: CropSampler, options: FinetuneOptions
) -> float:
    training = train(model, sampler, options, Budget(steps=STEPS + 1))
    with closing(training):
        # The first step is slower: memory, kernels.
        next(training)
        start = time.perf_counter()
        for _ in training:
            pass
    return STEPS / (time.perf_counter() - start)


def _rate_of_bare(
    model: SegmentationModel, sampler: CropSampler, options: FinetuneOptions
) -> float:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = sampler.batch(options.batch)
    images = images.contiguous(memory_format=torch.channels_last)
    loss, optimizer = LOSSES[options.loss], torch.optim.AdamW(model.parameters())
    half = trains_in_bfloat16(images.device)
    start = 0.0
    for step in range(STEPS + 1):
        if step == 1:
            start = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            logits = model(images)
        error = loss(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        error.item()
    return STEPS / (time.perf_counter() - start)


def _start() -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        field = synthetic_nuclei((512, 512), 120, seed=0)
        for part, pixels in (("images", field.image), ("labels", field.mask)):
            (folder / part).mkdir()
            tifffile.imwrite(folder / part / "0.tif", np.asarray(pixels))
        seconds = [_first_step(folder) for _ in range(STARTS)]
    median = statistics.median(seconds)
    return row(
        "From the command to the first step",
        f"{median:.1f} s",
        f"at most {START_SECONDS:.0f} s",
        median <= START_SECONDS,
        f"child process, 512² labelled; {STARTS} starts, {min(seconds):.1f} to "
        f"{max(seconds):.1f} s",
    )


def _first_step(folder: Path) -> float:
    command = [sys.executable, "-m", "napari_seg", "finetune", "-m", "nuclei"]
    command += ["--images", str(folder / "images"), "--labels", str(folder / "labels")]
    command += ["-o", str(folder / "new"), "--steps", "1", "--progress", "json"]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if step_from_json(line) is not None:
                elapsed = time.perf_counter() - start
                process.communicate()
                return elapsed
    raise RuntimeError(f"{' '.join(command)} made no step.")
