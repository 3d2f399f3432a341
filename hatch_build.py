"""Put the manifest and the samples, which lie outside the package, into the wheel.

An editable install needs neither: there the package's symlink to the manifest and
the folder `sample_data` of the checkout are used as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelContents(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        build_data["force_include"].update(
            {
                str(root / "napari.yaml"): "napari_seg/napari.yaml",
                str(root / "sample_data"): "napari_seg/_samples",
            }
        )
