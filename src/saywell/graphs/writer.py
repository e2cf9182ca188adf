"""Writes ONNX graphs: nodes, constants, subgraphs (Loop, If), and the state of streaming graphs.

A streaming graph works on tiles of a fixed number of rows (time × channel). Each part of its state is a pair of tensors
of the same shape: input `in.NAME` and output `out.NAME`, zeros before the first tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = npt.NDArray[Any]
FLOAT, INT64, BFLOAT16 = int(TensorProto.FLOAT), int(TensorProto.INT64), int(TensorProto.BFLOAT16)
FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
_INLINE_BYTES = 1024
"""Equal constants up to this size are shared; `save` writes larger ones to the external file."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Versions of ONNX, and the number of the first node, which all names of a graph follow from."""

    opset: int
    ir: int
    first: int


CODEC = Dialect(opset=17, ir=9, first=0)
TRANSFORMER = Dialect(opset=21, ir=10, first=1)


class External:
    """The external file of graphs: tensors are appended, and mapped when a graph is loaded."""

    _ALIGN = 4096

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def add(self, name: str, array: Array) -> TensorProto:
        """Append `array`; returns the reference for a graph."""
        self._file.write(bytes(-self._file.tell() % self._ALIGN))
        location = {"location": self.path.name, "offset": self._file.tell(), "length": array.nbytes}
        self._file.write(np.ascontiguousarray(array).data)
        entry = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        entry.data_location = TensorProto.EXTERNAL
        for key, value in location.items():
            entry.external_data.add(key=key, value=str(value))
        return entry

    def close(self) -> None:
        self._file.close()


class GraphWriter:
    """Collects nodes in order. Generated names are unique across subgraphs."""

    def __init__(self, name: str, dialect: Dialect, external: External | None = None) -> None:
        """`external`: file for the tensors of `weight`."""
        self._name, self._dialect, self._external = name, dialect, external
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._renamed: dict[str, str] = {}
        self._next = dialect.first

    def input(self, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str], kind: int = FLOAT) -> None:
        """Rename `value` to the output's name: without a copy in between, a cache is updated in place."""
        self._renamed[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A constant. Small equal ones are shared."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (str(array.dtype), array.shape, array.tobytes() if array.nbytes <= _INLINE_BYTES else b"")
        if key[2] and key in self._shared:
            return self._shared[key]
        short = array.tobytes().hex() if array.size < 9 else len(self._constants)
        name = self._shared[key] = f"const.{array.dtype}.{array.shape}.{short}"
        return self.named(name, array)

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def named(self, name: str, array: Array) -> str:
        """A constant with a given name."""
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, array: Array) -> str:
        """A constant in the external file."""
        assert self._external is not None
        self._constants[name] = self._external.add(name, array)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = f"{kind}.{self._next}"
        self._next += 1
        names = [f"{name}.{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names

    def begin_body(self) -> list[NodeProto]:
        """Start a subgraph; returns the outer nodes for `end_body`."""
        outside, self._nodes = self._nodes, []
        return outside

    def end_body(
        self, outside: list[NodeProto], inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]
    ) -> GraphProto:
        """The subgraph since `begin_body`, with names and element types of its inputs and outputs.

        Integer and boolean inputs are scalars (a Loop's iteration and condition); all other shapes are unspecified.
        """
        body, self._nodes = self._nodes, outside
        ins = [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in inputs]
        outs = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
        return helper.make_graph(body, f"body.{self._next - 1}", ins, outs)

    def load_state(self, name: str, shape: Sequence[int], kind: int = FLOAT) -> str:
        """The state that the previous tile passed to `store_state`."""
        return self.input(f"in.{name}", shape, kind)

    def store_state(self, name: str, value: str, shape: Sequence[int], kind: int = FLOAT) -> None:
        self.output(f"out.{name}", value, shape, kind)

    def with_past(self, name: str, value: str, shape: Sequence[int], axis: int) -> str:
        """The last `shape[axis]` steps before this tile, then the tile."""
        joined = self.op("Concat", self.load_state(name, shape), value, axis=axis)
        last = self.ints(-shape[axis])
        self.store_state(name, self.op("Slice", joined, last, self.ints(1 << 31), self.ints(axis)), shape)
        return joined

    def model(self) -> ModelProto:
        for node in self._nodes:
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
            node.output[:] = [self._renamed.get(name, name) for name in node.output]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", self._dialect.opset), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self._dialect.ir, producer_name="saywell")

    def save(self, path: Path) -> list[Path]:
        """Write PATH and PATH.data (the large constants). Returns both."""
        data = path.with_name(f"{path.name}.data")
        data.unlink(missing_ok=True)
        onnx.save_model(
            self.model(), str(path), save_as_external_data=True, location=data.name, size_threshold=_INLINE_BYTES
        )
        return [path, data]
