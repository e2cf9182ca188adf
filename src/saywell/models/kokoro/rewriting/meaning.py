"""What the decoder's nodes mean: convolutions, norms, activations, upsamplings and sums, quantised or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from saywell.models.kokoro.rewriting.reading import Reader, attributes_of

# Lifting: from the exporter's nodes to a few meanings


@dataclass(eq=False)
class Meaning:
    """A tensor [1, channels, time] of the exported graph, and how it comes about."""

    inputs: list[Meaning] = field(default_factory=list)
    users: list[Meaning] = field(default_factory=list)


@dataclass(eq=False)
class Leaf(Meaning):
    """Left as exported."""

    name: str = ""


@dataclass(eq=False)
class Convolution(Meaning):
    """weight int8 or uint8 [out, in, kernel], with scale (one or by output) and zero point."""

    weight: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    scale: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    zero: int = 0
    bias: NDArray[np.float32] | None = None
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)


@dataclass(eq=False)
class Upsampling(Meaning):
    """Transposed convolution, weight [in, out, kernel], kernel = 2 · stride."""

    weight: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    bias: NDArray[np.float32] | None = None
    stride: int = 1
    crop: int = 0


@dataclass(eq=False)
class Doubling(Meaning):
    """Depthwise transposed convolution: kernel 3 [channels, 3], stride 2, padding 1, output padding 1."""

    weight: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    bias: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Norm(Meaning):
    """Instance norm with gain and offset given by tensors of the exported graph."""

    gain: str = ""
    offset: str = ""
    epsilon: float = 1e-5


@dataclass(eq=False)
class Snake(Meaning):
    """x + sin²(alpha x) / alpha."""

    alpha: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(eq=False)
class Leaky(Meaning):
    slope: float = 0.0


@dataclass(eq=False)
class Scaled(Meaning):
    factor: float = 1.0


@dataclass(eq=False)
class Sum(Meaning):
    pass


@dataclass(eq=False)
class Joined(Meaning):
    pass


@dataclass(eq=False)
class Repeated(Meaning):
    factor: int = 2


@dataclass(eq=False)
class Reflected(Meaning):
    """One row more at the start."""


def quantised(weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> Convolution:
    """Weights [out, in, kernel] as int8 with a scale by output."""
    scale = np.abs(weight).max(axis=(1, 2)).clip(1e-12) / 127
    return Convolution(weight=np.rint(weight / scale[:, None, None]).astype(np.int8), scale=scale, bias=bias)


class Lifter:
    """Reads meanings backwards from a tensor."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self._known: dict[str, Meaning] = {}

    def lift(self, name: str) -> Meaning:
        if name not in self._known:
            self._known[name] = self._lift(name)
        return self._known[name]

    def _over(self, meaning: Meaning, *names: str) -> Meaning:
        meaning.inputs = [self.lift(name) for name in names]
        for inner in meaning.inputs:
            inner.users.append(meaning)
        return meaning

    def _lift(self, name: str) -> Meaning:
        node = self.read.maker(name)
        if node is not None:
            for match in (self._integer, self._norm, self._snake, self._plain):
                found = match(node)
                if found is not None:
                    return found
        return Leaf(name=name)

    def _integer(self, node: NodeProto) -> Meaning | None:
        """Mul(Cast(ConvInteger [+ Reshape(Cast(Floor(bias / scale)))]), input scale · weight scale)."""
        read = self.read
        cast = read.maker(node.input[0], "Cast") if node.op_type == "Mul" else None
        if cast is None:
            return None
        bias: NDArray[np.float32] | None = None
        inner = read.maker(cast.input[0])
        if inner is not None and inner.op_type == "Add":
            at = inner.input[1]
            while (step := read.maker(at, "Reshape", "Cast", "Floor", "Div", "Round")) is not None:
                at = step.input[0]
            bias = read.constant(at)
            if bias is None:
                return None
            inner = read.maker(inner.input[0])
        scales = read.maker(node.input[1], "Mul")
        if inner is None or inner.op_type != "ConvInteger" or scales is None:
            return None
        quantise = read.maker(inner.input[0], "DynamicQuantizeLinear")
        weight = read.constant(inner.input[1])
        scale = next((value for value in map(read.constant, scales.input) if value is not None), None)
        zero = read.scalar(inner.input[3]) if len(inner.input) > 3 else 0
        if quantise is None or weight is None or scale is None or zero is None:
            return None
        found = self.shape_of(node=inner, weight=weight)
        if found is None:
            return None
        found.scale, found.bias, found.zero = scale.reshape(-1).astype(np.float32), bias, int(zero)
        return self._over(found, quantise.input[0])

    @staticmethod
    def shape_of(node: NodeProto, weight: NDArray[Any]) -> Convolution | None:
        """A convolution over time with at least two input channels, in one group."""
        attributes = attributes_of(node)
        if weight.ndim != 3 or weight.shape[1] < 2 or attributes.get("group", 1) != 1:
            return None
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            return None
        pads = tuple(attributes.get("pads", (0, 0)))
        return Convolution(
            weight=weight,
            stride=attributes.get("strides", [1])[0],
            dilation=attributes.get("dilations", [1])[0],
            pads=(pads[0], pads[1]),
        )

    def _norm(self, node: NodeProto) -> Meaning | None:
        """Add(Mul(gain, normalised), offset); normalised is a mean/variance chain or InstanceNormalization."""
        read = self.read
        product = read.maker(node.input[0], "Mul") if node.op_type == "Add" else None
        if product is None:
            return None
        for normal, gain in (product.input, reversed(product.input)):
            divided = read.maker(normal, "Div")
            if divided is not None and (chain := self._chain(divided)) is not None:
                return self._over(Norm(gain=gain, offset=node.input[1], epsilon=chain[1]), chain[0])
            whole = read.maker(normal, "InstanceNormalization")
            if whole is not None:
                ones, zeros = read.constant(whole.input[1]), read.constant(whole.input[2])
                if ones is not None and zeros is not None and np.all(ones == 1) and np.all(zeros == 0):
                    epsilon = attributes_of(whole).get("epsilon", 1e-5)
                    return self._over(Norm(gain=gain, offset=node.input[1], epsilon=epsilon), whole.input[0])
        return None

    def _chain(self, divided: NodeProto) -> tuple[str, float] | None:
        """Input and epsilon of (x - mean) / sqrt(mean((x - mean)²) + epsilon)."""
        read = self.read
        minus, root = read.maker(divided.input[0], "Sub"), read.maker(divided.input[1], "Sqrt")
        if minus is None or root is None or read.maker(minus.input[1], "ReduceMean") is None:
            return None
        plus = read.maker(root.input[0], "Add")
        if plus is None or read.maker(plus.input[0], "ReduceMean") is None:
            return None
        epsilon = read.scalar(plus.input[1])
        return None if epsilon is None else (minus.input[0], epsilon)

    def _snake(self, node: NodeProto) -> Meaning | None:
        read = self.read
        if node.op_type != "Add":
            return None
        for x, term in (node.input, reversed(node.input)):
            product = read.maker(term, "Mul")
            if product is None:
                continue
            for power in map(read.maker, product.input):
                if power is None or power.op_type not in ("Pow", "Mul"):
                    continue
                sine = read.maker(power.input[0], "Sin")
                inside = read.maker(sine.input[0], "Mul") if sine is not None else None
                if inside is None or x not in inside.input:
                    continue
                alpha = next((value for value in map(read.constant, inside.input) if value is not None), None)
                if alpha is not None:
                    return self._over(Snake(alpha=alpha.reshape(-1)), x)
        return None

    def _plain(self, node: NodeProto) -> Meaning | None:
        read, attributes = self.read, attributes_of(node)
        first, *rest = node.input
        match node.op_type:
            case "LeakyRelu":
                return self._over(Leaky(slope=attributes.get("alpha", 0.01)), first)
            case "Add" if not any(read.constant(name) is not None for name in node.input):
                return self._over(Sum(), *node.input)
            case "Div" if (divisor := read.scalar(rest[0])) is not None:
                return self._over(Scaled(factor=1 / divisor), first)
            case "Mul" if (factor := read.scalar(rest[0])) is not None:
                return self._over(Scaled(factor=factor), first)
            case "Concat" if attributes["axis"] in (1, -2) and self._features(node):
                return self._over(Joined(), *node.input)
            case "Resize" if attributes.get("mode", b"nearest") == b"nearest" and len(rest) > 1:
                scales = read.constant(rest[1])
                if scales is not None and scales.size == 3 and scales[2] == 2:
                    return self._over(Repeated(factor=2), first)
            case "Pad" if attributes.get("mode") == b"reflect":
                pads = read.constant(rest[0])
                if pads is not None and pads.tolist() == [0, 0, 1, 0, 0, 0]:
                    return self._over(Reflected(), first)
            case "Conv":
                return self._float(node)
            case "ConvTranspose":
                return self._transposed(node)
        return None

    def _features(self, node: NodeProto) -> bool:
        """Whether a Concat joins features of the decoder, not the parts of a spectrum."""
        return any(not isinstance(self.lift(name), Leaf) for name in node.input)

    def _float(self, node: NodeProto) -> Meaning | None:
        """A float convolution; few output channels are not worth an integer product."""
        weight = self.read.constant(node.input[1])
        if weight is None or weight.shape[0] < 64 or (found := self.shape_of(node, weight)) is None:
            return None
        integers = quantised(weight)
        found.weight, found.scale = integers.weight, integers.scale
        found.bias = self.read.constant(node.input[2]) if len(node.input) > 2 else None
        return self._over(found, node.input[0])

    def _transposed(self, node: NodeProto) -> Meaning | None:
        attributes, weight = attributes_of(node), self.read.constant(node.input[1])
        if weight is None or weight.ndim != 3 or set(attributes.get("dilations", [1])) != {1}:
            return None
        bias = self.read.constant(node.input[2]) if len(node.input) > 2 else None
        stride, pads, extra = attributes["strides"][0], list(attributes["pads"]), attributes.get("output_padding", [0])
        channels, outputs, kernel = weight.shape
        if attributes.get("group", 1) == channels and (outputs, kernel, stride, pads, extra) == (1, 3, 2, [1, 1], [1]):
            return self._over(Doubling(weight=weight[:, 0], bias=bias), node.input[0])
        if attributes.get("group", 1) == 1 and kernel == 2 * stride and pads == [stride // 2] * 2 and outputs > 1:
            return self._over(Upsampling(weight=weight, bias=bias, stride=stride, crop=pads[0]), node.input[0])
        return None


def every(top: Meaning) -> list[Meaning]:
    seen: dict[Meaning, None] = {}
    pending = [top]
    while pending:
        meaning = pending.pop()
        if meaning not in seen:
            seen[meaning] = None
            pending += meaning.inputs
    return list(seen)
