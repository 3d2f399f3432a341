"""What somebody has set survives a change of the defaults, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

from napari_seg.options import rebased
from napari_seg.training.augmentation import AugmentOptions
from napari_seg.training.finetune import FinetuneOptions, for_volumes


def test_what_was_changed_stays_where_defaults_change() -> None:
    planes = FinetuneOptions()
    volumes = for_volumes(planes)
    augmentation = replace(AugmentOptions(), flips=False)
    mine = replace(planes, average=0.9, augmentation=augmentation)
    moved = rebased(mine, planes, volumes)
    assert moved == replace(volumes, average=0.9, augmentation=augmentation)
    assert rebased(moved, volumes, planes) == mine
    # A default of the one that was chosen for the other stays, too.
    chosen = replace(volumes, batch=planes.batch)
    assert rebased(chosen, volumes, volumes) == chosen
