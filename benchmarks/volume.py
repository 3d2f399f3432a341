"""What a network gains by seeing a volume, and what stitching makes of slices.

``embryo_nuclei_3d``, one volume: networks learn from one half (y < 60) for the same
time, a 3D U-Net from the volume and a 2D U-Net from its slices, and are judged on
the other half.  Objects are connected voxels there, or those of single slices,
stitched; the figure is the average precision at an IoU of 0.5 (TP / (TP + FP + FN), as
Caicedo et al. 2019 count it) against the true nuclei.  Those are few: one more or less
is about 0.15, and one is cut by the half to 6 voxels.

    python -m benchmarks --only volume
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import label
from skimage.segmentation import watershed

import napari_seg
from benchmarks._report import SHARED_DATA, Row, row
from napari_seg.inference.axes import read_axes
from napari_seg.inference.normalization import channel_ranges
from napari_seg.models.base import SegmentationModel
from napari_seg.objects.stitch import stitch_slices
from napari_seg.scoring.confusion import score
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.finetune import FinetuneOptions

FOLDER = SHARED_DATA / "embryo_nuclei_3d"
#: Rows before it are learned from, the others judged.
HALF = 60
#: 0.8 µm in the plane and about twice that between slices (Tokuoka et al. 2020).
ANISOTROPY = 2.0
#: Steps that take the same time on one core, about five minutes: 2.6 s each for two
#: crops of a volume, 0.3 s for eight of slices. Minutes would tell of the load.
STEPS = {3: 120, 2: 1050}
#: Pixels between the centres of two nuclei of a slice, for the watershed.
APART = 5

Ids = NDArray[Any]


def run() -> list[Row]:
    """Return one row per claim: claim, figure, target, met, detail."""
    if not FOLDER.is_dir():
        return [row("3D against 2D", None, "measured", None, "no shared data")]
    image, mask, truth = (
        tifffile.imread(FOLDER / kind / "000.tif")
        for kind in ("images", "masks", "instances")
    )
    truth, known = truth[:, HALF:], mask[:, HALF:]
    found = {ndim: predicted(ndim, image, mask) for ndim in (3, 2)}
    dice = {ndim: float(score(half, known).dice[1]) for ndim, half in found.items()}
    rows = [
        row(
            "3D U-Net: Dice of nuclei in the other half",
            f"{dice[3]:.3f}",
            "measured",
            None,
            f"{STEPS[3]} steps of two crops",
        ),
        row(
            "2D U-Net, slice by slice",
            f"{dice[2]:.3f}",
            "measured",
            None,
            f"{STEPS[2]} steps of eight crops",
        ),
    ]
    arms = {
        "3D mask, connected voxels": label(found[3], connectivity=3),
        "3D mask, slices stitched": stitch_slices(slices_of(found[3])),
        "2D masks, connected voxels": label(found[2], connectivity=3),
        "2D masks, connected pixels stitched": stitch_slices(slices_of(found[2])),
        "2D masks, watershed stitched": stitch_slices(split(found[2])),
        "true slices stitched": stitch_slices(shuffled(truth)),
    }
    return rows + [
        row(f"{name}: AP at IoU 0.5", *ap(ids, truth)) for name, ids in arms.items()
    ]


def predicted(ndim: int, image: Ids, mask: Ids) -> Ids:
    """Return what a network says of the other half."""
    torch.manual_seed(0)
    if ndim == 3:
        model = napari_seg.create_model("unet3d", width=16, anisotropy=ANISOTROPY)
        images, labels = [image[:, :HALF]], [mask[:, :HALF]]
    else:
        model = napari_seg.create_model("unet", width=16)
        images, labels = list(image[:, :HALF]), list(mask[:, :HALF])
    result = napari_seg.finetune(
        model,
        images,
        labels,
        steps=STEPS[ndim],
        holdout=0,
        ranges=[ranges(model, image)] * len(images),
        options=FinetuneOptions(
            learning_rate=2e-3,
            batch=2 if ndim == 3 else 8,
            crop=64,
            augmentation=AugmentOptions(scale=1.5, intensity=0.8, blur=0.2),
        ),
        device="cpu",
    )
    return napari_seg.predict(result.model, image, axes="ZYX").labels[:, HALF:]


def ranges(model: SegmentationModel, image: Ids) -> NDArray[np.float64]:
    """Return the range of the whole volume, which prediction goes by, too."""
    reading = read_axes(image.shape, image.dtype, model.spec, "ZYX")
    return channel_ranges(image, reading, model.spec.normalization)


def slices_of(mask: Ids) -> Ids:
    """Return the connected pixels of each slice, numbered."""
    return np.stack([label(each, connectivity=2) for each in mask])


def split(mask: Ids) -> Ids:
    """Return the objects of each slice, those that touch told apart by their width."""
    found = np.zeros(mask.shape, np.int64)
    for ids, each in zip(found, mask, strict=True):
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(each), 1.0)
        peaks = peak_local_max(depth, min_distance=APART, labels=label(each > 0))
        markers = np.zeros(each.shape, np.int64)
        markers[tuple(peaks.T)] = np.arange(len(peaks)) + 1
        ids[:] = watershed(-depth, markers, mask=each > 0)
    return found


def shuffled(truth: Ids) -> Ids:
    """Return the true objects with other ids in each slice."""
    random = np.random.default_rng(0)
    return np.stack(
        [np.append(0, random.permutation(truth.max()) + 1)[each] for each in truth]
    )


def ap(ids: Ids, truth: Ids) -> tuple[str, str, None, str]:
    """Return figure, target, met and detail: how many objects are found."""
    counts = np.zeros((truth.max() + 1, ids.max() + 1), np.int64)
    np.add.at(counts, (truth.ravel(), ids.ravel().astype(np.int64)), 1)
    true, made = counts.sum(1), counts.sum(0)
    iou = counts / np.maximum(true[:, None] + made[None] - counts, 1)
    hits = int((iou[1:, 1:] > 0.5).sum())
    n_true, n_made = int((true[1:] > 0).sum()), int((made[1:] > 0).sum())
    figure = hits / max(n_true + n_made - hits, 1)
    return f"{figure:.2f}", "measured", None, f"{hits} of {n_true}, {n_made} found"
