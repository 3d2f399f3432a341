"""Where the files lie that come with the package, and those of the user.

Installed from a wheel, everything lies inside the package.  In a checkout (an
editable install) the samples stay in its top folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["bundled_models_folder", "cache_folder", "sample_folder", "user_folder"]

_PACKAGE = Path(__file__).resolve().parent


def bundled_models_folder() -> Path:
    """Return the folder of the models that come with the package."""
    return _PACKAGE / "models" / "bundled"


def sample_folder() -> Path:
    """Return the folder of the sample images and masks."""
    installed = _PACKAGE / "_samples"
    return installed if installed.is_dir() else _PACKAGE.parent / "sample_data"


def user_folder() -> Path:
    """Return the folder for what the user makes; it may not exist yet.

    The environment variable ``NAPARI_SEG_HOME`` names another one.
    """
    chosen = os.environ.get("NAPARI_SEG_HOME")
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("napari-seg", appauthor=False)


def cache_folder() -> Path:
    """Return the folder for what can be fetched again; it may not exist yet.

    With ``NAPARI_SEG_HOME`` it is the folder ``cache`` there.
    """
    if os.environ.get("NAPARI_SEG_HOME"):
        return user_folder() / "cache"
    return platformdirs.user_cache_path("napari-seg", appauthor=False)
