"""A project is a folder: what belongs to one piece of work, readable by any program.

::

    project.json          classes with colours, images, the model version in use
    project.lock          held by the viewer that may write
    images/<id>/          mask.zarr and journal of one image (see store.py), and
                          objects.zarr, if there are objects (see objects.py)
    windows/images/*.tif  the training set: images ...
    windows/labels/*.tif  ... and labels, 255 = unknown
    models/vNNN.safetensors, models/vNNN.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_seg.corrections.identity import safe_name
from napari_seg.corrections.journal import ErrorListener
from napari_seg.corrections.lock import WriterLock
from napari_seg.corrections.manifest import (
    AS_GUESSED,
    FILE,
    ImageEntry,
    Manifest,
    ProjectClass,
    ReadAs,
)
from napari_seg.corrections.versions import (
    ModelVersion,
    VersionCard,
    add_version,
    mark_kept,
    read_versions,
)
from napari_seg.errors import ProjectError, StorageError

if TYPE_CHECKING:
    from napari_seg.corrections.store import ImageStore

__all__ = ["ImageEntry", "Project", "ProjectClass"]

_LOCK = "project.lock"


class Project:
    """An open project; made by :meth:`create`, :meth:`open` or :meth:`open_or_create`.

    The first to open it may write; everybody else gets it with `read_only` True.
    Use it as a context manager, or :meth:`close` it.
    """

    def __init__(
        self, folder: Path, content: Manifest, lock: WriterLock, read_only: bool
    ) -> None:
        self.folder = folder
        self.read_only = read_only
        self._content = content
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, classes: Sequence[ProjectClass] = ()) -> Self:
        """Make a project in a folder without one; the folder is made if missing.

        Raises
        ------
        ProjectError
            If there is a project already, or another program is making one.
        StorageError
            If the folder cannot be written to.
        """
        folder = Path(folder)
        if (folder / FILE).exists():
            raise ProjectError(f"{folder} is a project already; open it instead.")
        lock = WriterLock(folder / _LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not lock.acquire():
                raise ProjectError(f"{lock.holder()} is making a project in {folder}.")
        except OSError as error:
            raise _not_saved(folder, error) from error
        project = cls(folder, Manifest(), lock, read_only=False)
        project._update(classes=tuple(classes))
        return project

    @classmethod
    def open(cls, folder: Path, read_only: bool = False) -> Self:
        """Open a project.

        Parameters
        ----------
        folder : Path
            The project folder.
        read_only : bool
            Do not even try to write.  The project is read-only anyhow if another
            viewer has it open (:attr:`holder` says which), or if the folder cannot
            be written to.

        Raises
        ------
        ProjectError
            If the folder is no project, or of a newer version of this program.
        """
        folder = Path(folder)
        content = Manifest.read(folder)
        lock = WriterLock(folder / _LOCK)
        try:
            read_only = read_only or not lock.acquire()
        except OSError:
            # A folder on a read-only medium can still be looked at.
            read_only = True
        return cls(folder, content, lock, read_only)

    @classmethod
    def open_or_create(cls, folder: Path, classes: Sequence[ProjectClass] = ()) -> Self:
        """Open the project in `folder`, or make one there."""
        folder = Path(folder)
        if (folder / FILE).exists():
            return cls.open(folder)
        return cls.create(folder, classes)

    def close(self) -> None:
        """Let others write.  Image stores are closed by whoever opened them."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def holder(self) -> str:
        """Who has the project open for writing, for a message."""
        return self._lock.holder()

    @property
    def windows_folder(self) -> Path:
        """Folder of the training windows, with `images` and `labels` in it."""
        return self.folder / "windows"

    @property
    def models_folder(self) -> Path:
        """Folder of the model versions."""
        return self.folder / "models"

    @property
    def classes(self) -> tuple[ProjectClass, ...]:
        """The classes, in the order of their ids."""
        return self._content.classes

    def set_classes(self, classes: Sequence[ProjectClass]) -> None:
        """Save the classes."""
        self._update(classes=tuple(classes))

    @property
    def images(self) -> dict[str, ImageEntry]:
        """The images by id."""
        return {entry.id: entry for entry in self._content.images}

    def add_image(
        self,
        name: str,
        fingerprint: str,
        shape: tuple[int, ...],
        source: str | None = None,
        read_as: ReadAs = AS_GUESSED,
    ) -> ImageEntry:
        """Return the entry of an image, which is made if the image is new.

        An image is known by its fingerprint and shape, whatever its name is now; read
        with other axes it is another one. How it is read is saved anew.

        Raises
        ------
        StorageError
            If the image is new and the project cannot be written to.
        """
        images = list(self._content.images)
        for place, entry in enumerate(images):
            if entry.is_of(fingerprint, tuple(shape), read_as.axes):
                if read_as != AS_GUESSED and not self.read_only:
                    images[place] = replace(entry, read_as=read_as)
                break
        else:
            place, new = len(images), f"{safe_name(name)[:50]}-{fingerprint[:8]}"
            taken = sum(each.id.startswith(new) for each in images)
            new += f"-{taken + 1}" if taken else ""
            images.append(
                ImageEntry(new, name, fingerprint, tuple(shape), source, read_as)
            )
        if tuple(images) != self._content.images:
            self._update(images=tuple(images))
        return images[place]

    def open_store(
        self, image: ImageEntry, on_error: ErrorListener | None = None
    ) -> ImageStore:
        """Open the mask of an image; the caller closes it.

        Raises
        ------
        ProjectError, StorageError
            As :class:`napari_seg.corrections.store.ImageStore` does.
        """
        # zarr takes half a second to import: only who opens a mask waits for it.
        from napari_seg.corrections.store import ImageStore

        folder = self.folder / "images" / image.id
        return ImageStore(folder, image.shape, self.read_only, on_error)

    @property
    def versions(self) -> tuple[ModelVersion, ...]:
        """The model versions, oldest first."""
        return read_versions(self.models_folder)

    def add_version(self, model_file: Path, card: VersionCard) -> ModelVersion:
        """Copy a model file into the project under the next number.

        Raises
        ------
        InputError
            If there is no such file.
        StorageError
            If it cannot be saved.
        """
        self._check_writable()
        return add_version(self.models_folder, Path(model_file), card)

    def keep_version(self, name: str) -> None:
        """Save that the user kept a version.

        Raises
        ------
        StorageError
            If it cannot be saved.
        """
        self._check_writable()
        for version in self.versions:
            if version.name == name:
                mark_kept(version)

    @property
    def current(self) -> str | None:
        """Name of the model in use: a version, or a bundled model; None at first."""
        return self._content.current

    def use_model(self, name: str) -> None:
        """Save which model is in use: the name of a version or a bundled model."""
        self._update(current=name)

    def _update(self, **changes: Any) -> None:
        self._check_writable()
        content = replace(self._content, **changes)
        try:
            content.write(self.folder)
        except OSError as error:
            raise _not_saved(self.folder, error) from error
        self._content = content

    def _check_writable(self) -> None:
        if self.read_only:
            raise StorageError(
                f"{self.folder} is open read-only ({self.holder} may write to it); "
                "close it there and open it here again."
            )


def _not_saved(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The project cannot be saved in {folder} ({error}); free some space, or "
        "choose a folder that you may write to."
    )
