"""Packages made by hand, small models, and a world without a network."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from napari_seg.models.base import SegmentationModel
from napari_seg.models.registry import create_model

Packages = Callable[..., Path]

#: A package of specification 0.5 with a channel in and two classes out.
TOLD: dict[str, Any] = {
    "format_version": "0.5.3",
    "type": "model",
    "name": "by hand",
    "tags": ["semantic-segmentation"],
    "inputs": [
        {
            "id": "raw",
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["intensity"]},
                {"type": "space", "id": "y", "size": {"min": 32, "step": 16}},
                {"type": "space", "id": "x", "size": {"min": 32, "step": 16}},
            ],
            "preprocessing": [],
        }
    ],
    "outputs": [
        {
            "id": "seg",
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["background", "cell"]},
                {
                    "type": "space",
                    "id": "y",
                    "size": {"tensor_id": "raw", "axis_id": "y"},
                    "halo": 16,
                },
                {
                    "type": "space",
                    "id": "x",
                    "size": {"tensor_id": "raw", "axis_id": "x"},
                    "halo": 16,
                },
            ],
            "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
        }
    ],
    "weights": {"onnx": {"source": "net.onnx", "opset_version": 13}},
}


def linear_graph(
    weight: NDArray[np.float32], bias: NDArray[np.float32], end: str | None = None
) -> onnx.ModelProto:
    """Return a 1 × 1 convolution as ONNX, (N, C, H, W) → (N, K, H, W)."""
    outputs, inputs = weight.shape
    nodes = [helper.make_node("Conv", ["raw", "w", "b"], ["c" if end else "seg"])]
    if end:
        nodes.append(helper.make_node(end, ["c"], ["seg"]))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("raw", TensorProto.FLOAT, _shape(inputs))],
            [helper.make_tensor_value_info("seg", TensorProto.FLOAT, _shape(outputs))],
            [
                numpy_helper.from_array(weight[..., None, None], "w"),
                numpy_helper.from_array(bias, "b"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )


def _shape(channels: int) -> list[int | str]:
    return ["N", channels, "H", "W"]


def npy(array: NDArray[Any]) -> bytes:
    """Return the content of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


#: Logits 0 and the intensity itself: its probability tells what was done to it.
SEEN = linear_graph(np.array([[0], [1]], np.float32), np.zeros(2, np.float32))


@pytest.fixture
def packed(tmp_path: Path) -> Packages:
    """Return a maker of packages; `edit` may change the description in place."""

    def make(
        edit: Callable[[dict[str, Any]], object] | None = None,
        graph: onnx.ModelProto | bytes = SEEN,
        name: str = "package.zip",
        **files: bytes,
    ) -> Path:
        told = copy.deepcopy(TOLD)
        if edit is not None:
            edit(told)
        content = graph if isinstance(graph, bytes) else graph.SerializeToString()
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rdf.yaml", yaml.safe_dump(told, sort_keys=False))
            archive.writestr("net.onnx", content)
            for key, value in files.items():
                archive.writestr(key.replace("__", "."), value)
        return path

    return make


@pytest.fixture(scope="session")
def small_unet() -> SegmentationModel:
    return _ready("unet", 2, ("background", "a", "b"), width=4, depth=2)


@pytest.fixture(scope="session")
def small_deeplab() -> SegmentationModel:
    return _ready("deeplabv3plus", 1, ("background", "cell"), encoder="resnet18")


def _ready(arch: str, channels: int, classes: tuple[str, ...], **options: Any):
    """Return a network whose batch normalisation has seen something."""
    torch.manual_seed(0)
    model = create_model(arch, channels, classes, **options)
    with torch.no_grad():
        for _ in range(4):
            model(torch.rand(2, channels, 64, 64))
    return model.eval()


@pytest.fixture(scope="session")
def bioimageio() -> Any:
    """Return bioimageio.spec."""
    spec = pytest.importorskip("bioimageio.spec", reason="needs the extra zoo")
    return spec


class Peer:
    """bioimageio.core, asked about several packages at once; see :mod:`peer`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._jobs = folder, []

    def ask(self, name: str, package: Path, image: NDArray[Any] | None = None) -> None:
        """Note a job: to predict (N, C, Y, X), or to run the package's own tests."""
        source = self._folder / f"{name}-input.npy"
        if image is not None:
            np.save(source, image)
        given = None if image is None else str(source)
        self._jobs.append({"name": name, "package": str(package), "input": given})

    def work(self, answers: Path) -> None:
        """Do all jobs; the answers are files of their names."""
        answers.mkdir()
        jobs = self._folder / "jobs.json"
        jobs.write_text(json.dumps(self._jobs))
        script = Path(__file__).with_name("peer.py")
        cache = {"BIOIMAGEIO_CACHE_PATH": str(self._folder / "cache")}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script, jobs, answers],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **cache},
        )
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def peer(bioimageio: Any, tmp_path: Path) -> Peer:
    return Peer(tmp_path)
