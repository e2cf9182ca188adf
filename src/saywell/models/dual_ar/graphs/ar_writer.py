"""Writing a graph whose weights lie in a file beside it and which may have bodies (Loop, If). Build time only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = npt.NDArray[Any]
FLOAT = int(TensorProto.FLOAT)
FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
_OPSET, _IR = 21, 10


class External:
    """Tensors in one file beside the graphs, written as they come, mapped when a graph is loaded."""

    _ALIGN = 4096

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def add(self, name: str, array: Array) -> TensorProto:
        """Append `array`; the entry a graph refers to it by."""
        self._file.write(bytes(-self._file.tell() % self._ALIGN))
        place = {"location": self.path.name, "offset": self._file.tell(), "length": array.nbytes}
        self._file.write(np.ascontiguousarray(array).data)
        entry = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        entry.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            entry.external_data.add(key=key, value=str(value))
        return entry

    def close(self) -> None:
        self._file.close()


class ArWriter:
    """Nodes in order; names are made up, unique across bodies."""

    def __init__(self, name: str, external: External) -> None:
        self._name, self._external = name, external
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str], kind: int = FLOAT) -> None:
        """Call `value` by the output's name: no copy lies between, so a cache is written in place."""
        for node in self._nodes:
            for side in (node.input, node.output):
                side[:] = [name if each == value else each for each in side]
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A small constant, inside the graph; equal ones are shared."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        name = f"const.{array.dtype}.{array.shape}.{array.tobytes().hex() if array.size < 9 else len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def named(self, name: str, array: Array) -> str:
        """A small constant under a name of its own, to be found again."""
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, array: Array) -> str:
        """A constant in the external file."""
        self._constants[name] = self._external.add(name, array)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """A node with several outputs."""
        self._count += 1
        name = f"{kind}.{self._count}"
        names = [f"{name}.{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names

    def enter(self) -> list[NodeProto]:
        """Further nodes go into a body; returns what `leave` needs to come back."""
        outside, self._nodes = self._nodes, []
        return outside

    def leave(
        self, outside: list[NodeProto], inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]
    ) -> GraphProto:
        """The body since `enter`, with names and element types of its inputs and outputs.

        Integer and boolean inputs are scalars (a Loop's turn and condition); all other shapes are left open.
        """
        body, self._nodes = self._nodes, outside
        given = [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in inputs]
        made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
        return helper.make_graph(body, f"body.{self._count}", given, made)

    def model(self) -> ModelProto:
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="saywell")
