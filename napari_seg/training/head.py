"""A head start for new classes: the last layer is fitted before training begins.

A class that a model does not know yet has to win its pixels from the classes that it
knows, which are sure of them.  By gradient descent that takes longer than a short
training has.  On features that stay as they are the best last layer is a logistic
regression, which a convex solver finds in a fraction of a second; training of all
layers then starts from there (linear probing, then fine-tuning: Kumar et al. 2022,
arXiv:2202.10054).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.models.unet import UNetBase
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.augmentation import augment
from napari_seg.training.loop import Norms, TrainOptions, enough_memory
from napari_seg.training.sampling import Sampler

__all__ = ["fit_new_classes"]

#: Batches and, of their pixels, how many at most the layer is fitted to.
_BATCHES, _PIXELS = 4, 20_000
_ITERATIONS = 40
#: Pull towards the layer as it was, so that classes of few pixels do not run away.
_DECAY = 1e-3


def fit_new_classes(
    model: SegmentationModel, sampler: Sampler, options: TrainOptions, seed: int = 0
) -> bool:
    """Fit the last layer where a labelled class is one that the model never predicts.

    Only the weights of the last layer change; those of known classes may, too, as they
    have to give way.  Networks whose last layer is not a 1 × 1 (× 1) convolution at the
    resolution of the image are left as they are: of those here, all but the U-Nets.

    Parameters
    ----------
    model : SegmentationModel
        On the device of training; changed in place, and in eval mode afterwards.
    sampler : Sampler
        Crops as training will see them, replayed ones among them.
    options : TrainOptions
        Of which `batch`, `augmentation` and `norm_statistics` matter.
    seed : int
        Seed of augmentation and of the choice of pixels.

    Returns
    -------
    bool
        Whether the layer was fitted.

    Raises
    ------
    TrainingError
        If memory runs out.
    """
    if not isinstance(model, UNetBase):
        return False
    generator = torch.Generator().manual_seed(seed)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    norms = Norms(model, options)
    norms.set_mode(0.0)
    found = []
    with enough_memory(next(model.parameters()).device, options):
        for index in range(_BATCHES):
            images, labels = augment(
                *sampler.batch(options.batch), options.augmentation, generator
            )
            found.append(_features(model, model.standardize(images), labels))
            if index == 0 and _knows_all(model, found[0][0]):
                # Training need not wait any longer.
                break
    # The statistics of batch normalisation have moved.
    norms.release()
    model.load_state_dict(before)
    model.eval()
    features, ids = (torch.cat(part) for part in zip(*found, strict=True))
    if set(ids.unique().tolist()) <= _predicted(model.head, features):
        return False
    chosen = torch.randperm(len(ids), generator=generator)[:_PIXELS].to(ids.device)
    _fit(model.head, features[chosen], ids[chosen])
    return True


@torch.no_grad()
def _features(model: UNetBase, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the last layer sees of each known pixel, (P, C), and its class."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].float())
    )
    try:
        model(images.contiguous(memory_format=model.memory_format))
    finally:
        hook.remove()
    known = labels != UNKNOWN
    return seen[0].movedim(1, -1)[known], labels[known].long()


def _knows_all(model: UNetBase, features: Tensor) -> bool:
    return _predicted(model.head, features) == set(range(model.spec.n_classes))


@torch.no_grad()
def _predicted(head: nn.Conv2d | nn.Conv3d, features: Tensor) -> set[int]:
    """Return the classes that win a pixel."""
    logits = F.linear(features, head.weight.flatten(1), head.bias)
    return set(logits.argmax(dim=1).unique().tolist())


def _fit(head: nn.Conv2d | nn.Conv3d, features: Tensor, ids: Tensor) -> None:
    """Minimise the cross entropy of the layer on fixed features (L-BFGS)."""
    start = head.weight.detach().clone().flatten(1)
    weight = start.clone().requires_grad_()
    bias = torch.zeros(len(start), device=start.device)
    if head.bias is not None:
        bias += head.bias.detach()
    bias.requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def error() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), ids)
        loss = loss + _DECAY * (weight - start).square().sum()
        loss.backward()
        return loss

    solver.step(error)
    if weight.isfinite().all() and bias.isfinite().all():
        with torch.no_grad():
            head.weight.copy_(weight.view_as(head.weight))
            if head.bias is not None:
                head.bias.copy_(bias)
