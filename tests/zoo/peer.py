"""What bioimageio.core makes of packages, in a process without a network.

By itself, since it leaves files open. ``python peer.py JOBS.json ANSWERS``: each job
has a name and a package, and an input (.npy) to predict or nothing for its own tests.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np


def _refuse(*_: object, **__: object) -> None:
    raise RuntimeError("something asked for the network")


def _predict(core: Any, package: str, source: str) -> np.ndarray:
    """Return the answer to (N, C, Y, X), as a whole and without mirrored borders."""
    from bioimageio.core.digest_spec import create_sample_for_model

    described = core.load_model_description(package, perform_io_checks=False)
    inputs = {described.inputs[0].id: np.load(source)}
    with core.create_prediction_pipeline(described) as pipeline:
        answer = pipeline.predict_sample_without_blocking(
            create_sample_for_model(described, inputs=inputs),
            skip_input_padding=True,
            skip_output_cropping=True,
        )
    (tensor,) = answer.members.values()
    return tensor.data.to_numpy()


def main(jobs: str, answers: str) -> None:
    """Do the jobs."""
    socket.socket.connect = _refuse  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = _refuse  # type: ignore[assignment]
    import bioimageio.core as core

    for job in json.loads(Path(jobs).read_text()):
        target = Path(answers) / job["name"]
        if job["input"]:
            np.save(target, _predict(core, job["package"], job["input"]))
        else:
            summary = core.test_model(job["package"], devices=["cpu"])
            target.write_text(json.dumps([summary.status, summary.format()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
