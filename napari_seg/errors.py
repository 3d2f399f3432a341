"""The exceptions of napari-seg.

Every message says what is wrong and what would work.  The command line turns an
:class:`InputError` into exit status 2 and anything else into 1; the dock shows all
of them as napari notifications.
"""

from __future__ import annotations


class NapariSegError(Exception):
    """Base class of every error that napari-seg raises on purpose."""


class InputError(NapariSegError, ValueError):
    """What the user gave (a file, an option, an array) cannot be worked with."""


class ImageError(InputError):
    """The image's shape, axes or dtype cannot be read as an image."""


class ChannelError(ImageError):
    """The image has other channels than the model takes."""


class LabelsError(InputError):
    """A mask's shape, dtype or class ids do not fit the image or the model."""


class ModelFileError(InputError):
    """A model file is missing, damaged, unsafe or made by another program."""


class NotTrainableError(InputError):
    """The model comes from another program, as a graph that cannot be trained here."""


class NothingToLearnError(InputError):
    """There is no vouched pixel to train on."""


class DeviceError(InputError):
    """The requested computing device is not available here."""


class ProjectError(InputError):
    """A project folder cannot be opened as a project."""


class StorageError(NapariSegError, OSError):
    """Something could not be written to disk; what is in memory is kept."""


class DownloadError(NapariSegError):
    """A published file could not be fetched; what arrived so far is kept."""


class TrainingError(NapariSegError):
    """Training stopped for a reason that lies outside the data."""


class ClusterError(NapariSegError):
    """A dask cluster cannot go on; what it finished is kept."""
