"""`python -m napari_seg`: the same as the command `napari-seg`."""

from __future__ import annotations

import sys

from napari_seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
