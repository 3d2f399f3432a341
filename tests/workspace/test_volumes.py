"""A stack in the dock, with a model that sees volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from napari_seg import create_model, load_model, predict, save_model
from napari_seg.workspace import ImageSource, View, Workspace, obstacles


def test_a_stack_is_predicted_view_first_and_then_all(
    workspace: Workspace, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = create_model("unet3d", width=4, depth=2, anisotropy=2.0)
    path = save_model(model, tmp_path / "volumes")
    stack = np.random.default_rng(0).integers(0, 999, (7, 40, 64)).astype(np.uint16)
    workspace.open_model(path)
    workspace.set_image(ImageSource("stack", stack))
    view = View((3,), slice(0, 32), slice(10, 50))
    workspace.predict(view, everything=False)
    assert workspace.session is not None
    reference = workspace.session.mask.reference
    assert (reference != 255).sum() == 32 * 40
    assert (reference[3, :32, 10:50] != 255).all()
    workspace.predict(view, everything=True)
    assert (reference == predict(load_model(path), stack, axes="ZYX").labels).all()
    # Accepted planes are nothing that it could learn from.
    assert "learns from volumes" in obstacles.to_finetune(workspace)
