"""An ONNX graph in ONNX Runtime, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_seg.errors import ModelFileError
from napari_seg.zoo.extra import need

__all__ = ["Graph"]

_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_NO_MEMORY = ("allocate", "bad_alloc")


class Graph:
    """A network in ONNX Runtime, on the CPU.

    Copies of a model share it: a pass leaves nothing behind.

    Parameters
    ----------
    content : bytes
        The ONNX file.
    name : str
        Of the package, for messages.

    Raises
    ------
    ModelFileError
        If it cannot be computed, or would read other files.
    InputError
        If the extra ``zoo`` is not installed.
    """

    def __init__(self, content: bytes, name: str) -> None:
        need("A package of the BioImage Model Zoo", "onnx", "onnxruntime")
        # Imported late: few have it.
        import onnx
        from google.protobuf.message import DecodeError

        self._name = name
        try:
            self._graph = onnx.load_model_from_string(content)
        except DecodeError as error:
            raise self._unusable(error) from error
        if any(_is_elsewhere(tensor) for tensor in _tensors(self._graph.graph)):
            raise ModelFileError(
                f"The ONNX file in {name} keeps weights in other files, which are not "
                "opened: save it as a single file."
            )
        self._session = self._compiled(content)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in _KINDS:
            raise ModelFileError(
                f"The ONNX file in {name} has {len(inputs)} inputs and {len(outputs)} "
                "outputs, or takes whole numbers; napari-seg can use one of each, of "
                "floating-point numbers."
            )
        self._input, self._kind = inputs[0].name, _KINDS[inputs[0].type]

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the network says of an input, both in its own layout.

        Raises
        ------
        ModelFileError
            If the network fails.
        MemoryError
            If memory runs out.
        """
        return np.asarray(self._run(self._session, x)[0], np.float32)

    def cost(self, x: NDArray[Any]) -> tuple[float, float]:
        """Return multiply-accumulates of convolutions, and the largest feature map.

        Parameters
        ----------
        x : ndarray
            The input for which they are counted, by computing it once.
        """
        import onnx

        watched = onnx.ModelProto()
        watched.CopyFrom(self._graph)
        shown = {output.name for output in watched.graph.output}
        names = [n for node in watched.graph.node for n in node.output if n]
        watched.graph.output.extend(
            onnx.ValueInfoProto(name=n) for n in names if n not in shown
        )
        session = self._compiled(watched.SerializeToString(), plain=True)
        order = [output.name for output in session.get_outputs()]
        sizes = {
            name: np.shape(value)
            for name, value in zip(order, self._run(session, x), strict=True)
        }
        sizes[self._input] = x.shape
        weights = {each.name: tuple(each.dims) for each in watched.graph.initializer}
        macs = sum(
            _macs(node, sizes, {**sizes, **weights})
            for node in watched.graph.node
            if node.op_type in ("Conv", "ConvTranspose")
        )
        return float(macs), float(max(np.prod(shape) for shape in sizes.values()))

    def _run(self, session: Any, x: NDArray[Any]) -> list[Any]:
        try:
            answers: list[Any] = session.run(None, {self._input: x.astype(self._kind)})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            if any(word in str(error) for word in _NO_MEMORY):
                raise MemoryError(str(error)) from error
            raise ModelFileError(
                f"The network in {self._name} fails on an input of shape {x.shape}: "
                f"{_first_line(error)}"
            ) from error
        return answers

    def _compiled(self, content: bytes, plain: bool = False) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        if plain:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        try:
            return onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ModelFileError:
        return ModelFileError(
            f"The ONNX file in {self._name} cannot be used: it is damaged, or needs a "
            f"newer ONNX Runtime or operators of its own. ({_first_line(error)})"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _macs(
    node: Any, made: dict[str, tuple[int, ...]], known: dict[str, tuple[int, ...]]
) -> float:
    """Return the multiply-accumulates of a convolution: weights times places."""
    weight = known.get(node.input[1], ())
    over = node.output[0] if node.op_type == "Conv" else node.input[0]
    return float(np.prod(weight) * np.prod(made.get(over, (0, 0))[2:]))


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor that a graph holds, in nested graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[Any]) -> Iterator[Any]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for nested in (attribute.g, *attribute.graphs):
            yield from _tensors(nested)


def _is_elsewhere(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == 1
