"""The weights that torchvision publishes and that fit the networks here.

Names, addresses and sizes of ``torchvision.models`` (0.26); the digits in a name are
the first of the file's SHA-256.  Loads no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from napari_seg.errors import InputError
from napari_seg.models.spec import ModelSpec, Normalization
from napari_seg.resources import cache_folder

__all__ = [
    "ADDRESS_VARIABLE",
    "ENCODERS",
    "IMAGENET",
    "MODELS",
    "VOC_CLASSES",
    "Fetched",
    "PublishedFile",
    "PublishedModel",
    "encoder_path",
    "weights_folder",
    "with_imagenet",
]

#: Environment variable that names another server than the publisher's, such as a
#: mirror: the address of the folder in which the files lie.
ADDRESS_VARIABLE = "NAPARI_SEG_WEIGHTS_URL"

_PUBLISHER = "https://download.pytorch.org/models"
_MB = 1_000_000

#: What the first convolution of all these networks expects of RGB on the scale 0 to 1.
IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

#: The classes of PASCAL VOC 2012 in the order of their ids.
VOC_CLASSES = (
    "background",
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


def weights_folder() -> Path:
    """Return the folder of published weights; it may not exist yet."""
    return cache_folder() / "weights"


@dataclass(frozen=True)
class PublishedFile:
    """A file that somebody publishes.

    Attributes
    ----------
    name : str
        Its name there.
    sha256 : str
        Of its content, 64 hexadecimal digits.
    size : int
        Bytes, as told before the server says it.
    """

    name: str
    sha256: str
    size: int

    @property
    def address(self) -> str:
        """Where it is fetched from."""
        return f"{os.environ.get(ADDRESS_VARIABLE, _PUBLISHER).rstrip('/')}/{self.name}"

    @property
    def path(self) -> Path:
        """Where it is looked for first: a file put there by hand is taken."""
        return weights_folder() / self.name

    @property
    def part(self) -> Path:
        """What has arrived of it so far."""
        return self.path.with_name(f"{self.name}.part")

    @property
    def megabytes(self) -> int:
        """Its size in MB (10⁶ bytes)."""
        return round(self.size / _MB)


@dataclass(frozen=True)
class Fetched:
    """How much of a file is here.

    Attributes
    ----------
    name : str
        The file.
    done, total : int
        Bytes.
    """

    name: str
    done: int
    total: int

    @property
    def share(self) -> float:
        """What is here, 0 to 1."""
        return min(self.done / max(self.total, 1), 1.0)

    @property
    def text(self) -> str:
        """Progress in words: ``fetching 12 of 168 MB``."""
        return f"fetching {self.done / _MB:.0f} of {self.total / _MB:.0f} MB"


@dataclass(frozen=True)
class PublishedModel:
    """A whole network that can be fetched.

    Attributes
    ----------
    spec : ModelSpec
        Its description; ``spec.name`` is what it is asked for by.
    file : PublishedFile
        Its weights.
    """

    spec: ModelSpec
    file: PublishedFile

    @property
    def path(self) -> Path:
        """Its model file, once it has been fetched."""
        return weights_folder() / f"{self.spec.name}.safetensors"


def _voc(arch: str, encoder: str, file: PublishedFile) -> PublishedModel:
    spec = ModelSpec(
        arch=arch,
        encoder=encoder,
        in_channels=3,
        classes=VOC_CLASSES,
        name=f"voc-{arch}-{encoder}",
        auxiliary_head=True,
        gray_as_rgb=True,
        normalization=replace(IMAGENET, full_range=True),
    )
    return PublishedModel(spec, file)


#: Trained on the images of COCO that show VOC's classes.
MODELS = {
    model.spec.name: model
    for model in (
        _voc(
            "deeplabv3",
            "resnet50",
            PublishedFile(
                "deeplabv3_resnet50_coco-cd0a2569.pth",
                "cd0a25694c4a0f7106b38f4938bf90a874f2f241cc410b8f63c7024399538f06",
                168_312_152,
            ),
        ),
        _voc(
            "deeplabv3",
            "resnet101",
            PublishedFile(
                "deeplabv3_resnet101_coco-586e9e4e.pth",
                "586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
                244_545_539,
            ),
        ),
        _voc(
            "fcn",
            "resnet50",
            PublishedFile(
                "fcn_resnet50_coco-1167a1af.pth",
                "1167a1affa42e1e62858f8d3fac12d109e0108327ffc91c5855a324b11683c36",
                141_567_418,
            ),
        ),
        _voc(
            "fcn",
            "resnet101",
            PublishedFile(
                "fcn_resnet101_coco-7ecb50ca.pth",
                "7ecb50ca17844860a70d5ed0c748d997cf8adb62932abaa0233430c68594d749",
                217_800_805,
            ),
        ),
    )
}

#: Trained on ImageNet-1k ("V1"): what the networks above started from, too. ResNet-50
#: and -101 exist as "V2" as well, better classifiers by label smoothing and mixing,
#: with which features transfer worse (Kornblith et al. 2021, arXiv:2010.16402).
ENCODERS = {
    "resnet18": PublishedFile(
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        46_830_571,
    ),
    "resnet34": PublishedFile(
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        87_319_819,
    ),
    "resnet50": PublishedFile(
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        102_530_333,
    ),
    "resnet101": PublishedFile(
        "resnet101-63fe2227.pth",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        178_793_939,
    ),
    "vgg16": PublishedFile(
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
    ),
    "vgg16_bn": PublishedFile(
        "vgg16_bn-6c64b313.pth",
        "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
        553_507_836,
    ),
}


def encoder_path(encoder: str) -> Path:
    """Return the file of an encoder's ImageNet weights, once they were fetched."""
    return weights_folder() / f"imagenet-{encoder}.safetensors"


def with_imagenet(spec: ModelSpec) -> ModelSpec:
    """Return the description of a network whose encoder starts from ImageNet weights.

    Raises
    ------
    InputError
        If there are none for its encoder.
    """
    if spec.encoder not in ENCODERS:
        raise InputError(
            f"There are no ImageNet weights for {spec.label}; there are some for the "
            f"encoders {', '.join(ENCODERS)}."
        )
    return replace(spec, normalization=IMAGENET.for_channels(spec.in_channels))
