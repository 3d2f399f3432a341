"""Why a button cannot work now: declared once, used for buttons and tooltips.

Each function returns a sentence that says what would help, or nothing.
"""

from __future__ import annotations

from napari_seg.workspace.volumes import why_no_volumes
from napari_seg.workspace.workspace import Workspace

__all__ = [
    "to_cancel",
    "to_compare",
    "to_export",
    "to_finetune",
    "to_next",
    "to_predict",
    "to_revert",
    "to_review",
    "to_score_slice",
    "to_stop",
]

_GOING_BACK = "The mask is being brought back to an earlier moment."
_TAKING_IN = "A mask is being taken in."
_READ_ONLY = "Another viewer is working on this image; here it is read-only."


def to_predict(workspace: Workspace) -> str:
    """Return why nothing can be predicted."""
    if workspace.source is None:
        return "Open an image first, or a sample under File › Open Sample."
    if workspace.choice is None:
        return "Choose a model first."
    if workspace.session is not None and workspace.session.read_only:
        return _READ_ONLY
    if workspace.past.busy:
        return _GOING_BACK
    if workspace.intake.busy:
        return _TAKING_IN
    if workspace.computers.busy:
        return f"The connection with {workspace.computers.address} is being made."
    return workspace.misfit


def to_cancel(workspace: Workspace) -> str:
    """Return why there is nothing to cancel."""
    return "" if workspace.predictor.busy else "No prediction is running."


def to_review(workspace: Workspace) -> str:
    """Return why nothing can be corrected or accepted."""
    if workspace.session is None or workspace.session.ledger is None:
        return "There is no mask yet: press Predict view or Predict all first."
    return ""


def to_score_slice(workspace: Workspace) -> str:
    """Return why there is no slice to score by itself."""
    session = workspace.session
    if session is None or not session.reading.leading:
        return "This image has a single slice: the whole image is scored."
    return ""


def to_next(workspace: Workspace) -> str:
    """Return why there is no doubtful place to go to."""
    reason = to_review(workspace)
    session = workspace.session
    if not reason and (session is None or not session.uncertain):
        reason = "Predict first: the model has not said yet how sure it is."
    return reason


def to_finetune(workspace: Workspace) -> str:
    """Return why there is nothing to learn from."""
    reason = to_review(workspace)
    if reason:
        return reason
    session, choice = workspace.session, workspace.choice
    if session is not None and session.read_only:
        return _READ_ONLY
    if choice is not None and not choice.trainable:
        return (
            f"{choice.label} comes from another program and can only predict: choose "
            "another model, such as generic, to learn from your corrections."
        )
    if workspace.teacher.busy:
        return "A training is running."
    if workspace.misfit:
        return workspace.misfit
    if session is not None and choice is not None and choice.spec.ndim == 3:
        reason = why_no_volumes(session)
        if reason:
            return reason
    if session is None or session.mask.vouched_pixels == 0:
        return (
            "There is nothing to learn from yet: correct the mask with the brush, or "
            "press Accept view where it is right."
        )
    return ""


def to_stop(workspace: Workspace) -> str:
    """Return why there is no training to stop."""
    if not workspace.teacher.busy:
        return "No training is running."
    return "It has ended; the card comes in a moment." if workspace.teacher.over else ""


def to_compare(workspace: Workspace) -> str:
    """Return why the view cannot be predicted with another version."""
    reason = to_review(workspace)
    if not reason and workspace.predictor.busy:
        reason = "A prediction is running."
    if not reason and workspace.past.busy:
        reason = _GOING_BACK
    return reason


def to_revert(workspace: Workspace) -> str:
    """Return why the mask cannot be brought back to an earlier moment."""
    reason = to_review(workspace)
    session = workspace.session
    if not reason and session is not None and session.read_only:
        reason = _READ_ONLY
    if not reason and workspace.predictor.busy:
        reason = "A prediction is running."
    if not reason and workspace.past.busy:
        reason = _GOING_BACK
    if not reason and workspace.intake.busy:
        reason = _TAKING_IN
    return reason


def to_export(workspace: Workspace) -> str:
    """Return why there is nothing to take away."""
    return to_review(workspace)
