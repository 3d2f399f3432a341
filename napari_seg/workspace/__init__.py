"""Evented application state and every decision; no Qt, no napari, no torch."""

from __future__ import annotations

from napari_seg.workspace.choices import ModelChoice
from napari_seg.workspace.prediction import Progress
from napari_seg.workspace.session import Session
from napari_seg.workspace.source import ImageSource, View
from napari_seg.workspace.workspace import Workspace

__all__ = [
    "ImageSource",
    "ModelChoice",
    "Progress",
    "Session",
    "View",
    "Workspace",
]
