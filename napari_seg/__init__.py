"""Semantic segmentation in napari: predict, correct, see the score, fine-tune.

The public names below are loaded on first use, so that napari can read the plugin,
and a script can start, without waiting for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_seg import errors
    from napari_seg.inference.predict import predict
    from napari_seg.models.checkpoint import load_model, save_model
    from napari_seg.models.registry import adapt_model, create_model, register_model
    from napari_seg.scoring.boundary import boundary_scores
    from napari_seg.scoring.confusion import score
    from napari_seg.scoring.live import LiveScore
    from napari_seg.scoring.live_objects import LiveObjectScore
    from napari_seg.scoring.objects import score_objects
    from napari_seg.training.finetune import finetune
    from napari_seg.zoo.export import export_onnx, export_torchscript
    from napari_seg.zoo.importing import import_bioimage
    from napari_seg.zoo.package import export_bioimage

__version__ = "0.1.0"

__all__ = [
    "LiveObjectScore",
    "LiveScore",
    "__version__",
    "adapt_model",
    "boundary_scores",
    "create_model",
    "errors",
    "export_bioimage",
    "export_onnx",
    "export_torchscript",
    "finetune",
    "import_bioimage",
    "load_model",
    "predict",
    "register_model",
    "save_model",
    "score",
    "score_objects",
]

_HOMES = {
    "LiveObjectScore": "scoring.live_objects",
    "LiveScore": "scoring.live",
    "adapt_model": "models.registry",
    "boundary_scores": "scoring.boundary",
    "create_model": "models.registry",
    "export_bioimage": "zoo.package",
    "export_onnx": "zoo.export",
    "export_torchscript": "zoo.export",
    "finetune": "training.finetune",
    "import_bioimage": "zoo.importing",
    "load_model": "models.checkpoint",
    "predict": "inference.predict",
    "register_model": "models.registry",
    "save_model": "models.checkpoint",
    "score": "scoring.confusion",
    "score_objects": "scoring.objects",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use and keep it."""
    if name == "errors":
        return import_module("napari_seg.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"napari_seg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
