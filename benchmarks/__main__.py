"""Measure the claims and write them to ``benchmarks/RESULTS.md``.

``python -m benchmarks`` runs all that need no GPU, ``--gpu`` what needs one, and
``--only NAME`` (once or more) just these.  Sections that are not run keep what they
say, with their own date and machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from benchmarks._report import RESULTS, Section, machine, write

#: Name → title, in the order of RESULTS.md.
BENCHMARKS = {
    "startup": "Start-up",
    "inference": "Prediction",
    "runtimes": "Runtimes on a CPU",
    "first_pixels": "First pixels",
    "memory": "Memory of a prediction",
    "dock_memory": "Memory of the dock",
    "live_score": "Live score",
    "brush": "Brush to digits",
    "reopening": "Reopening",
    "responsiveness": "Responsiveness",
    "crf": "CRF refinement",
    "batch_norm": "Batch normalisation in small batches",
    "finetune_speed": "Speed of fine-tuning",
    "guard": "Guard",
    "forgetting": "Forgetting",
    "objects": "Objects of a mask",
    "volume": "Volumes",
    "gpu": "GPU",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure the GPU's claims")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME")
    given = parser.parse_args(arguments)
    names = given.only or (
        ["gpu"] if given.gpu else [name for name in BENCHMARKS if name != "gpu"]
    )
    missed = 0
    for name in names:
        print(f"{BENCHMARKS[name]} …", file=sys.stderr, flush=True)
        start = time.monotonic()
        rows = import_module(f"benchmarks.{name}").run()
        section = Section(
            title=BENCHMARKS[name],
            rows=rows,
            command=f"python -m benchmarks --only {name}",
            machine=machine(gpu=name == "gpu"),
            seconds=time.monotonic() - start,
        )
        # After each, so that an interrupted run has not measured in vain.
        write(section, list(BENCHMARKS.values()))
        print(section.text(), flush=True)
        missed += sum(row["met"] is False for row in rows)
    print(f"{missed} target(s) missed; see {RESULTS}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
