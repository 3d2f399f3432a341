"""Training of an object head: targets from object ids, losses, the branch to train.

After Panoptic-DeepLab (Cheng et al. 2020, arXiv:1911.10194, Sec. 3.1): the centre of
an object is regressed as a Gaussian, the way to it in pixels. There all Gaussians have
one width; here it follows the object, since cells differ more in size than cars do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F

from napari_seg.models.base import SegmentationModel
from napari_seg.models.objects import WithObjects
from napari_seg.objects.instances import find_objects
from napari_seg.scoring.confusion import UNKNOWN
from napari_seg.training.augmentation import AugmentOptions, augment
from napari_seg.training.sampling import Example, Sampler

__all__ = [
    "OBJECTS_TAUGHT",
    "ObjectBranch",
    "ObjectTerm",
    "few_numbers",
    "number_examples",
    "object_loss",
    "object_targets",
]

#: Key in the history of a model: its object head has learned from given objects then.
OBJECTS_TAUGHT = "objects_taught"

#: Width of the Gaussian at a centre, as a share of the root of the object's area, and
#: the least in pixels.
_WIDTH, _LEAST_WIDTH = 0.2, 1.5
#: Weights of the two terms, which come to about the same size.
_CENTRE, _WAY = 10.0, 1 / 16
#: Error in pixels from which on that of a way counts linearly.
_FAR = 4.0


def few_numbers(
    ids: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return object ids as numbers 1 to 254, drawn at random; 0 stays.

    Crops for training are uint8. Two objects of an image may get one number; those
    that touch are told apart only if theirs differ, which 253 of 254 do.
    """
    # Ids of other programs may be few and large.
    each, places = np.unique(ids, return_inverse=True)
    numbers = rng.integers(1, UNKNOWN, len(each), dtype=np.uint8)
    numbers[each == 0] = 0
    drawn: NDArray[np.uint8] = numbers[places].reshape(ids.shape)
    return drawn


def number_examples(
    examples: Sequence[Example],
    objects: Sequence[NDArray[np.integer] | None],
    seed: int = 0,
) -> list[Example]:
    """Return examples whose labels are numbers of objects instead of classes.

    Parameters
    ----------
    examples : sequence of Example
        Labels are class ids (H, W), 255 where unknown.
    objects : sequence of ((H, W) ndarray of int or None)
        Their objects, 0 for none; None finds them in the labels and cuts them at their
        waists.
    seed : int
        Of the numbers that are drawn.

    Returns
    -------
    list of Example
        Numbers as :func:`object_targets` takes them. Of an object that reaches into
        unknown pixels nobody knows the centre: it is unknown.
    """
    rng = np.random.default_rng(seed)
    return [
        replace(each, labels=_numbers(each.labels, ids, rng))
        for each, ids in zip(examples, objects, strict=True)
    ]


def _numbers(
    labels: NDArray[np.uint8],
    ids: NDArray[np.integer] | None,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    unknown = labels == UNKNOWN
    found = find_objects(labels) if ids is None else ids
    numbers = few_numbers(np.where(unknown, 0, found), rng)
    # Pixels of a class that are no object, such as specks, say nothing of centres.
    unknown |= (labels > 0) & (found == 0)
    cut = np.unique(found[binary_dilation(unknown, np.ones((3, 3)))])
    numbers[unknown | np.isin(found, cut[cut > 0])] = UNKNOWN
    return numbers


def object_targets(
    numbers: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return what an object head should say of a crop, and where.

    Parameters
    ----------
    numbers : (H, W) ndarray of uint8
        Connected pixels of one number are an object; 0 is none, 255 unknown.

    Returns
    -------
    maps : (3, H, W) ndarray of float32
        Centre, and way to it in pixels down and to the right.
    known : (H, W) ndarray of bool
        Where numbers are known.

    Notes
    -----
    The centre is the pixel of the object next to its centroid, so that it lies inside.
    """
    known = numbers != UNKNOWN
    ids = label(np.where(known, numbers, 0), connectivity=1)
    maps = np.zeros((3, *numbers.shape), np.float32)
    y, x = np.nonzero(ids)
    if not len(y):
        return maps, known
    index = ids[y, x] - 1
    area = np.bincount(index)
    centroid = np.stack([np.bincount(index, each) / area for each in (y, x)])
    distance = np.hypot(y - centroid[0][index], x - centroid[1][index])
    # Of the pixels of each object the one with the least distance comes first.
    order = np.lexsort((distance, index))
    first = order[np.r_[0, np.cumsum(area)[:-1]]]
    down, right = y[first][index] - y, x[first][index] - x
    width = np.maximum(_WIDTH * np.sqrt(area), _LEAST_WIDTH)[index]
    maps[:, y, x] = np.exp(-(down**2 + right**2) / (2 * width**2)), down, right
    return maps, known


def object_loss(maps: Tensor, numbers: Tensor) -> Tensor:
    """Return the loss of an object head.

    Mean squared error of the centre over known pixels, and smooth absolute error of the
    way over those of objects.

    Parameters
    ----------
    maps : Tensor
        (N, 3, H, W) float32, as :mod:`napari_seg.models.objects` describes them.
    numbers : Tensor
        (N, H, W) uint8, as :func:`object_targets` takes them.
    """
    targets, known = zip(*map(object_targets, numbers.cpu().numpy()), strict=True)
    wanted = torch.from_numpy(np.stack(targets)).to(maps.device)
    counted = torch.from_numpy(np.stack(known)).to(maps.device)
    centre = F.mse_loss(maps[:, 0][counted], wanted[:, 0][counted])
    inside = (counted & (numbers > 0))[:, None].expand(-1, 2, -1, -1)
    if not inside.any():
        return _CENTRE * centre
    way = F.smooth_l1_loss(maps[:, 1:][inside], wanted[:, 1:][inside], beta=_FAR)
    return _CENTRE * centre + _WAY * way


class ObjectTerm:
    """A term of the loss: what the object head says of crops of its own.

    Encoder and head learn from it. The crops are others than those that the classes
    are learned from, since objects that are not known as a whole are no use here.

    Parameters
    ----------
    model : SegmentationModel
        With an object head.
    sampler : Sampler
        Of crops whose labels are numbers of objects, on the model's device.
    crops : int
        How many are drawn for each batch.
    augmentation : AugmentOptions
        How they are changed.
    seed : int
        Of the changes.
    """

    def __init__(
        self,
        model: SegmentationModel,
        sampler: Sampler,
        crops: int,
        augmentation: AugmentOptions,
        seed: int,
    ) -> None:
        self._model, self._sampler, self._crops = model, sampler, crops
        self._augmentation = augmentation
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(
        self, images: Tensor, logits: Tensor, labels: Tensor, replayed: int
    ) -> Tensor:
        """Return the term, a scalar; the batch of the classes has no part in it."""
        crops, numbers = augment(
            *self._sampler.batch(self._crops), self._augmentation, self._generator
        )
        crops = self._model.standardize(crops)
        crops = crops.contiguous(memory_format=self._model.memory_format)
        return object_loss(self._model.objects(crops).float(), numbers)


class ObjectBranch(WithObjects):
    """A model of which only the object head learns; its output are the head's maps.

    The classes stay exactly what they were.

    Parameters
    ----------
    model : SegmentationModel
        With an object head; trained in place.

    Raises
    ------
    InputError
        If it has none.
    """

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(model)
        learning = self._head_parameters()
        for parameter in model.parameters():
            parameter.requires_grad = any(parameter is each for each in learning)

    def _head_parameters(self) -> Sequence[torch.nn.Parameter]:
        head = self.model.object_head
        assert isinstance(head, torch.nn.Module)
        return list(head.parameters())

    def logits(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the maps (N, 3, H, W)."""
        return self.model.objects(x), None

    def encoder_parameters(self) -> list[torch.nn.Parameter]:
        """Return all that does not learn."""
        learning = {id(each) for each in self._head_parameters()}
        return [each for each in self.parameters() if id(each) not in learning]
