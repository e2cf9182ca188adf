"""Reads an exported graph of Kokoro, and cuts it into encoder and decoder.

Nodes are found by structure (operators, attributes, data flow), never by name: exporters differ in those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
FEATURES, F0, ENERGY, DURATIONS = "features", "f0", "energy", "durations"
TILE = 1024
"""Maximum rows of a tile: best for one thread; 2048 for two. The output depends on it a little, as on rounding."""


class Split(NamedTuple):
    """The two halves of a model.

    encoder: tokens, style, speed → features [1,512,T], f0 [1,2T], energy [1,2T], durations int64 [1,L].
    decoder: features, f0, energy, style → the model's own audio output.
    """

    encoder: ModelProto
    decoder: ModelProto


class Reader:
    """Producers, consumers and constants of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.producer: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output if name}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._values: dict[str, NDArray[Any]] = {}

    def maker(self, name: str, *operators: str) -> NodeProto | None:
        """The node that makes this tensor, where its operator is one of these."""
        node = self.producer.get(name)
        return node if node is not None and (not operators or node.op_type in operators) else None

    def constant(self, name: str) -> NDArray[Any] | None:
        if name not in self._values:
            node = self.producer.get(name)
            if name in self._initializers:
                self._values[name] = numpy_helper.to_array(self._initializers[name])
            elif node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
                self._values[name] = numpy_helper.to_array(node.attribute[0].t)
            else:
                return None
        return self._values[name]

    def scalar(self, name: str) -> float | None:
        value = self.constant(name)
        return None if value is None or value.size != 1 else float(value.reshape(()))

    def ancestors(self, names: Iterable[str], stop: Iterable[str] = ()) -> list[NodeProto]:
        """The nodes that these tensors need, in the graph's order, not going past `stop`."""
        wanted, stopped, pending = set[int](), set(stop), list(names)
        while pending:
            name = pending.pop()
            node = self.producer.get(name)
            if name in stopped or node is None or id(node) in wanted:
                continue
            wanted.add(id(node))
            pending += [*node.input, *_captured(node)]
        return [node for node in self.graph.node if id(node) in wanted]

    def initializers(self, nodes: Iterable[NodeProto]) -> list[TensorProto]:
        used = {name for node in nodes for name in (*node.input, *_captured(node))}
        return [tensor for tensor in self.graph.initializer if tensor.name in used]


def _captured(node: NodeProto) -> list[str]:
    """Names that the node's subgraphs read; some are their own."""
    graphs = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [name for graph in graphs for inner in graph.node for name in (*inner.input, *_captured(inner))]


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def declared(name: str, kind: int, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def assembled(
    like: ModelProto,
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[TensorProto],
) -> ModelProto:
    graph = helper.make_graph(nodes, like.graph.name or "graph", inputs, outputs, initializers)
    used = {node.domain for node in nodes} | {"", MICROSOFT}
    opsets = [opset for opset in like.opset_import if opset.domain in used]
    if MICROSOFT not in {opset.domain for opset in opsets}:
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=like.ir_version)
    model.metadata_props.extend(like.metadata_props)
    return model


class Cuts(NamedTuple):
    features: str
    f0: str
    energy: str
    durations: str


def find_cuts(graph: GraphProto) -> Cuts:
    """The tensors between encoder and decoder, and the durations."""
    read = Reader(graph)
    f0 = _source_f0(read)
    features, energy = _decoder_input(read, f0)
    return Cuts(features, f0, energy, _durations(read))


def _source_f0(read: Reader) -> str:
    """F0 is what the sine source repeats to the sample rate: the nearest-neighbour Resize with the largest factor."""
    best: tuple[float, str] | None = None
    for node in read.graph.node:
        if node.op_type != "Resize" or attributes_of(node).get("mode", b"nearest") != b"nearest" or len(node.input) < 3:
            continue
        scales = read.constant(node.input[2])
        if scales is not None and scales.size == 3 and (best is None or scales[2] > best[0]):
            best = (float(scales[2]), node.input[0])
    if best is None or best[0] < 16:
        raise ValueError("no upsampling of F0 for the harmonic source (Resize, nearest, a factor above 16)")
    return _without_unsqueeze(read, best[1])


def _without_unsqueeze(read: Reader, name: str) -> str:
    node = read.maker(name, "Unsqueeze")
    return node.input[0] if node is not None else name


def _decoder_input(read: Reader, f0: str) -> tuple[str, str]:
    """The decoder joins features, F0 and energy by channel; F0 and energy have passed a convolution each."""
    for node in read.graph.node:
        if node.op_type != "Concat" or len(node.input) != 3 or attributes_of(node)["axis"] not in (1, -2):
            continue
        if f0 not in {name for inner in read.ancestors([node.input[1]], [f0]) for name in inner.input}:
            continue
        convolution = [n for n in read.ancestors([node.input[1]], [f0]) if n.op_type in ("Conv", "ConvInteger")]
        if len(convolution) == 1 and (energy := _convolved(read, node.input[2])):
            return node.input[0], _without_unsqueeze(read, energy)
    raise ValueError("no Concat of features, convolved F0 and convolved energy")


def _convolved(read: Reader, name: str) -> str | None:
    """The input of the convolution, quantised or not, that makes this tensor."""
    while (node := read.maker(name, "Mul", "Cast", "Add")) is not None:
        name = node.input[0]
    node = read.maker(name, "Conv", "ConvInteger")
    if node is None:
        return None
    quantised = read.maker(node.input[0], "DynamicQuantizeLinear")
    return str(quantised.input[0] if quantised is not None else node.input[0])


def _durations(read: Reader) -> str:
    for node in read.graph.node:
        if node.op_type == "Cast" and attributes_of(node)["to"] == TensorProto.INT64:
            clip = read.maker(node.input[0], "Clip", "Max")
            rounded = clip and read.maker(clip.input[0], "Round")
            if rounded and read.maker(rounded.input[0], "Div") is not None:
                return str(node.output[0])
    raise ValueError("no durations (Div, Round, Clip, Cast to int64)")


def split(model: ModelProto) -> Split:
    """Cut the model; raises ValueError naming what it lacks. The encoder's nodes are the model's own."""
    graph, read, cuts = model.graph, Reader(model.graph), find_cuts(model.graph)
    nodes = read.ancestors(cuts)
    names = dict(zip(cuts, (FEATURES, F0, ENERGY, DURATIONS), strict=True))
    ends = [helper.make_node("Identity", [name], [plain]) for name, plain in names.items()]
    given = {name for node in nodes for name in node.input}
    encoder = assembled(
        model,
        [*nodes, *ends],
        [value for value in graph.input if value.name in given],
        [
            declared(FEATURES, TensorProto.FLOAT, [1, None, "frames"]),
            declared(F0, TensorProto.FLOAT, [1, "half_frames"]),
            declared(ENERGY, TensorProto.FLOAT, [1, "half_frames"]),
            declared(DURATIONS, TensorProto.INT64, [1, "tokens"]),
        ],
        read.initializers(nodes),
    )
    between = cuts[:3]
    nodes = read.ancestors([graph.output[0].name], between)
    starts = [helper.make_node("Identity", [names[name]], [name]) for name in between]
    given = {name for node in nodes for name in node.input}
    decoder = assembled(
        model,
        [*starts, *nodes],
        [*encoder.graph.output[:3], *(value for value in graph.input if value.name in given)],
        graph.output[:1],
        read.initializers(nodes),
    )
    return Split(encoder, decoder)
