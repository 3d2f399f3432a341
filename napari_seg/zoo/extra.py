"""What the extra ``zoo`` installs, asked for when it is needed."""

from __future__ import annotations

from importlib.util import find_spec

from napari_seg.errors import InputError

__all__ = ["need"]


def need(task: str, *modules: str) -> None:
    """Check that modules are here; none of them is loaded for that.

    Parameters
    ----------
    task : str
        What they are needed for, the beginning of the message.
    *modules : str
        Their names.

    Raises
    ------
    InputError
        If one is missing.
    """
    missing = [module for module in modules if not _is_here(module)]
    if missing:
        raise InputError(
            f"{task} needs {' and '.join(missing)}: pip install 'napari-seg[zoo]'."
        )


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # Of "bioimageio.core" not even the first part is here.
        return False
