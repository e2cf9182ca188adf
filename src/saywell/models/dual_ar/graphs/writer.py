"""A small hand for writing ONNX graphs, and the streaming stage every codec graph is. Build time only.

A stage works on tiles of a fixed number of rows (time × channel). What it has to remember is a pair of tensors for each
place: input `in.NAME`, output `out.NAME`, same shape, zeros before the first tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
FLOAT, INT64, BFLOAT16 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BFLOAT16
FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
_OPSET = 17
_IR = 9
_INLINE_BYTES = 1024
"""Larger constants go to the file beside the graph, which is mapped and not read."""


class GraphWriter:
    """Nodes in order; names are made up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._renamed: dict[str, str] = {}

    def input(self, name: str, shape: Sequence[int], kind: int = FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[int], kind: int = FLOAT) -> None:
        """Name a value as an output of the graph."""
        self._renamed[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A constant; small equal ones are shared."""
        array = np.ascontiguousarray(value, dtype=dtype)
        key = (str(array.dtype), array.shape, array.tobytes() if array.nbytes <= _INLINE_BYTES else b"")
        if key[2] and key in self._seen:
            return self._seen[key]
        name = f"const.{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array.reshape(np.shape(value)), name)
        self._seen[key] = name
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = f"{kind}.{len(self._nodes)}"
        names = [f"{name}.{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names

    def remember(self, name: str, shape: Sequence[int], kind: int = FLOAT) -> str:
        """What the previous tile left here; give this tile's with `leave`."""
        return self.input(f"in.{name}", shape, kind)

    def leave(self, name: str, value: str, shape: Sequence[int], kind: int = FLOAT) -> None:
        self.output(f"out.{name}", value, shape, kind)

    def with_past(self, name: str, value: str, shape: Sequence[int], axis: int) -> str:
        """The last `shape[axis]` steps before this tile, then the tile."""
        joined = self.op("Concat", self.remember(name, shape), value, axis=axis)
        last = self.ints(-shape[axis])
        self.leave(name, self.op("Slice", joined, last, self.ints(1 << 31), self.ints(axis)), shape)
        return joined

    def save(self, path: Path) -> list[Path]:
        """Write PATH and PATH.data (the constants). Returns both."""
        for node in self._nodes:
            node.input[:] = [self._renamed.get(each, each) for each in node.input]
            node.output[:] = [self._renamed.get(each, each) for each in node.output]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="saywell")
        data = path.with_name(f"{path.name}.data")
        data.unlink(missing_ok=True)
        onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=_INLINE_BYTES)
        return [path, data]
