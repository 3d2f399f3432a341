"""The models that a user can choose from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from napari_seg.corrections.versions import ModelVersion
from napari_seg.errors import InputError, ModelFileError
from napari_seg.models.catalog import (
    BUNDLED,
    PACKAGE_ARCH,
    PACKAGES,
    SUFFIX,
    bundled_models,
    read_spec,
)
from napari_seg.models.published import (
    ENCODERS,
    MODELS,
    PublishedFile,
    encoder_path,
    with_imagenet,
)
from napari_seg.models.registrations import registered
from napari_seg.models.spec import ModelSpec, Normalization
from napari_seg.workspace.tasks import Job

__all__ = ["ModelChoice", "ModelShelf", "choice_from_file", "choice_of_version"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

#: What a new model is called, with architecture and encoder: from the one that learns
#: fastest on a CPU to the heaviest.
_NEW = (
    ("New U-Net, small", "unet", None, 16),
    ("New U-Net", "unet", None, 32),
    ("New U-Net, ResNet-18", "unet", "resnet18", None),
    ("New DeepLab v3+, ResNet-18", "deeplabv3plus", "resnet18", None),
    ("New DeepLab v3, ResNet-50", "deeplabv3", "resnet50", None),
    ("New FCN, ResNet-50", "fcn", "resnet50", None),
    ("New FCN-8s, VGG-16", "fcn8s", "vgg16", None),
)
_NEW_OF_VOLUMES = "New 3D U-Net"


@dataclass(frozen=True)
class ModelChoice:
    """One entry of the model list.

    Attributes
    ----------
    label : str
        What the list shows.
    spec : ModelSpec
        Channels, classes, architecture.
    path : Path or None
        Its file; None is a model that has not been trained yet.
    version : str
        Name of the version in the project, or empty.
    published : str
        Name of a published model, whose file is fetched on first use; or empty.
    imagenet : bool
        Whether the encoder of an untrained model starts from ImageNet weights.
    hint : str
        What it is for, in a sentence; or empty.
    """

    label: str
    spec: ModelSpec
    path: Path | None
    version: str = ""
    published: str = ""
    imagenet: bool = False
    hint: str = field(default="", compare=False)

    @property
    def untrained(self) -> bool:
        """Whether the model has yet to see its first image."""
        return self.path is None

    @property
    def trainable(self) -> bool:
        """Whether it can be fine-tuned; a finished graph cannot."""
        return self.spec.arch != PACKAGE_ARCH

    @property
    def imagenet_file(self) -> PublishedFile | None:
        """The weights that the encoder of an untrained model could start from."""
        return ENCODERS.get(self.spec.encoder or "") if self.untrained else None

    @property
    def to_fetch(self) -> PublishedFile | None:
        """The file that has to be fetched before the model can be used, if any."""
        if self.published:
            model = MODELS[self.published]
            return None if model.path.exists() else model.file
        if self.imagenet and not encoder_path(self.spec.encoder or "").exists():
            return self.imagenet_file
        return None

    def fetch(self) -> Job:
        """Fetch what is lacking; yields :class:`~napari_seg.models.published.Fetched`.

        Raises
        ------
        DownloadError, ModelFileError, StorageError
            If that does not work.
        """
        if self.to_fetch is None:
            return
        # Late, since it needs torch.
        from napari_seg.models.pretrained import fetch_encoder, fetch_model

        if self.published:
            yield from fetch_model(self.published)
        else:
            yield from fetch_encoder(self.spec.encoder or "")

    def with_imagenet(self, wanted: bool) -> ModelChoice:
        """Return the choice whose encoder starts from ImageNet weights, or at random.

        Raises
        ------
        InputError
            If there are no such weights for it.
        """
        spec = replace(self.spec, normalization=Normalization())
        spec = with_imagenet(spec) if wanted else spec
        return replace(self, spec=spec, imagenet=wanted)

    def with_slices(self, slices: int) -> ModelChoice:
        """Return the choice that sees so many neighbouring slices at a time.

        Raises
        ------
        InputError
            If the number is even, or the model takes RGB as well as gray images.
        """
        channels = self.spec.plane_channels * slices
        spec = replace(
            self.spec,
            in_channels=channels,
            slices=slices,
            normalization=self.spec.normalization.for_channels(channels),
        )
        return replace(self, spec=spec)


def choice_from_file(path: Path, label: str = "", version: str = "") -> ModelChoice:
    """Return the choice of a model file.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, pickled or made by another program.
    """
    spec = read_spec(path)
    return ModelChoice(label or path.stem, spec, path, version)


def choice_of_version(version: ModelVersion) -> ModelChoice:
    """Return the choice of a fine-tuned model of a project.

    Raises
    ------
    ModelFileError
        As :func:`choice_from_file`.
    """
    label = f"{version.name}, fine-tuned"
    return choice_from_file(version.path, label, version.name)


class ModelShelf:
    """The models at hand beside the versions of a project.

    Parameters
    ----------
    folder : Path
        The user's own models; it may not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[Path, ModelChoice] = {}

    def open(self, path: Path) -> ModelChoice:
        """Add a file to the shelf.

        Raises
        ------
        ModelFileError
            If it is missing, damaged, pickled or made by another program.
        """
        choice = choice_from_file(path)
        self._opened[path] = choice
        return choice

    def choices(
        self,
        versions: Sequence[ModelVersion],
        current: ModelChoice | None,
        in_channels: int,
        classes: tuple[str, ...],
        anisotropy: float | None = None,
    ) -> list[ModelChoice]:
        """Return the models to choose from: versions, bundled, saved, new, published.

        Parameters
        ----------
        versions : sequence of ModelVersion
            Of the project, oldest first; the list begins with the newest.
        current : ModelChoice or None
            The model in use: a version of another image's project goes on being used.
        in_channels, classes, anisotropy
            Of new models, as :meth:`new` takes them.
        """
        tuned = [*_readable(choice_of_version, reversed(versions))]
        trained, published = [*tuned, *self.trained()], self.published()
        unlisted = current not in [*trained, *published]
        if current is not None and not current.untrained and unlisted:
            trained.insert(len(tuned), current)
        new = self.new(in_channels, classes, anisotropy)
        return [*trained, *new, *published]

    def trained(self) -> list[ModelChoice]:
        """Return bundled models, those in the user's folder, and opened files."""
        bundled = [
            replace(choice_from_file(path, name), hint=BUNDLED[name])
            for name, path in bundled_models().items()
        ]
        files = [
            *sorted(self._folder.glob(f"*{SUFFIX}")),
            *sorted(self._folder.glob(f"*{PACKAGES}")),
        ]
        saved = _readable(choice_from_file, files)
        return [*bundled, *saved, *self._opened.values()]

    @staticmethod
    def published() -> list[ModelChoice]:
        """Return the models that others publish; last, for they know photographs."""
        return [
            ModelChoice(name, model.spec, model.path, published=name)
            for name, model in MODELS.items()
        ]

    @staticmethod
    def new(
        in_channels: int, classes: tuple[str, ...], anisotropy: float | None = None
    ) -> list[ModelChoice]:
        """Return untrained models for images with these channels.

        Parameters
        ----------
        in_channels : int
            Channels of the image.
        classes : tuple of str
            Names, the background first.
        anisotropy : float or None
            Of a stack the step between slices in pixels: there is one more for it.
        """
        own = [(f"New {name}", name, None, None) for name in _registered()]
        planes = [
            ModelChoice(
                label,
                ModelSpec(
                    arch=arch,
                    encoder=encoder,
                    in_channels=in_channels,
                    classes=classes,
                    name=label.removeprefix("New "),
                    width=width,
                ),
                None,
            )
            for label, arch, encoder, width in [*_NEW, *own]
        ]
        if anisotropy is None:
            return planes
        spec = ModelSpec(
            arch="unet3d",
            encoder=None,
            in_channels=in_channels,
            classes=classes,
            name=_NEW_OF_VOLUMES.removeprefix("New "),
            # Of its own.
            depth=3,
            anisotropy=anisotropy,
        )
        hint = f"Sees volumes, slices {anisotropy:g} pixels apart."
        return [*planes, ModelChoice(_NEW_OF_VOLUMES, spec, None, hint=hint)]


def _registered() -> Iterable[str]:
    """Return the names of the user's own networks."""
    try:
        return registered()
    except InputError as error:
        # A module that cannot be imported is no reason to show nothing.
        _LOG.warning("%s", error)
        return ()


def _readable(
    choice_of: Callable[[_T], ModelChoice], sources: Iterable[_T]
) -> Iterator[ModelChoice]:
    for source in sources:
        try:
            yield choice_of(source)
        except ModelFileError as error:
            # A file that is damaged, or somebody else's, is no reason to show nothing.
            _LOG.info("%s is left out of the model list: %s", source, error)
