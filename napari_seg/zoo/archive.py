"""The files of a package, read from a folder or a zip without unpacking it.

A package may come from anywhere: nothing in it is written to the disk, no name leads
out of it, and no file is read beyond its limit.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from napari_seg.errors import ModelFileError
from napari_seg.models.catalog import PACKAGE_NAMES, is_package

__all__ = ["Files", "open_package"]

#: More than this many files, bytes in all, or bytes for each byte of the archive
#: beyond a first few are no model.
_MOST_FILES, _MOST_BYTES, _MOST_RATIO, _FREE = 1000, 8 << 30, 100, 64 << 20


class Files(Protocol):
    """What is in a package.

    Attributes
    ----------
    path : Path
        Where the package lies.
    description : str
        Name of the file that describes it.
    """

    path: Path
    description: str

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file.

        Raises
        ------
        ModelFileError
            If there is none of that name in the package, or it has more bytes than
            `limit`.
        """


def open_package(path: Path) -> Files:
    """Return the files of a package, once it is known to be harmless.

    Raises
    ------
    ModelFileError
        If it is no package, damaged, or would harm.
    """
    if not is_package(path):
        raise ModelFileError(
            f"{path.name} is no package of the BioImage Model Zoo: that is a .zip file "
            f"or a folder with {' or '.join(PACKAGE_NAMES[:2])} at its top."
        )
    return _Folder(path) if path.is_dir() else _Zip(path)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = next(n for n in PACKAGE_NAMES if (path / n).is_file())

    def read(self, name: str, limit: int) -> bytes:
        _check_name(self.path, name)
        file = self.path / name
        # A link may lead anywhere.
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise _leads_out(self.path, name)
        if not file.is_file():
            raise _missing(self.path, name)
        if file.stat().st_size > limit:
            raise _too_large(self.path, name, limit)
        return file.read_bytes()


class _Zip:
    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        names = [entry.filename for entry in entries]
        self.description = next(name for name in PACKAGE_NAMES if name in names)
        for entry in entries:
            _check_name(path, entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _leads_out(path, entry.filename)
        total = sum(entry.file_size for entry in entries)
        most = min(_MOST_BYTES, _FREE + _MOST_RATIO * path.stat().st_size)
        if len(names) > len(set(names)) or len(names) > _MOST_FILES or total > most:
            raise ModelFileError(
                f"{path.name} is refused: {len(names)} files of {total >> 20} MB in "
                f"all in an archive of {path.stat().st_size / 2**20:.1f} MB, or two of "
                "one name, are no model. Get the package from where it was published."
            )

    def read(self, name: str, limit: int) -> bytes:
        _check_name(self.path, name)
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.getinfo(name).file_size > limit:
                    raise _too_large(self.path, name, limit)
                # A file ends where the archive says that it does.
                return archive.read(name)
        except KeyError as error:
            raise _missing(self.path, name) from error
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise ModelFileError(
                f"{name} in {self.path.name} cannot be read ({error}); the package is "
                "damaged or encrypted. Get it again."
            ) from error


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
        raise _leads_out(path, name)


def _leads_out(path: Path, name: str) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is refused: {name!r} leads out of the package. Get the package "
        "from where it was published."
    )


def _missing(path: Path, name: str) -> ModelFileError:
    return ModelFileError(
        f"{path.name} names {name!r}, which is not in the package; files that would "
        "have to be fetched are not. Download the package as a whole."
    )


def _too_large(path: Path, name: str, limit: int) -> ModelFileError:
    return ModelFileError(
        f"{name!r} in {path.name} is larger than {limit / 2**20:g} MB and is refused."
    )
