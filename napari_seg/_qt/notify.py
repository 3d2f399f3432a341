"""The one place where errors and messages become visible."""

from __future__ import annotations

import logging

from napari.utils.notifications import show_error, show_info, show_warning

from napari_seg.errors import InputError, NapariSegError

__all__ = ["show_failure", "show_info"]

_LOG = logging.getLogger("napari_seg")


def show_failure(error: Exception) -> None:
    """Show an error as a napari notification.

    What the user can mend is a warning in the error's own words; anything else also
    goes to the log with its traceback.
    """
    if isinstance(error, InputError):
        show_warning(str(error))
    elif isinstance(error, NapariSegError):
        show_error(str(error))
    else:
        _LOG.error("unexpected error", exc_info=error)
        show_error(
            f"Something unexpected went wrong: {type(error).__name__}: {error}. Your "
            "corrections are safe; the log has the details."
        )
