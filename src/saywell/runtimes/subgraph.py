"""Cuts an ONNX graph at its tensors by protobuf fields, because the `onnx` package is not a runtime dependency.

Field numbers are those of onnx.proto3 (ModelProto.graph 7; GraphProto node 1, initializer 5, input 11, output 12,
value_info 13; NodeProto input 1, output 2, name 3, op_type 4; TensorProto and ValueInfoProto name 8 and 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_TENSOR_NAME, _VALUE_NAME = 8, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NAMES = {number << 3 | _BYTES: number - 1 for number in (1, 2, 3, 4)}
"""Keys of a node's input, output, name and op_type → their places in Node.names."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. `raw`: its field of the graph, as in the file. `names`: inputs, outputs, name and type, undecoded
    since most are never used."""

    names: tuple[list[bytes], ...]
    raw: bytes

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in self.names[0])

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in self.names[1])

    @property
    def name(self) -> str:
        return b"".join(self.names[2]).decode()

    @property
    def op(self) -> str:
        return b"".join(self.names[3]).decode()


class Model:
    """A parsed model file. Raises ValueError for bytes that are not an ONNX model."""

    def __init__(self, data: bytes) -> None:
        self._head: list[bytes] = []
        self.nodes: list[Node] = []
        self._tensors: dict[bytes, bytes] = {}
        self._values: list[bytes] = []
        self._given: list[bytes] = []
        graph = b""
        for number, value, raw in _fields(data):
            if number == _GRAPH:
                graph = value
            else:
                self._head.append(raw)
        for number, value, raw in _fields(graph):
            self._take(number, value, raw)
        if not self.nodes:
            raise ValueError("this file contains no graph")

    def _take(self, number: int, value: bytes, raw: bytes) -> None:
        if number == _NODE:
            self.nodes.append(_node(value, raw))
        elif number == _INITIALIZER:
            self._tensors[_first(value, _TENSOR_NAME)] = raw
        elif number in (_INPUT, _OUTPUT, _VALUE_INFO):
            self._values.append(value)
        else:
            self._given.append(raw)

    def producer(self, tensor: str) -> Node:
        """The node that computes a tensor. Raises ValueError."""
        return _only(node for node in self.nodes if tensor.encode() in node.names[1])

    def consumer(self, tensor: str, op: str) -> Node:
        """The one node of type `op` that reads a tensor. Raises ValueError."""
        return _only(node for node in self.nodes if tensor.encode() in node.names[0] and node.op == op)

    def cut(self, inputs: Iterable[str], outputs: Iterable[str]) -> bytes:
        """The part of the graph that computes `outputs` from `inputs`, as a model file.

        The file must declare the type of every name: as an input, an output or a value_info. Raises ValueError if the
        part depends on other inputs.
        """
        ins, outs = [name.encode() for name in inputs], [name.encode() for name in outputs]
        made = {name: node for node in self.nodes for name in node.names[1]}
        needed, used = set[int](), set[bytes]()
        waiting = list(outs)
        while waiting:
            name = waiting.pop()
            if not name or name in used:
                continue
            used.add(name)
            if name in ins or name in self._tensors:
                continue
            if name not in made:
                raise ValueError(f"{name.decode()} is neither computed by this graph nor one of its inputs")
            needed.add(id(made[name]))
            waiting += made[name].names[0]
        parts = [*self._given]
        parts += [node.raw for node in self.nodes if id(node) in needed]
        parts += [raw for name, raw in self._tensors.items() if name in used]
        parts += [_field(_INPUT, self._value(name)) for name in ins]
        parts += [_field(_OUTPUT, self._value(name)) for name in outs]
        return b"".join([*self._head, _field(_GRAPH, b"".join(parts))])

    def _value(self, name: bytes) -> bytes:
        for value in self._values:
            if name in value and _first(value, _VALUE_NAME) == name:
                return value
        raise ValueError(f"the graph does not declare the type of {name.decode()}")


def _only(nodes: Iterator[Node]) -> Node:
    found = list(nodes)
    if len(found) != 1:
        raise ValueError(f"{len(found)} nodes where one was expected")
    return found[0]


def _node(value: bytes, raw: bytes) -> Node:
    """The names are the first fields of a node, with lengths of one byte, in the order that all writers use."""
    names: tuple[list[bytes], ...] = ([], [], [], [])
    at = 0
    while at < len(value) and value[at] in _NAMES and value[at + 1] < 128:
        end = at + 2 + value[at + 1]
        names[_NAMES[value[at]]].append(value[at + 2 : end])
        at = end
    return Node(names, raw)


def _first(message: bytes, number: int) -> bytes:
    return next((value for found, value, _ in _fields(message) if found == number), b"")


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, value and raw bytes of each field. The value is empty for fields that are not byte strings."""
    at, end = 0, len(message)
    while at < end:
        begin = at
        key, at = _varint(message, at)
        kind, value = key & 7, b""
        if kind == _BYTES:
            size, start = _varint(message, at)
            at = start + size
            value = message[start:at]
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"no protobuf field starts at byte {begin}")
        if at > end:
            raise ValueError("the file ends in the middle of a field")
        yield key >> 3, value, message[begin:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        if byte < 128:  # nearly always
            return byte, at + 1
        value = shift = 0
        while byte >= 128:
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            byte = data[at]
    except IndexError:
        raise ValueError("the file ends in the middle of a number") from None
    return value | byte << shift, at + 1


def _field(number: int, value: bytes) -> bytes:
    head = bytearray()
    for left in (number << 3 | _BYTES, len(value)):
        rest = left
        while rest > 127:
            head.append(rest & 127 | 128)
            rest >>= 7
        head.append(rest)
    return bytes(head) + value
