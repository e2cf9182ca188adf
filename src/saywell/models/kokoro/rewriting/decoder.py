"""The rewritten encoder, bit-equal to the published one, and the rewritten decoder, which is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from saywell.models.kokoro.rewriting.channels import STYLE, Channels
from saywell.models.kokoro.rewriting.meaning import (
    Convolution,
    Joined,
    Leaf,
    Lifter,
    Meaning,
    Norm,
    Snake,
    Upsampling,
    every,
)
from saywell.models.kokoro.rewriting.reading import F0, TILE, Reader, assembled, attributes_of, declared
from saywell.models.kokoro.rewriting.rows import Decoder, Writer
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

SPECTRUM = "spectrum"
"""Magnitudes and phases, [1, 22, time]."""

# The harmonic source's spectrum


def _replace_stft(model: ModelProto) -> ModelProto:
    """STFT as a convolution that gives exactly the original values in unvoiced stretches.

    There the source is a constant c and most bins are rounding noise, whose phase the network reads. So convolve x - c,
    which is exactly 0 there, and add the original spectrum of c.
    """
    read = Reader(model.graph)
    found = [node for node in model.graph.node if node.op_type == "STFT"]
    if not found:
        return model  # another exporter's own convolution
    if len(found) > 1:
        raise ValueError("more than one STFT")
    (node,) = found
    step, length = read.scalar(node.input[1]), read.scalar(node.input[3])
    window = read.constant(node.input[2])
    if step is None or length is None or window is None or not attributes_of(node).get("onesided", 1):
        raise ValueError("the STFT's step, length or window is not constant, or it is not one-sided")
    size, bins = int(length), int(length) // 2 + 1
    level, spectrum = _unvoiced(model, read, node)
    angle = 2 * np.pi * np.outer(np.arange(bins), np.arange(size)) / size
    basis = np.concatenate([np.cos(angle), -np.sin(angle)]) * window
    out = Writer([10**9])
    x = out.reshape(out.put("Sub", node.input[0], out.number(level)), 1, 1, -1)
    bias = spectrum.T.reshape(-1)
    y = out.put(
        "Conv", x, out.constant(basis[:, None], np.float32), out.constant(bias, np.float32), strides=[int(step)]
    )
    y = out.reshape(y, 1, 2, bins, -1)
    out.nodes.append(helper.make_node("Transpose", [y], [node.output[0]], perm=[0, 3, 2, 1]))
    nodes: list[NodeProto] = []
    for other in model.graph.node:
        nodes += out.nodes if other is node else [other]
    graph = model.graph
    return assembled(model, nodes, graph.input, graph.output, [*graph.initializer, *out.constants.values()])


def _unvoiced(model: ModelProto, read: Reader, stft: NodeProto) -> tuple[float, NDArray[np.float32]]:
    """The constant that the source gives for F0 = 0, and its spectrum [bins, 2] by onnxruntime's STFT."""

    names = [stft.input[0], stft.output[0]]
    nodes = read.ancestors(names)
    given = {name for node in nodes for name in node.input}
    inputs = [value for value in model.graph.input if value.name in given]
    if [value.name for value in inputs] != [F0]:
        raise ValueError("the harmonic source needs more than F0")
    outputs = [declared(name, TensorProto.FLOAT, None) for name in names]
    part = assembled(model, nodes, inputs, outputs, read.initializers(nodes))
    source = Graph(part.SerializeToString(), Threading(spin=False), optimise=False)
    wave, spectrum = source.run({F0: np.zeros((1, 8), np.float32)})
    if np.ptp(wave) or np.ptp(spectrum, axis=1).any():
        raise ValueError("the harmonic source is not constant where unvoiced")
    return float(wave.flat[0]), spectrum[0, 0]


def rewrite_encoder(encoder: ModelProto) -> ModelProto:
    """Integer convolutions as integer matrix products: the same integers, so bit-equal outputs, in less time."""
    read, out = Reader(encoder.graph), Writer([2 * 10**9])
    nodes: list[NodeProto] = []
    for node in encoder.graph.node:
        if node.op_type == "ConvInteger" and _exact_product(read, out, node):
            nodes += out.nodes
            out.nodes = []
        else:
            nodes.append(node)
    graph = encoder.graph
    initializers = [*read.initializers(nodes), *out.constants.values()]
    return assembled(encoder, nodes, graph.input, graph.output, initializers)


def _exact_product(read: Reader, out: Writer, node: NodeProto) -> bool:
    weight, point = read.constant(node.input[1]), read.scalar(node.input[3]) if len(node.input) > 3 else 0.0
    if weight is None or point is None or len(node.input) < 3:
        return False
    conv = Lifter.shape_of(node, weight)
    if conv is None or conv.stride != 1:
        return False
    outputs, inputs, kernel = weight.shape
    integers = weight.astype(np.int16) - int(point)
    if np.abs(integers).max() > 127:
        return False
    x = out.put("Transpose", node.input[0], perm=[0, 2, 1])
    if any(conv.pads):
        x = out.put("Pad", x, out.integers(0, conv.pads[0], 0, 0, conv.pads[1], 0), node.input[2])
    columns, reach = [], (kernel - 1) * conv.dilation
    for start in range(0, reach + 1, conv.dilation):
        end = start - reach or np.iinfo(np.int64).max
        columns.append(out.put("Slice", x, out.integers(start), out.integers(end), out.integers(1)))
    x = out.put("Concat", *columns, axis=2) if kernel > 1 else x
    matrix = integers.astype(np.int8).transpose(2, 1, 0).reshape(kernel * inputs, outputs)
    y = out.put("MatMulInteger", x, out.constant(matrix), node.input[2])
    out.nodes.append(helper.make_node("Transpose", [y], [node.output[0]], perm=[0, 2, 1]))
    return True


class Known(NamedTuple):
    """A decoder whose structure is recognised."""

    model: ModelProto
    read: Reader
    last: NodeProto
    """The convolution that gives magnitudes and phases."""
    top: Meaning
    """Its input."""
    leaf_channels: dict[str, int]


def recognise(decoder: ModelProto) -> Known:
    """Raises ValueError naming what is missing."""
    decoder = _replace_stft(decoder)
    read = Reader(decoder.graph)
    last = _last_convolution(read)
    top = Lifter(read).lift(last.input[0])
    meanings = every(top)
    counts = {kind: sum(isinstance(m, kind) for m in meanings) for kind in (Convolution, Norm, Snake, Upsampling)}
    if missing := [kind.__name__ for kind, count in counts.items() if not count]:
        raise ValueError(f"the decoder has no {', '.join(missing)} in a form that is known")
    return Known(decoder, read, last, top, _leaf_channels(meanings))


def rewrite(known: Known, tile: int = TILE) -> ModelProto:
    """The decoder for ONNX Runtime: same inputs, same output."""
    graph, read, last = known.model.graph, known.read, known.last
    meanings = every(known.top)
    leaves = [m.name for m in meanings if isinstance(m, Leaf)]
    out = Writer()
    writer = Decoder(out, known.leaf_channels, tile)
    rows = writer.write(known.top)
    flat = out.put("Transpose", out.put("Unsqueeze", writer._flat(rows), out.integers(0)), perm=[0, 2, 1])
    needed = [*leaves, *(name for m in meanings if isinstance(m, Norm) for name in (m.gain, m.offset))]
    before = read.ancestors(needed)
    kept = {id(node) for node in before}
    after = [n for n in read.ancestors([graph.output[0].name], [last.input[0]]) if id(n) not in kept]
    final = [_renamed(node, {last.input[0]: flat}) for node in after]
    nodes = [*before, *out.nodes, *final]
    return _part(known, nodes, graph.output, out)


class Parts(NamedTuple):
    """A decoder in three graphs, of which OpenVINO runs `middle`."""

    front: ModelProto
    """The decoder's inputs → those of `middle`."""
    middle: ModelProto
    tail: ModelProto
    """The output of `middle` → the decoder's."""


def rewrite_in_channels(known: Known) -> Parts:
    """The decoder for OpenVINO. Front and tail need float's precision: phases add up there."""
    graph, read, last, out = known.model.graph, known.read, known.last, Writer()
    writer = Channels(out, known.leaf_channels)
    x = out.put("Squeeze", writer.write(known.top), out.integers(2))
    given = [out.constant(read.constant(name)) for name in last.input[1:]]
    out.nodes.append(helper.make_node("Conv", [x, *given], [SPECTRUM], **attributes_of(last)))
    between = [
        *(
            declared(name, TensorProto.FLOAT, [1, known.leaf_channels[old], f"{name} time"])
            for old, name in writer.leaves.items()
        ),
        declared(STYLE, TensorProto.FLOAT, [writer.size]),
    ]
    spectrum = [declared(SPECTRUM, TensorProto.FLOAT, [1, None, "spectrum time"])]
    middle = assembled(known.model, out.nodes, between, spectrum, [*out.constants.values()])

    end = Writer([3 * 10**9])
    affine = [name for norm in writer.norms for name in (norm.gain, norm.offset)]
    flat = [end.reshape(name, -1) for name in affine]
    end.nodes.append(helper.make_node("Concat", flat, [STYLE], axis=0))
    end.nodes += [helper.make_node("Identity", [old], [name]) for old, name in writer.leaves.items()]
    front = _part(known, [*read.ancestors([*affine, *writer.leaves]), *end.nodes], between, end)
    after = read.ancestors([graph.output[0].name], [last.output[0]])
    tail = [_renamed(node, {last.output[0]: SPECTRUM}) for node in after]
    return Parts(front, middle, assembled(known.model, tail, spectrum, graph.output, read.initializers(tail)))


def _part(known: Known, nodes: Sequence[NodeProto], outputs: Sequence[ValueInfoProto], out: Writer) -> ModelProto:
    """A graph that starts from inputs of the decoder."""
    used = {name for node in nodes for name in node.input}
    inputs = [value for value in known.model.graph.input if value.name in used]
    constants = [*known.read.initializers(nodes), *out.constants.values()]
    return assembled(known.model, nodes, inputs, outputs, constants)


def _renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    return copy


def _last_convolution(read: Reader) -> NodeProto:
    """The float convolution that gives magnitudes and phases: the nearest to the output that lowers the channels."""
    node: NodeProto
    for node in reversed(read.graph.node):
        if node.op_type == "Conv":
            weight = read.constant(node.input[1])
            if weight is not None and weight.ndim == 3 and weight.shape[0] < weight.shape[1]:
                return node
    raise ValueError("no last convolution (Conv with fewer outputs than inputs)")


def _leaf_channels(meanings: Sequence[Meaning]) -> dict[str, int]:
    """From the convolutions that read the leaves; a leaf that only joins others has what those leave over."""
    widths: dict[Meaning, int] = {}
    for meaning in meanings:
        if isinstance(meaning, Convolution):
            widths[meaning.inputs[0]] = meaning.weight.shape[1]
            widths[meaning] = meaning.weight.shape[0]
    for meaning in meanings:
        if isinstance(meaning, Joined):
            unknown = [inner for inner in meaning.inputs if inner not in widths and isinstance(inner, Leaf)]
            for leaf in unknown:
                widths[leaf] = 1  # F0 and energy
    return {m.name: widths[m] for m in meanings if isinstance(m, Leaf)}
