"""Packages of the BioImage Model Zoo as models.

Nothing in a package is run or unpickled: its description is plain YAML, its test
output a plain array, and its network a graph of operations that ONNX Runtime knows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_seg.models.spec import ModelSpec
from napari_seg.zoo.archive import open_package
from napari_seg.zoo.reading import read_description, read_graph

if TYPE_CHECKING:
    from napari_seg.zoo.network import PackageModel

__all__ = ["import_bioimage", "read_package_spec"]


def import_bioimage(path: str | os.PathLike[str]) -> PackageModel:
    """Open a package of the BioImage Model Zoo as a model.

    Specification 0.4 or 0.5, with ONNX weights, one two-dimensional image in and the
    classes of its pixels out, as logits or probabilities: of classes that exclude each
    other, or of one or several classes beside the background, which is then where
    none of them is likelier than not. What the specification does not say is seen in
    the package's test output.

    The steps before the network are those of the package; where they go by values of
    the image, they go by the whole image here, all planes of a stack.

    Parameters
    ----------
    path : path-like
        A .zip file, or a folder with ``bioimageio.yaml`` or ``rdf.yaml``.

    Returns
    -------
    PackageModel
        For :func:`napari_seg.predict`. It computes on the CPU. Fine-tuning, adapting
        and saving raise :class:`~napari_seg.errors.NotTrainableError`.

    Raises
    ------
    ModelFileError
        If the package is missing, damaged, harmful, or does not fit.
    InputError
        If the extra ``zoo`` is not installed.
    """
    files = open_package(Path(path).expanduser())
    description = read_description(files)
    # Imported late, since it needs torch.
    from napari_seg.zoo.graph import Graph
    from napari_seg.zoo.network import PackageModel

    graph = Graph(read_graph(files, description), files.path.name)
    return PackageModel(description, graph).eval()


def read_package_spec(path: Path) -> ModelSpec:
    """Return the description of a package for the rest of the program.

    Raises
    ------
    ModelFileError
        As :func:`import_bioimage`; the network is not looked at.
    """
    return read_description(open_package(path)).spec
